-- Allocates one free port for each target port, from a place in the offered range upwards; all or
-- none. Rows that another transaction has locked are skipped, so no allocation waits for another.
WITH r AS MATERIALIZED (
    SELECT first_port + floor($3::float8 * (last_port - first_port + 1))::int AS start, last_port
    FROM gateway_eip WHERE allocation_id = $1),
  c AS MATERIALIZED (
    SELECT allocation_id, proto, port FROM port
    WHERE allocation_id = $1 AND proto = $2 AND state = 'free'
      AND port BETWEEN (SELECT start FROM r) AND (SELECT last_port FROM r)
    ORDER BY port LIMIT cardinality($4::int[]) FOR UPDATE SKIP LOCKED),
  n AS (SELECT allocation_id, proto, port, row_number() OVER (ORDER BY port) AS place FROM c)
UPDATE port SET state = 'held', lease_id = $5, range_start = port.port, target_port = w.target_port,
  private_ip = (SELECT private_ip FROM lease WHERE lease_id = $5)
FROM n JOIN unnest($4::int[]) WITH ORDINALITY w (target_port, place) USING (place)
WHERE port.allocation_id = n.allocation_id AND port.proto = n.proto AND port.port = n.port
  AND (SELECT count(*) FROM c) = cardinality($4::int[])
