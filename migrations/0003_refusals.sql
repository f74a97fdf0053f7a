-- Refused changes: the last rejection that was reported, and how long its change is not asked for again, whatever wakes the lease.
ALTER TABLE lease
  ADD COLUMN refusal       jsonb,        -- the rejection; its change is compared with what the plan asks for
  ADD COLUMN refused_for   text,         -- its reason while the lease waits, for those who can lift it
  ADD COLUMN refused_until timestamptz,
  ADD CHECK ((refusal IS NULL) = (refused_until IS NULL) AND (refused_for IS NULL OR refusal IS NOT NULL));
-- The leases that wait for something, the oldest first: what comes free ends the wait of one. Only refused leases are in it.
CREATE INDEX lease_refused ON lease (refused_for, created_at) WHERE refused_for IS NOT NULL;
