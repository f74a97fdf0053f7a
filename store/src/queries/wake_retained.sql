-- Wakes the leases retained for a pod of this name. For the listener ($6 to $8) only while it holds its lock.
UPDATE lease SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END
WHERE cluster_id = $1 AND kind = $2 AND namespace = $3 AND pod_name = $4 AND pod_uid <> $5 AND retains AND phase <> 'releasing'
  AND ($6::text IS NULL OR EXISTS (
  SELECT FROM worker_lock WHERE name = $6 AND owner = $7 AND epoch = $8 AND held_until > now()))
