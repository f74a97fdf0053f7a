-- Many pods of one gateway that lose their entries at once: a mistake in the console, or reads that are wrong. Few are told, the others stay ready.
ALTER TABLE lease
  ADD COLUMN lost_at timestamptz;                       -- when its pod was last told so

ALTER TABLE gateway
  ADD COLUMN losses_held_until timestamptz;             -- until then no more of its pods are
