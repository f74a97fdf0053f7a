-- Allocates the ports with the target ports' own numbers, within the offered range; all or none.
-- Rows that another transaction has locked are skipped, so no allocation waits for another.
WITH c AS MATERIALIZED (
    SELECT allocation_id, proto, port FROM port
    WHERE allocation_id = $1 AND proto = $2 AND state = 'free' AND port = ANY($3)
      AND EXISTS (
        SELECT FROM gateway_eip e
        WHERE e.allocation_id = $1 AND port.port BETWEEN e.first_port AND e.last_port)
    ORDER BY port FOR UPDATE SKIP LOCKED)
UPDATE port SET state = 'held', lease_id = $5, range_start = w.range_start, target_port = c.port,
  private_ip = (SELECT private_ip FROM lease WHERE lease_id = $5)
FROM c JOIN unnest($3::int[], $4::int[]) w (port, range_start) USING (port)
WHERE port.allocation_id = c.allocation_id AND port.proto = c.proto AND port.port = c.port
  AND (SELECT count(*) FROM c) = cardinality($3::int[])
