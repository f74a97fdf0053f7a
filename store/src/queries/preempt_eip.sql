-- Marks the lease that has a given EIP as preempted by the claimed lease's pod, for good, and wakes
-- it. Only the lease of an older pod that was itself given the EIP is marked: two pods never take
-- it from each other in turns.
WITH l AS MATERIALIZED (
    SELECT lease_id, namespace, pod_name, pod_created_at, pod_uid FROM lease
    WHERE lease_id = $1 AND owner = $2 AND epoch = $3 AND allocation_id IS NULL FOR UPDATE),
  h AS (
    UPDATE lease SET preempted_by = l.namespace || '/' || l.pod_name, wake = lease.wake + 1,
      due_at = CASE WHEN lease.owner IS NULL THEN now() ELSE lease.due_at END
    FROM l
    WHERE lease.allocation_id = $4 AND lease.phase <> 'releasing'
      AND lease.request #>> '{eip,source,given}' IS NOT NULL
      AND (lease.pod_created_at, lease.pod_uid) < (l.pod_created_at, l.pod_uid))
SELECT lease_id FROM l
