-- Acquires the free locks of the given names, and ($5) of gateways with a queue that no process has
-- served for a while, because no configuration has them any longer. Of two processes that acquire a
-- lock at once, the second skips it.
WITH free AS MATERIALIZED (
    SELECT name FROM worker_lock l
    WHERE l.held_until <= now() AND (l.name = ANY($2) OR ($5
      AND l.held_until <= now() - make_interval(secs => $4)
      AND EXISTS (
        SELECT FROM operation o
        WHERE o.gateway_id = l.name AND o.queued
          AND o.intended_at <= now() - make_interval(secs => $4))))
    FOR UPDATE SKIP LOCKED)
UPDATE worker_lock SET owner = $1, epoch = epoch + 1, held_until = now() + make_interval(secs => $3)
FROM free WHERE worker_lock.name = free.name
RETURNING worker_lock.name, worker_lock.epoch
