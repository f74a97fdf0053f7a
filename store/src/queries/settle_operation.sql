-- Records the outcome of an operation, once: a later answer changes nothing. The effects of the
-- answer on the lease and its ports are written in the same statement, so that no crash in between
-- leaks a resource. The lease is woken, unless its claim holder ($12, $13) settles the operation
-- itself. The refusal of one send decides nothing once there is a later one ($16 is its number). A
-- call slot that the answered call ($15) had booked is free a minute later; while the rate
-- is lowered, each success raises it by one call a minute. A success ends the history of refusals of
-- the same change, and of no other.
WITH o AS (
    UPDATE operation SET outcome = $2, answer = $3, error = $4, settled_at = now(), queued = false
    WHERE operation_id = $1 AND outcome IS NULL AND ($2 <> 'refused' OR sends <= $16) RETURNING lease_id, action, call_slot, change),
  slot AS (
    UPDATE call_slot s SET booked_until = wall_clock() + interval '60 s' FROM o
    WHERE $15 AND s.action = o.action AND s.slot = o.call_slot AND s.operation_id = $1),
  rate AS (
    UPDATE account_rate r SET lowered_to = r.lowered_to + 1 FROM o
    WHERE $15 AND $2 = 'done' AND r.action = o.action AND o.call_slot IS NOT NULL AND r.lowered_to IS NOT NULL),
  created AS (
    UPDATE port SET entry_id = $7, deleted = false FROM o
    WHERE port.lease_id = o.lease_id AND $7::text IS NOT NULL AND port.range_start = $8 AND port.proto = $9),
  -- The address of a managed EIP whose retention ended can be bought back for seven days.
  former AS (
    INSERT INTO former_address (cluster_id, namespace, pod_name, controller, address)
    SELECT l.cluster_id, l.namespace, l.pod_name, l.controller, l.eip_address
    FROM lease l JOIN o USING (lease_id)
    WHERE $11 AND l.managed AND l.retains AND l.phase = 'releasing' AND l.retained_until <= now()
    ON CONFLICT (cluster_id, namespace, pod_name) DO UPDATE SET
      controller = excluded.controller, address = excluded.address, released_at = now()),
  reclaimed AS (
    DELETE FROM former_address f USING lease l, o
    WHERE $5::text IS NOT NULL AND l.lease_id = o.lease_id
      AND f.cluster_id = l.cluster_id AND f.namespace = l.namespace AND f.pod_name = l.pod_name),
  deleted AS (
    UPDATE port SET deleted = true FROM o
    WHERE port.lease_id = o.lease_id AND port.entry_id = $10)
UPDATE lease SET
  allocation_id = CASE WHEN $11 THEN NULL ELSE coalesce(allocation_id, $5) END,
  eip_address   = CASE WHEN $11 THEN NULL ELSE coalesce(eip_address, $6::text::inet) END,
  managed          = CASE WHEN $11 THEN false
                       ELSE managed OR (allocation_id IS NULL AND $5::text IS NOT NULL) END,
  release_accepted_at = CASE WHEN $11 OR $5::text IS NOT NULL THEN NULL
                          WHEN $2 = 'done' AND o.action = 'ReleaseEipAddress' THEN now()
                          ELSE release_accepted_at END,
  wake          = wake + (owner IS DISTINCT FROM $12 OR epoch <> $13)::int,
  due_at        = CASE WHEN owner IS NULL
                       THEN least(due_at, now() + make_interval(secs => $14)) ELSE due_at END,
  rejections    = CASE WHEN $2 = 'done' AND coalesce(refusal -> 'change' = o.change, true) THEN 0 ELSE rejections END,
  refusal       = CASE WHEN $2 = 'done' AND refusal -> 'change' = o.change THEN NULL ELSE refusal END,
  refused_for   = CASE WHEN $2 = 'done' AND refusal -> 'change' = o.change THEN NULL ELSE refused_for END,
  refused_until = CASE WHEN $2 = 'done' AND refusal -> 'change' = o.change THEN NULL ELSE refused_until END
FROM o WHERE lease.lease_id = o.lease_id
