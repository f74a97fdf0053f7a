-- Reads the forward entries of a gateway's next leases, of all clusters, in the order of the leases'
-- IDs. The entries of one lease are not separated. What a list says something of: see
-- read_eip_records.sql.
WITH page AS MATERIALIZED (
    SELECT lease_id, allocation_id, proto, port, target_port FROM port
    WHERE gateway_id = $1 AND range_start = port AND lease_id > $2
    ORDER BY lease_id FETCH FIRST 150 ROWS WITH TIES)
SELECT p.lease_id AS "lease_id!", c.cluster_uid, l.generation, host(e.address) AS "address!", p.proto, p.port,
  p.target_port AS "target_port!", host(l.private_ip) AS private_ip,
  (SELECT count(*) FROM port r WHERE r.lease_id = p.lease_id AND r.allocation_id = p.allocation_id
    AND r.proto = p.proto AND r.range_start = p.port) AS "ports!",
  extract(epoch FROM o.settled_at)::float8 AS settled_at,
  l.phase = 'bound' AND l.private_ip IS NOT NULL AND NOT coalesce(o.unresolved, false)
    AND coalesce(greatest(o.settled_at, l.gateway_changed_at) < to_timestamp($3), true) AS "comparable!"
FROM page p JOIN lease l ON l.lease_id = p.lease_id
  JOIN cluster c ON c.cluster_id = l.cluster_id
  JOIN gateway_eip e ON e.allocation_id = p.allocation_id
  CROSS JOIN LATERAL (
    SELECT max(settled_at) AS settled_at, bool_or(settled_at IS NULL) AS unresolved
    FROM operation WHERE lease_id = p.lease_id) o
ORDER BY p.lease_id
