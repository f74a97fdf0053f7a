-- Fills a migrated, empty store: one cluster with `fill.leases` leases, fifty with two hundred
-- each. Rows are as the store's functions leave them; numbers of rows follow from those of leases.
-- Tables are not logged and have no index while they are filled: only their plans are of interest.
INSERT INTO cluster (cluster_uid, name) SELECT gen_random_uuid(), 'fill-' || n FROM generate_series(1, 51) n;

INSERT INTO gateway (gateway_id, entries_when_full, full_until)
SELECT 'ngw-' || n, 2000, CASE WHEN n % 10 = 0 THEN now() + interval '1 hour' END FROM generate_series(0, 199) n;
INSERT INTO gateway_eip (allocation_id, gateway_id, table_id, zone_id, address, first_port, last_port)
SELECT 'eip-gw-' || n, 'ngw-' || n, 'ftb-' || n, 'z-1', '198.51.0.0'::inet + n, 1, 65535 FROM generate_series(0, 199) n;
INSERT INTO worker_lock (name) SELECT gateway_id FROM gateway;

-- The lease's number also says what is held for it: see the INSERT of ports.
CREATE TEMP TABLE numbered AS
SELECT n, gen_random_uuid() AS lease_id, CASE WHEN n <= leases THEN 1 ELSE 2 + n % 50 END AS cluster_id,
  CASE n % 2 WHEN 0 THEN 'dnat' ELSE 'eip' END AS kind,
  -- One namespace has a tenth of the leases.
  CASE WHEN n % 10 < 9 THEN 'ns-' || n % 997 ELSE 'games' END AS namespace,
  -- Of a thousand leases 5 are announced, 15 provisioning, 20 retained, 10 releasing, the others bound.
  CASE WHEN n % 1000 < 5 THEN 'announced' WHEN n % 1000 < 20 THEN 'provisioning' WHEN n % 1000 < 40 THEN 'retained'
    WHEN n % 1000 < 50 THEN 'releasing' ELSE 'bound' END AS phase
FROM (SELECT current_setting('fill.leases')::int AS leases) size, generate_series(1, leases + 10000) n;

INSERT INTO lease (lease_id, cluster_id, kind, namespace, pod_name, pod_uid, pod_created_at, request, phase, retains, controller,
  allocation_id, eip_address, managed, eni_id, vswitch_id, zone_id, vpc_id, private_ip, primary_ip, generation,
  owns_custom_resource, was_published, loss_reported_at, due_at, owner, reason, message)
SELECT lease_id, cluster_id, kind, namespace, 'pod-' || n, gen_random_uuid(), now(),
  CASE WHEN kind = 'dnat' THEN '{"dnat": {"ports": [{"port": 7000, "protocol": "udp"}], "fixed": false, "same_port": false}}'::jsonb
    WHEN n % 20 = 1 THEN '{"eip": {"source": {"allocate": {"instance_charge_type": "PrePaid", "bandwidth": 5}}, "release": "follow"}}'
    ELSE '{"eip": {"source": {"allocate": {"instance_charge_type": "PostPaid", "bandwidth": 5}}, "release": "follow"}}' END,
  phase, n % 5 = 0 OR phase = 'retained', CASE WHEN n % 5 = 0 THEN 'StatefulSet/db-' || n % 3000 ELSE 'ReplicaSet/web-' || n % 5000 END,
  CASE WHEN kind = 'eip' AND phase IN ('bound', 'retained', 'releasing') THEN 'eip-' || n END,
  CASE WHEN kind = 'eip' AND phase IN ('bound', 'retained', 'releasing') THEN '172.16.0.0'::inet + n END,
  kind = 'eip' AND phase IN ('bound', 'retained', 'releasing'),
  CASE WHEN phase = 'bound' THEN 'eni-' || n / 20 END, CASE WHEN phase = 'bound' THEN 'vsw-1' END, CASE WHEN phase = 'bound' THEN 'z-1' END,
  CASE WHEN phase = 'bound' THEN 'vpc-' || cluster_id END, CASE WHEN phase = 'bound' THEN '10.0.0.0'::inet + n END,
  CASE WHEN phase = 'bound' THEN false END, 1,
  phase <> 'announced', phase = 'bound', CASE WHEN n % 2000 = 70 THEN now() - random() * interval '1 day' END,
  -- A hundredth is due: all leases are only after a mass wake.
  now() + (random() - 0.01) * interval '10 hours', CASE WHEN n % 5000 = 0 THEN gen_random_uuid() END, 'Bound', 'the address works'
FROM numbered;
-- A third of the provisioning ones wait after a refusal.
UPDATE lease SET refusal = '{"reason": "EipQuotaExceeded"}', refused_for = CASE WHEN lease_id < '80000000-0000-0000-0000-000000000000' THEN 'EipQuotaExceeded' ELSE 'PermissionDenied' END,
  refused_until = now() + random() * interval '5 minutes'
WHERE phase = 'provisioning' AND pod_uid < '55555555-0000-0000-0000-000000000000';

-- Ports: one or two of each DNAT lease that has a target, and of each EIP some free ones, some in
-- cooldown, some foreign.
INSERT INTO port (allocation_id, proto, port, gateway_id, state, lease_id, range_start, target_port, private_ip, entry_id)
SELECT 'eip-gw-' || n / 2 % 200, 17, 1 + n / 400 * 2 + i, 'ngw-' || n / 2 % 200, 'held', lease_id, 1 + n / 400 * 2 + i, 7000 + 100 * i,
  '10.0.0.0'::inet + n, 'fwd-' || n || '-' || i
FROM numbered, generate_series(0, (n % 10 = 0)::int) i WHERE kind = 'dnat' AND phase = 'bound';
INSERT INTO port (allocation_id, proto, port, gateway_id, state, cooldown_until)
SELECT 'eip-gw-' || eip, 6, port, 'ngw-' || eip, CASE WHEN port <= 980 THEN 'free' WHEN port <= 990 THEN 'cooldown' ELSE 'foreign' END,
  CASE WHEN port BETWEEN 981 AND 990 THEN now() + random() * interval '1 minute' END
FROM generate_series(0, 199) eip, generate_series(1, 1000) port;

-- Operations: the settled ones of a week, unresolved ones, and the queues of fifty gateways.
INSERT INTO operation (lease_id, resource, action, cluster_id, namespace, change, owner, epoch, fence_until, intended_at, outcome, settled_at)
SELECT lease_id, 'eip-' || n, 'AssociateEipAddress', cluster_id, namespace, '{"action": "AssociateEipAddress", "allocation_id": "eip-1", "instance_id": "eni-1"}', lease_id, 1, now(),
  now() - age, 'done', now() - age
FROM numbered, LATERAL (SELECT n % 700000 * interval '1 second' AS age) a WHERE n % 3 = 0;
INSERT INTO operation (lease_id, resource, action, change, owner, epoch, fence_until, gateway_id, cluster_id, namespace, queued)
SELECT lease_id, 'new-' || n, 'CreateForwardEntry', '{"action": "CreateForwardEntry", "external_port": 1}', lease_id, 1, now(),
  CASE WHEN n % 100 <> 18 THEN 'ngw-' || n / 100 % 50 END, cluster_id, namespace, n % 100 = 16
FROM numbered WHERE n % 100 IN (16, 18) OR n % 10000 = 17;
INSERT INTO operation (lease_id, resource, action, change, owner, epoch, fence_until, cluster_id, namespace, queued)
SELECT lease_id, 'eip-queued-' || n, CASE WHEN n % 2 = 0 THEN 'ReleaseEipAddress' ELSE 'AssociateEipAddress' END,
  '{"action": "ReleaseEipAddress", "allocation_id": "eip-1"}', lease_id, 1, now(), cluster_id, namespace, true
FROM numbered WHERE n % 50 IN (20, 21);
INSERT INTO fair_queue (queue, cluster_id, namespace, last_served_at)
SELECT action, cluster_id, namespace, now() FROM operation WHERE queued AND gateway_id IS NULL GROUP BY 1, 2, 3;
INSERT INTO fair_queue (queue, cluster_id, namespace, last_served_at)
SELECT 'ngw-' || gateway, 1, 'ns-' || namespace, now() - random() * interval '1 hour' FROM generate_series(0, 199) gateway, generate_series(0, 99) namespace;

INSERT INTO former_address (cluster_id, namespace, pod_name, address, released_at)
SELECT cluster_id, namespace, 'pod-' || n, '172.16.0.0'::inet + n, now() - random() * interval '7 days' FROM numbered WHERE n % 20 = 0;
INSERT INTO manual_release (cluster_id, lease_id, released_at)
SELECT cluster_id, lease_id, now() - n * interval '1 second' FROM numbered WHERE n % 20 = 1;
