-- Where an EIP may come from, beside being bought: from an older pod, from a former lease of the same name, from one that waits unused.

-- Who is older decides to whom a given EIP may pass: the pod's own creation time, since leases are made in whatever order pods are seen.
ALTER TABLE lease ADD COLUMN pod_created_at timestamptz;
-- namespace/name of the pod that took the given EIP over. Such a lease gives it up, and never takes it back.
ALTER TABLE lease ADD COLUMN lost_to text;
-- The pod of a lease whose entries may be pointed at its successor is gone, since then; after a while they are deleted.
ALTER TABLE lease ADD COLUMN parted_at timestamptz;

-- Addresses of kept EIPs that time released: the cloud gives them back to who held them, within seven days.
CREATE TABLE former_address (
  cluster_id  int  NOT NULL REFERENCES cluster,
  namespace   text NOT NULL,
  pod_name    text NOT NULL,
  controller  text,
  address     inet NOT NULL,
  released_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (cluster_id, namespace, pod_name)
);
CREATE INDEX former_address_at ON former_address (released_at);
