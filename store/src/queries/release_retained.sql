-- Ends a retained lease, and counts that, unless too many of its cluster ended within the counted
-- period. Exact while the caller holds the lock on the store's row: the count sees all that earlier
-- callers committed. Retained leases are counted only where a twentieth of them decides, and only
-- until it has.
WITH l AS MATERIALIZED (
    SELECT lease_id, cluster_id FROM lease
    WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND phase = 'retained'),
  needed AS MATERIALIZED (
    SELECT count(*) AS released, 20 * (count(*) + 1) AS retained FROM manual_release x
    WHERE x.cluster_id = (SELECT cluster_id FROM l) AND x.released_at > now() - make_interval(secs => $5)),
  r AS (
    INSERT INTO manual_release (cluster_id, lease_id) SELECT cluster_id, lease_id FROM l
    WHERE (SELECT released FROM needed) < $4
      OR (SELECT retained FROM needed) <= (SELECT count(*) FROM (
        SELECT FROM lease k
        WHERE k.cluster_id = (SELECT cluster_id FROM l) AND k.phase = 'retained'
        LIMIT (SELECT retained FROM needed)) k)
    RETURNING lease_id)
UPDATE lease SET phase = 'releasing' FROM r WHERE lease.lease_id = r.lease_id
