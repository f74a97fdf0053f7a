-- Wakes the next thousand leases of a cluster, in the order of their pods' UIDs, except announced
-- ones. The leases of one pod are not separated. No last UID: there are no more.
WITH page AS MATERIALIZED (
    SELECT lease_id, pod_uid FROM lease WHERE cluster_id = $1 AND pod_uid > $2
    ORDER BY pod_uid FETCH FIRST 1000 ROWS WITH TIES),
  woken AS (
    UPDATE lease SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END
    WHERE lease_id = ANY(ARRAY(SELECT lease_id FROM page)) AND phase <> 'announced' RETURNING lease_id)
SELECT (SELECT pod_uid FROM page ORDER BY pod_uid DESC LIMIT 1) AS "last?",
  (SELECT count(*) FROM woken) AS "woken!"
