-- What was recorded last of a lease's pod, as a digest of all that the worker reads of it: after a restart, or when another worker begins to listen, only
-- pods that differ are recorded. Null: not recorded yet, or not to the end.
ALTER TABLE lease ADD COLUMN pod_digest bigint;
