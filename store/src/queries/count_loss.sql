-- Counts a lease among those whose entries are reported lost, or limits the gateway's withdrawals
-- until the oldest counted loss no longer counts. Exact while the caller holds the lock on the
-- gateway's row. A lease that was counted already is not counted against itself.
WITH l AS MATERIALIZED (
    SELECT lease_id, phase,
      CASE WHEN loss_reported_at > now() - make_interval(secs => $4) THEN loss_reported_at END AS loss_reported_at
    FROM lease WHERE lease_id IN (SELECT lease_id FROM port WHERE gateway_id = $2)),
  t AS (
    UPDATE lease SET loss_reported_at = now()
    WHERE lease_id = $1
      AND (SELECT count(*) FROM l WHERE loss_reported_at IS NOT NULL AND lease_id <> $1)
        < greatest($3, (SELECT count(*) / 20 FROM l WHERE phase = 'bound'))
    RETURNING lease_id),
  h AS (
    UPDATE gateway
    SET withdrawals_limited_until = (SELECT min(loss_reported_at) FROM l) + make_interval(secs => $4)
    WHERE gateway_id = $2 AND NOT EXISTS (SELECT FROM t))
SELECT EXISTS (SELECT FROM t) AS "counted!"
