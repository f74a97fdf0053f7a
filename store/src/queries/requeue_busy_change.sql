-- Queues a change once more that was refused because its gateway was busy, in its old place: as
-- another operation, since the refused one is settled; as the same one while an earlier send of it
-- may still take effect ($6). Only under the gateway lock. The namespace of a refused creation is
-- served next: it was the gateway that was busy, and the namespace got nothing for its place. A
-- removal or a modification may be refused for its own entry, so its namespace waits like others.
WITH l AS MATERIALIZED (
    SELECT name FROM worker_lock
    WHERE name = $1 AND owner = $2 AND epoch = $3 AND held_until > now() FOR UPDATE),
  s AS (
    UPDATE operation o SET error = $5, answer_by = now(), queued = $6, busy_retries = busy_retries + 1,
      outcome = CASE WHEN $6 THEN NULL ELSE 'refused' END,
      settled_at = CASE WHEN $6 THEN NULL ELSE now() END
    FROM l WHERE o.operation_id = $4 AND o.outcome IS NULL AND NOT o.queued RETURNING o.*),
  q AS (
    INSERT INTO operation (lease_id, resource, action, change, owner, epoch, fence_until, intended_at,
      gateway_id, cluster_id, namespace, queued, priority, busy_retries)
    SELECT lease_id, resource, action, change, owner, epoch, now(), intended_at,
      gateway_id, cluster_id, namespace, true, priority, busy_retries
    FROM s WHERE outcome IS NOT NULL),
  place AS (
    UPDATE fair_queue t SET last_served_at = to_timestamp(0) FROM s
    WHERE t.queue = s.gateway_id AND t.cluster_id = s.cluster_id AND t.namespace = s.namespace
      AND s.action = 'CreateForwardEntry')
SELECT count(*) AS "lock_held!" FROM l
