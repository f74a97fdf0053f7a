-- Orders EIPs by room: first by enough free ports for the request, then by the room for entries at
-- the gateway, then by free ports. Nothing is locked, and counting stops where it no longer changes
-- the order: the cost does not grow with the number of held ports.
SELECT e.allocation_id
FROM unnest($1::text[]) WITH ORDINALITY AS c (allocation_id, place)
  JOIN gateway_eip e USING (allocation_id)
  LEFT JOIN gateway g USING (gateway_id)
  CROSS JOIN LATERAL (
    SELECT count(*) AS ranges FROM (
      SELECT FROM port WHERE gateway_id = e.gateway_id AND range_start = port LIMIT $5) x) used
  CROSS JOIN LATERAL (
    SELECT coalesce(min(f.ports), 0) AS ports
    FROM unnest($2::smallint[]) p (proto) CROSS JOIN LATERAL (
      SELECT count(*) AS ports FROM (
        SELECT FROM port
        WHERE allocation_id = e.allocation_id AND proto = p.proto AND state = 'free'
          AND port BETWEEN e.first_port AND e.last_port LIMIT $6) y) f) free
ORDER BY free.ports < $3,
  coalesce(CASE WHEN g.full_until > now() THEN g.entries_when_full END, $4)
    - coalesce(g.foreign_entries, 0) - used.ranges DESC,
  free.ports DESC, c.place
