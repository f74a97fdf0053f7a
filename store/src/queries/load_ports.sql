-- Reads the ports of a lease, all on one EIP, with the facts about that EIP and its gateway. Facts
-- that were believed for a limited time are left out once that time is over.
SELECT p.allocation_id, p.proto, p.port, p.head AS "head!", p.gateway_id, p.target AS "target!",
  p.entry_id, p.deleted, host(e.address) AS "address!", e.table_id, e.snat, e.trouble,
  CASE WHEN g.full_until > now() THEN g.full_at END AS full_at,
  coalesce(g.modify_denied_until > now(), false) AS "modify_denied!",
  coalesce(g.losses_held_until > now(), false) AS "losses_held!"
FROM port p JOIN gateway_eip e USING (allocation_id)
  LEFT JOIN gateway g ON g.gateway_id = p.gateway_id
WHERE p.lease_id = $1
