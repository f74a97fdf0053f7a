-- Finds EIPs that other leases leave for a lease without one: the former address of its pod's
-- name, while the cloud sells it back, and a PrePaid EIP that was bought with the same request and
-- that its releasing lease does not use. A hint only: adopting the EIP checks again.
SELECT
  (SELECT host(f.address) FROM former_address f
   WHERE f.cluster_id = l.cluster_id AND f.namespace = l.namespace AND f.pod_name = l.pod_name
     AND f.controller IS NOT DISTINCT FROM l.controller AND l.retains
     AND f.released_at > now() - make_interval(secs => $2)) AS former_address,
  (SELECT s.lease_id FROM lease s
   WHERE s.cluster_id = l.cluster_id AND s.namespace = l.namespace
     AND s.phase = 'releasing' AND s.managed AND s.private_ip IS NULL AND NOT s.owns_custom_resource
     AND s.release_accepted_at IS NULL
     AND s.request #> '{eip,source}' = l.request #> '{eip,source}'
     AND s.request #>> '{eip,source,allocate,instance_charge_type}' = 'PrePaid'
     AND l.request #>> '{eip,source,allocate,instance_charge_type}' = 'PrePaid'
   ORDER BY s.created_at LIMIT 1) AS reusable_prepaid
FROM lease l WHERE l.lease_id = $1
