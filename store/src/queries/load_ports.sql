-- Reads the ports of a lease, all on one EIP, with the facts about that EIP and its gateway. Facts
-- that were believed for a limited time are left out once that time is over.
SELECT p.allocation_id, p.proto, p.port, p.range_start AS "range_start!", p.gateway_id, p.target_port AS "target_port!",
  p.entry_id, p.deleted, host(e.address) AS "address!", e.table_id, e.snat, e.unavailable_reason,
  CASE WHEN g.full_until > now() THEN g.entries_when_full END AS entries_when_full,
  coalesce(g.modify_denied_until > now(), false) AS "modify_denied!",
  coalesce(g.withdrawals_limited_until > now(), false) AS "withdrawals_limited!"
FROM port p JOIN gateway_eip e USING (allocation_id)
  LEFT JOIN gateway g ON g.gateway_id = p.gateway_id
WHERE p.lease_id = $1
