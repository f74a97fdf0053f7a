-- A pod's announcement and every event of a pod that asks look for a lease kept for its name. lease_kept holds such leases, but not those in
-- phase headstart, so it does not serve a search for what is not ending: all leases of the cluster were read each time.
CREATE INDEX lease_kept_by_name ON lease (cluster_id, kind, namespace, pod_name) WHERE keeps AND phase <> 'ending';
