-- Marks the next change of a gateway's queue as sent, and extends the gateway lock beyond the
-- answer: no later holder sends while this answer may still be on its way. Urgent removals come
-- first, then the namespace served longest ago, then the oldest. A change that its claim holder is
-- cancelling at this moment is skipped.
WITH l AS MATERIALIZED (
    UPDATE worker_lock SET held_until = now() + make_interval(secs => $7)
    WHERE name = $1 AND owner = $2 AND epoch = $3 AND held_until > now() RETURNING name),
  n AS MATERIALIZED (
    SELECT o.operation_id, o.cluster_id, o.namespace,
      o.sends > 0 AND o.fence_until >= now() AS may_still_arrive
    FROM operation o LEFT JOIN fair_queue t
      ON t.queue = o.gateway_id AND t.cluster_id = o.cluster_id AND t.namespace = o.namespace
    WHERE o.queued AND o.gateway_id = (SELECT name FROM l)
      AND ($6 OR o.action <> 'CreateForwardEntry')
    ORDER BY o.priority, t.last_served_at NULLS FIRST, o.intended_at, o.operation_id
    LIMIT 1 FOR UPDATE OF o SKIP LOCKED),
  served AS (
    INSERT INTO fair_queue (queue, cluster_id, namespace, last_served_at)
    SELECT $1, cluster_id, namespace, clock_timestamp() FROM n
    ON CONFLICT (queue, cluster_id, namespace) DO UPDATE SET last_served_at = excluded.last_served_at),
  s AS (
    UPDATE operation o SET queued = false, sends = o.sends + 1, reads_without_effect = 0,
      sent_at = clock_timestamp(), answer_by = now() + make_interval(secs => $4),
      fence_until = greatest(o.fence_until, now() + make_interval(secs => $5))
    FROM n WHERE o.operation_id = n.operation_id
    RETURNING o.operation_id, o.lease_id, o.resource, o.change, o.sends, o.fence_until, o.busy_retries,
      n.may_still_arrive, now() - o.intended_at AS waited)
SELECT (SELECT count(*) FROM l) AS "lock_held!", s.operation_id AS "operation_id?",
  s.lease_id AS "lease_id?", s.resource AS "resource?", s.change AS "change?", s.sends AS "sends?", s.busy_retries AS "busy_retries?",
  s.may_still_arrive AS "may_still_arrive?",
  extract(epoch FROM s.fence_until)::float8 AS "fence_until?",
  extract(epoch FROM s.waited)::float8 AS "waited?"
FROM (SELECT) one LEFT JOIN s ON true
