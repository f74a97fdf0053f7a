-- Marks ports as foreign: no lease gets them, and the claimed lease loses those it has. The parts
-- of a range below and above them become an entry each, to be created anew. Ports that another
-- lease holds are left to that lease.
WITH l AS MATERIALIZED (
    SELECT lease_id FROM lease WHERE lease_id = $1 AND owner = $2 AND epoch = $3 FOR UPDATE),
  rest AS (
    UPDATE port SET range_start = CASE WHEN port.port > $7 THEN $7 + 1 ELSE port.range_start END,
      entry_id = NULL, deleted = false
    FROM l
    WHERE port.lease_id = l.lease_id AND port.allocation_id = $4
      AND ($5::smallint IS NULL OR port.proto = $5) AND port.port NOT BETWEEN $6 AND $7
      AND EXISTS (
        SELECT FROM port x
        WHERE x.allocation_id = $4 AND x.proto = port.proto AND x.port BETWEEN $6 AND $7
          AND x.lease_id = l.lease_id AND x.range_start = port.range_start)),
  marked AS (
    UPDATE port SET state = 'foreign', lease_id = NULL, range_start = NULL, target_port = NULL,
      private_ip = NULL, entry_id = NULL, deleted = false, cooldown_until = NULL
    FROM l
    WHERE port.allocation_id = $4 AND port.proto = ANY(CASE WHEN $5::smallint IS NULL THEN '{6,17}' ELSE ARRAY[$5::smallint] END)
      AND port.port BETWEEN $6 AND $7
      AND (port.lease_id = l.lease_id OR port.state IN ('free', 'cooldown'))
    RETURNING port.port)
SELECT count(*) AS "count!" FROM marked
