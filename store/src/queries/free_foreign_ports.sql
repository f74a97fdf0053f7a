-- Frees foreign ports of a gateway once no read has shown the foreign entry for a while; if a read
-- shows the entry again, the while begins anew. Rows whose entries simply still exist are not
-- written.
WITH f AS MATERIALIZED (
    SELECT * FROM unnest($2::text[], $3::int[], $4::int[], $5::int[])
      f (allocation_id, proto, first, last)),
  l AS MATERIALIZED (
    SELECT p.allocation_id, p.proto, p.port, EXISTS (
      SELECT FROM f
      WHERE f.allocation_id = p.allocation_id AND f.proto IN (0, p.proto)
        AND p.port BETWEEN f.first AND f.last) AS listed
    FROM port p JOIN gateway_eip e USING (allocation_id)
    WHERE e.gateway_id = $1 AND p.state = 'foreign')
UPDATE port SET
  state = CASE WHEN NOT l.listed AND port.absent_since <= now() - make_interval(secs => $6)
    THEN 'free' ELSE 'foreign' END,
  absent_since = CASE WHEN l.listed OR port.absent_since <= now() - make_interval(secs => $6)
    THEN NULL ELSE coalesce(port.absent_since, now()) END
FROM l
WHERE port.allocation_id = l.allocation_id AND port.proto = l.proto AND port.port = l.port
  AND port.state = 'foreign' AND NOT (l.listed AND port.absent_since IS NULL)
