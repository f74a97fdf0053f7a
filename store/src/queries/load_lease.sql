-- Reads a lease for its claim holder and renews the claim. No row if the claim expired or passed to
-- another worker, so that nothing is planned on a lease that another worker may have by now.
UPDATE lease SET due_at = now() + make_interval(secs => $4)
WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND due_at > now()
RETURNING kind, namespace, pod_name, pod_uid, controller, request, phase, allocation_id,
  host(eip_address) AS eip_address, managed, eni_id, vswitch_id, zone_id, vpc_id,
  host(private_ip) AS private_ip, primary_ip, generation, owns_custom_resource, missed_reads, vacating, was_published, preempted_by,
  wake, tries, reason, rejection, rejections, refusal, extract(epoch FROM refused_until)::float8 AS refused_until,
  extract(epoch FROM handover_since)::float8 AS handover_since,
  extract(epoch FROM pod_missing_since)::float8 AS pod_missing_since,
  extract(epoch FROM created_at)::float8 AS "created_at!",
  extract(epoch FROM now() - greatest(gateway_changed_at,
    (SELECT max(settled_at) FROM operation o WHERE o.lease_id = $1)))::float8 AS since_last_change,
  coalesce(loss_reported_at > now() - make_interval(secs => $5), false) AS "loss_reported!",
  extract(epoch FROM release_accepted_at)::float8 AS release_accepted_at,
  extract(epoch FROM retained_until)::float8 AS retained_until,
  extract(epoch FROM now())::float8 AS "now!"
