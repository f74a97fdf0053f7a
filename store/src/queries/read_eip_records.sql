-- Reads the next leases with an EIP, of all clusters, in the order of their EIPs' IDs. A list of
-- EIPs says something only of bound leases without an unresolved operation, whose last settlement
-- is older than the list's first page ($2).
WITH page AS MATERIALIZED (
    SELECT lease_id, phase, allocation_id, eni_id, private_ip, primary_ip, request
    FROM lease WHERE allocation_id > $1 ORDER BY allocation_id LIMIT 300)
SELECT p.lease_id, p.allocation_id AS "allocation_id!", p.eni_id, host(p.private_ip) AS private_ip,
  p.primary_ip, p.request, extract(epoch FROM o.settled_at)::float8 AS settled_at,
  p.phase = 'bound' AND p.private_ip IS NOT NULL AND NOT coalesce(o.unresolved, false)
    AND coalesce(o.settled_at < to_timestamp($2), true) AS "comparable!"
FROM page p CROSS JOIN LATERAL (
  SELECT max(settled_at) AS settled_at, bool_or(settled_at IS NULL) AS unresolved
  FROM operation WHERE lease_id = p.lease_id) o
ORDER BY p.allocation_id
