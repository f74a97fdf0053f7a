-- Tells the lease that has a given EIP which pod gets it, for good, and wakes it. Only an older pod's
-- lease that was itself given the EIP is told: of two pods never each takes it from the other.
WITH l AS MATERIALIZED (
    SELECT lease_id, namespace, pod_name, pod_created_at, pod_uid FROM lease
    WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND allocation_id IS NULL FOR UPDATE),
  h AS (
    UPDATE lease SET lost_to = l.namespace || '/' || l.pod_name, wake = lease.wake + 1,
      due_at = CASE WHEN lease.owner IS NULL THEN now() ELSE lease.due_at END
    FROM l
    WHERE lease.allocation_id = $4 AND lease.phase <> 'ending'
      AND lease.request #>> '{eip,source,given}' IS NOT NULL
      AND (lease.pod_created_at, lease.pod_uid) < (l.pod_created_at, l.pod_uid))
SELECT lease_id FROM l
