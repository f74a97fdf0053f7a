-- When a look first did not find the lease's pod: what a lease holds is given up only after a second look. Null once a look has found it.
ALTER TABLE lease ADD COLUMN pod_missing_since timestamptz;
