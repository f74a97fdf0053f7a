-- Queues a change of a claimed lease's EIP in the account's queue of its action, as an operation that
-- was not sent yet. Skipped if another unresolved operation changes the resource. A change that takes
-- the place of one that was taken back a moment ago keeps that one's age.
WITH l AS MATERIALIZED (
    SELECT lease_id, cluster_id, namespace FROM lease
    WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND due_at > now() FOR UPDATE),
  looked AS (UPDATE lease SET looked_at = now() FROM l WHERE lease.lease_id = l.lease_id),
  -- The place in the fair queue exists before the change does: the queue is searched by it. Moved, so
  -- that nobody deletes it at this moment as one without changes.
  place AS (
    INSERT INTO fair_queue AS f (queue, cluster_id, namespace, last_served_at)
    SELECT $5, l.cluster_id, l.namespace, now() - interval '1 minute' FROM l
    ON CONFLICT (queue, cluster_id, namespace) DO UPDATE SET
      last_served_at = greatest(f.last_served_at + interval '1 microsecond', excluded.last_served_at)),
  -- It asks: what comes free now need not wake it.
  asks AS (
    UPDATE lease SET refused_for = NULL FROM l WHERE lease.lease_id = l.lease_id AND lease.refused_for IS NOT NULL),
  q AS (
    INSERT INTO operation (lease_id, resource, action, change, owner, epoch, fence_until, intended_at,
      cluster_id, namespace, queued, priority)
    SELECT l.lease_id, $4, $5, $6, $2, $3, now(), coalesce(
        (SELECT max(p.intended_at) FROM operation p
         WHERE p.lease_id = l.lease_id AND p.action = $5 AND p.outcome = 'void' AND p.sends = 0
           AND p.settled_at > now() - interval '10 s'), now()),
      l.cluster_id, l.namespace, true, $7
    FROM l
    ON CONFLICT (resource) WHERE outcome IS NULL DO NOTHING RETURNING operation_id)
SELECT (SELECT count(*) FROM l) AS "claim_held!", (SELECT count(*) FROM q) AS "queued!"
