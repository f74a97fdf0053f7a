-- Gives a claimed lease without an EIP the first of the candidates that no lease has, as one that
-- is not managed. If two leases adopt the same one at once, the second violates the index
-- lease_eip.
WITH l AS MATERIALIZED (
    SELECT lease_id FROM lease
    WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND allocation_id IS NULL FOR UPDATE),
  c AS MATERIALIZED (
    SELECT c.id, c.address FROM unnest($4::text[], $5::text[]) WITH ORDINALITY c (id, address, place)
    WHERE NOT EXISTS (SELECT FROM lease x WHERE x.allocation_id = c.id) ORDER BY place LIMIT 1),
  t AS (
    UPDATE lease SET allocation_id = c.id, eip_address = c.address::inet, managed = false FROM l, c
    WHERE lease.lease_id = l.lease_id RETURNING lease.lease_id)
SELECT EXISTS (SELECT FROM l) AS "claimed!", EXISTS (SELECT FROM t) AS "adopted!"
