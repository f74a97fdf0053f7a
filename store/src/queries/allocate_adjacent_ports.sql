-- Allocates adjacent free ports for adjacent target ports, from a place in the offered range
-- upwards; all or none. Rows that another transaction has locked are skipped, so no allocation
-- waits for another. Looks at a thousand free ports at most.
WITH r AS MATERIALIZED (
    SELECT first_port + floor($3::float8 * (last_port - first_port + 1))::int AS start, last_port
    FROM gateway_eip WHERE allocation_id = $1),
  f AS (
    SELECT port FROM port
    WHERE allocation_id = $1 AND proto = $2 AND state = 'free'
      AND port BETWEEN (SELECT start FROM r) AND (SELECT last_port FROM r) ORDER BY port LIMIT 1024),
  w AS MATERIALIZED (
    SELECT port AS range_start FROM (SELECT port, lead(port, $5::int - 1) OVER (ORDER BY port) AS last FROM f) x
    WHERE last = port + $5 - 1 ORDER BY port LIMIT 1),
  c AS MATERIALIZED (
    SELECT p.allocation_id, p.proto, p.port, w.range_start
    FROM w JOIN port p ON p.port BETWEEN w.range_start AND w.range_start + $5 - 1
    WHERE p.allocation_id = $1 AND p.proto = $2 AND p.state = 'free'
    ORDER BY p.port FOR UPDATE OF p SKIP LOCKED)
UPDATE port SET state = 'held', lease_id = $6, range_start = c.range_start, target_port = $4 + c.port - c.range_start,
  private_ip = (SELECT private_ip FROM lease WHERE lease_id = $6)
FROM c
WHERE port.allocation_id = c.allocation_id AND port.proto = c.proto AND port.port = c.port
  AND (SELECT count(*) FROM c) = $5
