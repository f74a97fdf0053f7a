-- Queues changes of a claimed lease at a gateway, each as an operation that was not sent yet. A
-- resource that another unresolved operation changes is skipped: one change of it at a time.
WITH l AS MATERIALIZED (
    SELECT lease_id, cluster_id, namespace FROM lease
    WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND due_at > now() FOR UPDATE),
  g AS (INSERT INTO worker_lock (name) SELECT $4 FROM l ON CONFLICT DO NOTHING),
  q AS (
    INSERT INTO operation (lease_id, resource, action, change, owner, epoch, fence_until, gateway_id,
      cluster_id, namespace, queued)
    SELECT l.lease_id, a.resource, a.change ->> 'action', a.change, $2, $3, now(), $4, l.cluster_id, l.namespace, true
    FROM l, unnest($5::text[], $6::jsonb[]) a (resource, change)
    ON CONFLICT (resource) WHERE outcome IS NULL DO NOTHING RETURNING operation_id)
SELECT (SELECT count(*) FROM l) AS "claim_held!", (SELECT count(*) FROM q) AS "queued!"
