-- Another pod has an address that other leases' entries still forward to, or their EIPs are bound
-- to: queued changes that remove that become urgent, and leases that sleep without having asked for
-- the removal are woken; their handover ends.
WITH h AS MATERIALIZED (
    SELECT lease_id FROM port WHERE private_ip = $2::text::inet AND lease_id <> $1
    UNION
    SELECT e.lease_id FROM lease e
    WHERE e.kind = 'eip' AND e.vpc_id = $3 AND e.private_ip = $2::text::inet AND e.lease_id <> $1),
  u AS (
    UPDATE operation o SET priority = 0 FROM h
    WHERE o.lease_id = h.lease_id AND o.settled_at IS NULL AND o.queued AND o.priority > 0
      AND o.action IN ('DeleteForwardEntry', 'ModifyForwardEntry', 'UnassociateEipAddress') RETURNING o.gateway_id),
  w AS (
    UPDATE lease l SET wake = wake + 1, due_at = now(),
      handover_since = CASE WHEN handover_since IS NOT NULL THEN to_timestamp(0) END
    FROM h
    WHERE l.lease_id = h.lease_id AND l.owner IS NULL AND l.due_at > now() + interval '1 second'
      AND NOT EXISTS (
        SELECT FROM operation o WHERE o.lease_id = l.lease_id AND o.settled_at IS NULL))
SELECT DISTINCT gateway_id FROM u
