-- Pins: where the leases' resources are, as the first worker found it. EIPs and gateways of all clusters are listed by one process of the store, so
-- account and region are the store's; a cluster's pods are in a VPC of their own. Null: not pinned yet.
ALTER TABLE store ADD COLUMN account_id text, ADD COLUMN region text, ADD CHECK ((account_id IS NULL) = (region IS NULL));
ALTER TABLE cluster ADD COLUMN vpc_id text;
