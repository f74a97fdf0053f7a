-- Counts a lease among those whose entries are reported lost, or limits the gateway's withdrawals
-- until the oldest counted loss no longer counts. Exact while the caller holds the lock on the
-- gateway's row. A lease that was counted already is not counted against itself. Bound leases are
-- counted only where a twentieth of them decides, and only until it has. The period is no parameter:
-- of an unknown one the planner expects a third of all leases, and reads them all.
WITH recent AS MATERIALIZED (
    SELECT l.lease_id, l.loss_reported_at FROM lease l
    WHERE l.loss_reported_at > now() - interval '10 minutes'
      AND EXISTS (SELECT FROM port p WHERE p.lease_id = l.lease_id AND p.gateway_id = $2)),
  needed AS MATERIALIZED (
    SELECT count(*) AS losses, 20 * (count(*) + 1) AS bound FROM recent WHERE lease_id <> $1),
  t AS (
    UPDATE lease SET loss_reported_at = now()
    WHERE lease_id = $1 AND ((SELECT losses FROM needed) < $3
      OR (SELECT bound FROM needed) <= (SELECT count(*) FROM (
        SELECT FROM lease
        WHERE phase = 'bound' AND lease_id IN (
          SELECT lease_id FROM port WHERE gateway_id = $2 AND range_start = port)
        LIMIT (SELECT bound FROM needed)) b))
    RETURNING lease_id),
  h AS (
    UPDATE gateway
    SET withdrawals_limited_until = (SELECT min(loss_reported_at) FROM recent) + interval '10 minutes'
    WHERE gateway_id = $2 AND NOT EXISTS (SELECT FROM t))
SELECT EXISTS (SELECT FROM t) AS "counted!"
