-- Wakes the leases retained for a pod of this name.
UPDATE lease SET wake = wake + 1, due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END
WHERE cluster_id = $1 AND kind = $2 AND namespace = $3 AND pod_name = $4 AND pod_uid <> $5 AND retains AND phase <> 'releasing'
