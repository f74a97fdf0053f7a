-- Inserts a lease for a pod that the watch has seen, unless one is retained for it; wakes the pod's
-- own lease if there is one. For the listener ($10 to $12) only while it holds its lock.
INSERT INTO lease (cluster_id, kind, namespace, pod_name, pod_uid, request, retains, controller, pod_created_at, phase)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, to_timestamp($9), 'provisioning'
WHERE NOT EXISTS (
  SELECT FROM lease k WHERE k.cluster_id = $1 AND k.kind = $2 AND k.namespace = $3 AND k.pod_name = $4
    AND k.retains AND k.phase <> 'releasing' AND k.pod_uid <> $5 AND k.controller IS NOT DISTINCT FROM $8)
  AND ($10::text IS NULL OR EXISTS (
  SELECT FROM worker_lock WHERE name = $10 AND owner = $11 AND epoch = $12 AND held_until > now()))
ON CONFLICT (cluster_id, kind, pod_uid) WHERE phase <> 'releasing' DO UPDATE SET
  phase  = CASE WHEN lease.phase = 'announced' THEN 'provisioning' ELSE lease.phase END,
  pod_created_at = coalesce(lease.pod_created_at, excluded.pod_created_at),
  wake   = lease.wake + 1,
  due_at = CASE WHEN lease.owner IS NULL THEN now() ELSE lease.due_at END
