-- Marks queued changes of one action as sent: dequeue_account_changes in migrations/0002_account_queues.sql.
SELECT operation_id, lease_id, resource, change, sends, extract(epoch FROM fence_until)::float8 AS fence_until, may_still_arrive,
  extract(epoch FROM waited)::float8 AS waited, extract(epoch FROM retry_in)::float8 AS retry_in, woken
FROM dequeue_account_changes($1, $2, $3, $4, make_interval(secs => $5), make_interval(secs => $6), $7, make_interval(secs => $8))
