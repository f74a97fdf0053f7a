-- Reads the unresolved operations of a lease, the oldest first, beside the lease's wake-ups as of the
-- same moment; one row without an operation if there is none.
SELECT l.wake, o.operation_id AS "operation_id?", o.resource AS "resource?", o.change AS "change?", o.sends AS "sends?",
  o.reads_without_effect AS "reads_without_effect?", o.awaits_fence AS "awaits_fence?", o.queued AS "queued?",
  extract(epoch FROM CASE WHEN o.answer_by > now() THEN o.answer_by END)::float8 AS answer_by,
  extract(epoch FROM o.fence_until)::float8 AS fence_until
FROM lease l LEFT JOIN operation o ON o.lease_id = l.lease_id AND o.settled_at IS NULL
WHERE l.lease_id = $1
ORDER BY o.intended_at, o.operation_id
