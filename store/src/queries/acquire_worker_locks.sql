-- Acquires the free locks of the given gateways, and of gateways with a queue that no process has
-- served for a while, because no configuration has them any longer. Of two processes that acquire a
-- lock at once, the second skips it.
WITH free AS MATERIALIZED (
    SELECT gateway_id FROM gateway_lock l
    WHERE l.held_until <= now() AND (l.gateway_id = ANY($2) OR (
      l.held_until <= now() - make_interval(secs => $4)
      AND EXISTS (
        SELECT FROM operation o
        WHERE o.gateway_id = l.gateway_id AND o.queued
          AND o.intended_at <= now() - make_interval(secs => $4))))
    FOR UPDATE SKIP LOCKED)
UPDATE gateway_lock SET owner = $1, epoch = epoch + 1, held_until = now() + make_interval(secs => $3)
FROM free WHERE gateway_lock.gateway_id = free.gateway_id
RETURNING gateway_lock.gateway_id, gateway_lock.epoch
