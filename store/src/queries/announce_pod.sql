-- Announces a pod at its admission, unless a lease is retained for it.
INSERT INTO lease (cluster_id, kind, namespace, pod_name, pod_uid, request, retains, controller, phase, due_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, 'announced', now() + make_interval(secs => $9)
WHERE NOT EXISTS (
  SELECT FROM lease k WHERE k.cluster_id = $1 AND k.kind = $2 AND k.namespace = $3 AND k.pod_name = $4
    AND k.retains AND k.phase <> 'releasing' AND k.pod_uid <> $5 AND k.controller IS NOT DISTINCT FROM $8)
ON CONFLICT DO NOTHING
