-- Ends a retained lease, and counts that, unless too many of its cluster ended within the counted
-- period. Exact while the caller holds the lock on the store's row: the count sees all that earlier
-- callers committed.
WITH l AS MATERIALIZED (
    SELECT lease_id, cluster_id FROM lease
    WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND phase = 'retained'),
  r AS (
    INSERT INTO manual_release (cluster_id, lease_id) SELECT cluster_id, lease_id FROM l
    WHERE (SELECT count(*) FROM manual_release x
           WHERE x.cluster_id = l.cluster_id AND x.released_at > now() - make_interval(secs => $5))
        < greatest($4, (SELECT count(*) / 20 FROM lease k
                        WHERE k.cluster_id = l.cluster_id AND k.phase = 'retained'))
    RETURNING lease_id)
UPDATE lease SET phase = 'releasing' FROM r WHERE lease.lease_id = r.lease_id
