-- The lease store. The lease row is the job. Constraints, not code, guarantee the invariants. An answer of the cloud (a fact) is
-- never dropped; the next step of a lease (a decision) is written only under a live claim.

-- The identity of this store. Tags in the cloud carry store_id, so that two stores never take each other's resources for their own.
CREATE TABLE store (
  one         boolean PRIMARY KEY DEFAULT true CHECK (one),
  store_id    uuid    NOT NULL DEFAULT gen_random_uuid(),
  incarnation bigint  NOT NULL DEFAULT 1  -- grows when the store is rebuilt from the cloud
);
INSERT INTO store DEFAULT VALUES;

-- Clusters that keep their leases here. cluster_uid is the UID of namespace kube-system: unlike a
-- configured name, it cannot be copied.
CREATE TABLE cluster (
  cluster_id  int  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cluster_uid uuid NOT NULL UNIQUE,
  name        text NOT NULL UNIQUE
);

-- A lease: one thing held for one pod, an EIP or a set of ports; and the job of managing it.
CREATE TABLE lease (
  lease_id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),  -- random: a sequence would repeat tokens and names after a restore
  cluster_id           int  NOT NULL REFERENCES cluster,
  kind                 text NOT NULL CHECK (kind IN ('eip', 'dnat')),
  namespace            text NOT NULL,
  pod_name             text NOT NULL,
  pod_uid              uuid NOT NULL,
  pod_created_at       timestamptz,                                 -- a younger pod may preempt an older one's given EIP; leases are made in any order
  request              jsonb NOT NULL,
  -- announced: at admission, pod not observed yet. provisioning: some of it is missing. bound: working and published. retained: for a
  -- successor, pod gone. releasing: one-way; a pod that comes back gets a new lease. A lease that holds nothing is deleted.
  phase                text NOT NULL CHECK (phase IN ('announced', 'provisioning', 'bound', 'retained', 'releasing')),
  retains              boolean NOT NULL DEFAULT false,              -- the lease outlives its pod: a release strategy other than Follow, or fixed ports
  controller           text,                                        -- Kind/name of the pod's controller: only its pods are successors of one another
  retained_until       timestamptz,                                 -- end of the retention; null: until a person ends it
  -- the EIP held (kind eip); managed: allocated by Waygate, so Waygate releases it
  allocation_id        text,
  eip_address          inet,
  managed              boolean NOT NULL DEFAULT false,
  -- the target: set when a binding or entry is intended, cleared when it is proven gone
  eni_id               text,
  vswitch_id           text,
  zone_id              text,
  vpc_id               text,
  private_ip           inet,
  primary_ip           boolean,                                     -- private_ip is the interface's primary address
  generation           int  NOT NULL DEFAULT 0,                     -- +1 with every target; part of forward entry names
  -- this lease owns, and so writes, the custom resource of its name
  owns_custom_resource boolean NOT NULL DEFAULT false,
  was_published        boolean NOT NULL DEFAULT false,              -- an address was published, to this pod or a former one: fixed ports do not move any more
  preempted_by         text,                                        -- namespace/name of the pod that preempted the given EIP, for good
  handover_since       timestamptz,                                 -- begin of the handover: the pod is gone, its entries may be modified for a successor
  loss_reported_at     timestamptz,                                 -- last withdrawal because entries were lost; counted by the loss limit
  missed_reads         int  NOT NULL DEFAULT 0,                     -- missed reads: definite reads in a row that did not show the published state
  vacating             boolean NOT NULL DEFAULT false,              -- vacating: the gateway had no room for all entries, so the ports there are given back
  -- the job
  due_at               timestamptz NOT NULL DEFAULT now(),          -- when the lease may be claimed; while claimed, the claim's expiry
  wake                 bigint NOT NULL DEFAULT 0,                   -- +1 at every wake-up; compared when a claim is finished, so none is lost
  owner                uuid,                                        -- random per process start
  epoch                bigint NOT NULL DEFAULT 0,                   -- +1 at every claim; every decision compares (owner, epoch)
  tries                int  NOT NULL DEFAULT 0,                     -- waits in a row for the same reason
  reason               text,
  message              text,
  rejection            jsonb,                                       -- rejection of a queued change; published and waited for by the next claim holder
  rejections           int  NOT NULL DEFAULT 0,                     -- rejections since a refused change was done, or the lease rested
  looked_at            timestamptz,                                 -- begin of the last look that ended with a plan: what gives is sent only after a recent one
  look_asked_at        timestamptz,                                 -- when it was woken for such a look last
  release_accepted_at  timestamptz,                                 -- the cloud accepted the EIP's release; it is gone once a read does not show it
  gateway_changed_at   timestamptz,                                 -- last change of its gateway's facts: an older list of entries is not evidence
  created_at           timestamptz NOT NULL DEFAULT now(),
  CHECK ((allocation_id IS NULL) = (eip_address IS NULL)),
  CHECK ((private_ip IS NULL) = (eni_id IS NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX lease_pod ON lease (cluster_id, kind, pod_uid) WHERE phase <> 'releasing';
CREATE UNIQUE INDEX lease_custom_resource ON lease (cluster_id, kind, namespace, pod_name) WHERE owns_custom_resource;
CREATE UNIQUE INDEX lease_eip ON lease (allocation_id) WHERE allocation_id IS NOT NULL;
CREATE UNIQUE INDEX lease_target ON lease (vpc_id, private_ip) WHERE private_ip IS NOT NULL AND kind = 'eip';
CREATE UNIQUE INDEX lease_retained ON lease (cluster_id, kind, namespace, pod_name, coalesce(controller, ''))
                                                                                  WHERE retains AND phase IN ('provisioning', 'bound', 'retained');
-- Finds retained leases by pod name at each pod event; lease_retained cannot, because it lacks phase announced.
CREATE INDEX lease_retained_by_name ON lease (cluster_id, kind, namespace, pod_name) WHERE retains AND phase <> 'releasing';
CREATE INDEX lease_due ON lease (cluster_id, due_at);
CREATE INDEX lease_by_pod ON lease (cluster_id, pod_uid);
-- Three small ones, for counts that limit what happens to many at once, and for EIPs that may be used again.
CREATE INDEX lease_in_retention ON lease (cluster_id) WHERE phase = 'retained';
CREATE INDEX lease_loss ON lease (loss_reported_at) WHERE loss_reported_at IS NOT NULL;
CREATE INDEX lease_prepaid ON lease (cluster_id, namespace, created_at)
  WHERE phase = 'releasing' AND request #>> '{eip,source,allocate,instance_charge_type}' = 'PrePaid';

-- Retained leases that people ended by deleting the custom resource; counted, because an uninstallation may delete all of them.
CREATE TABLE manual_release (
  cluster_id  int NOT NULL REFERENCES cluster,
  lease_id    uuid NOT NULL,
  released_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX manual_release_at ON manual_release (cluster_id, released_at);

-- Former addresses: EIPs whose retention ended. The cloud sells them back to the account that had them, within seven days.
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

-- Facts about a gateway. Its entry quota cannot be read, only learnt from a refusal. Room is counted (entries_when_full, less foreign entries, less
-- held ranges), under this row's lock once that is known; so no stored counter has to be kept in step with the ranges.
CREATE TABLE gateway (
  gateway_id                text PRIMARY KEY,
  entries_when_full         int,                     -- number of entries when another was refused; null: none was refused yet
  full_until                timestamptz,             -- entries_when_full is believed until then: quotas are raised without notice
  foreign_entries           int NOT NULL DEFAULT 0,  -- foreign entries at the last read
  modify_denied_until       timestamptz,             -- entries may not be modified; believed until then: rights are granted without notice
  withdrawals_limited_until timestamptz              -- many of its pods lost their entries at once: withdrawals are limited until then
);

-- The gateways' EIPs that are offered to pods. Keyed by ID, never by address: the cloud reuses addresses.
CREATE TABLE gateway_eip (
  allocation_id      text PRIMARY KEY,
  gateway_id         text NOT NULL,
  table_id           text NOT NULL,
  zone_id            text NOT NULL,
  address            inet NOT NULL,
  first_port         int  NOT NULL,                   -- the range offered now; rows outside it are not allocated
  last_port          int  NOT NULL,
  snat               boolean NOT NULL DEFAULT false,  -- the gateway's SNAT uses it as well
  unavailable_reason text,                            -- unavailable reason: why nothing can be forwarded from it now, for people
  CHECK (first_port <= last_port)
);

-- One row per offered external port, with one holder, so that no address serves two pods. A forward entry is a range of held rows, mostly
-- of one: adjacent ports, mapped in order to adjacent ports of the pod, each with the first of them in range_start.
-- free → held → cooldown → free; foreign: a foreign entry covers the port.
CREATE TABLE port (
  allocation_id  text     NOT NULL,
  proto          smallint NOT NULL CHECK (proto IN (6, 17)),  -- IP protocol numbers: TCP, UDP
  port           int      NOT NULL CHECK (port BETWEEN 1 AND 65535),
  gateway_id     text     NOT NULL,
  state          text     NOT NULL DEFAULT 'free' CHECK (state IN ('free', 'held', 'cooldown', 'foreign')),
  lease_id       uuid,
  range_start    int,                                         -- range start: the first external port of its entry
  target_port    int,                                         -- the target port: the pod's
  private_ip     inet,                                        -- the pod's address, once the entry is intended
  entry_id       text,
  deleted        boolean NOT NULL DEFAULT false,              -- the cloud has accepted the entry's deletion
  cooldown_until timestamptz,
  absent_since   timestamptz,                                 -- foreign: since when no read has shown the entry
  PRIMARY KEY (allocation_id, proto, port),
  CHECK ((state = 'held') = (lease_id IS NOT NULL)),
  CHECK ((state = 'held') = (target_port IS NOT NULL)),
  CHECK ((state = 'held') = (range_start IS NOT NULL)),
  CHECK (range_start <= port),
  CHECK (state = 'foreign' OR absent_since IS NULL),
  CHECK ((state = 'cooldown') = (cooldown_until IS NOT NULL)),
  CHECK (state = 'held' OR (private_ip IS NULL AND entry_id IS NULL AND NOT deleted))
) WITH (fillfactor = 80);
CREATE INDEX port_free ON port (allocation_id, proto, port) WHERE state = 'free';
CREATE INDEX port_lease ON port (lease_id) WHERE lease_id IS NOT NULL;
CREATE INDEX port_cooldown ON port (cooldown_until) WHERE cooldown_until IS NOT NULL;
CREATE INDEX port_foreign ON port (allocation_id) WHERE state = 'foreign';
CREATE INDEX port_entry ON port (gateway_id, lease_id) WHERE range_start = port;
CREATE UNIQUE INDEX port_internal ON port (private_ip, gateway_id, proto, target_port) WHERE private_ip IS NOT NULL;

-- What one worker at a time does. Changes of forward entries are queued at their gateway, and the holder of the gateway's lock sends them and lists
-- the gateway's entries; the holder of the lock 'eips' lists the account's EIPs. Each write under a lock compares (owner, epoch). A lock expires like
-- a claim.
CREATE TABLE worker_lock (
  name       text PRIMARY KEY,           -- a gateway's ID, or eips
  owner      uuid,                       -- random per process start; null: released
  epoch      bigint NOT NULL DEFAULT 0,  -- +1 whenever the lock is acquired
  held_until timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- The fair queues, one of each gateway and one of each action of the account: the namespace served longest ago comes next.
CREATE TABLE fair_queue (
  queue          text NOT NULL,  -- a gateway's ID, or the name of an action
  cluster_id     int  NOT NULL,
  namespace      text NOT NULL,
  last_served_at timestamptz NOT NULL,
  PRIMARY KEY (queue, cluster_id, namespace)
) WITH (fillfactor = 70);
CREATE INDEX fair_queue_turn ON fair_queue (queue, cluster_id, last_served_at);

-- Operations: every change asked of the cloud, committed before the call, parameters frozen, settled once.
CREATE TABLE operation (
  operation_id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),  -- = ClientToken
  lease_id             uuid NOT NULL,
  resource             text NOT NULL,                               -- the cloud resource changed: 'eip-…', 'fwd-…', or the one to be created
  action               text NOT NULL,                               -- the API's action; beside change, because ->> is not leakproof
  change               jsonb NOT NULL,                              -- the call's parameters, the same at every send
  owner                uuid NOT NULL,
  epoch                bigint NOT NULL,
  sends                int NOT NULL DEFAULT 0,
  reads_without_effect int NOT NULL DEFAULT 0,                      -- reads without effect, after the fence
  fence_until          timestamptz NOT NULL,                        -- no send of it is expected to take effect after this
  intended_at          timestamptz NOT NULL DEFAULT now(),
  outcome              text CHECK (outcome IN ('done', 'refused', 'void')),
  answer               jsonb,
  error                text,
  settled_at           timestamptz,
  awaits_fence         boolean NOT NULL DEFAULT false,              -- awaits its fence: a later send was refused, an earlier one may still take effect
  gateway_id           text,                                        -- the gateway whose queue it is in; null: the account's queue of its action
  cluster_id           int  NOT NULL,                               -- with namespace: its place in the fair queue
  namespace            text NOT NULL,
  queued               boolean NOT NULL DEFAULT false,              -- waits to be sent, for the first time or again
  priority             smallint NOT NULL DEFAULT 1 CHECK (priority IN (0, 1, 2)),  -- 0: urgent, another pod has the IP or a published address is repaired; 1; 2: its pod has no IP yet
  busy_retries         int NOT NULL DEFAULT 0,                      -- busy retries: earlier refusals of the same change because the gateway was busy
  sent_at              timestamptz,                                 -- when it was marked as sent last
  answer_by            timestamptz NOT NULL DEFAULT now(),          -- until then the sender waits for the answer to the last send
  call_slot            int,                                         -- the slot of its action that the last send has booked
  CHECK ((outcome IS NULL) = (settled_at IS NULL)),
  CHECK (NOT queued OR outcome IS NULL)
);
CREATE UNIQUE INDEX operation_unresolved ON operation (resource) WHERE outcome IS NULL;   -- one unresolved change per cloud resource
CREATE INDEX operation_lease ON operation (lease_id, settled_at);                         -- the unresolved ones of a lease, and the last settled
CREATE INDEX operation_queue ON operation (gateway_id) WHERE queued AND gateway_id IS NOT NULL;
CREATE INDEX operation_account_queue ON operation (cluster_id, action, priority, namespace, intended_at) WHERE queued AND gateway_id IS NULL;
CREATE INDEX operation_unresolved_by_gateway ON operation (gateway_id) WHERE gateway_id IS NOT NULL AND outcome IS NULL AND NOT queued;
CREATE INDEX operation_settled ON operation (settled_at) WHERE settled_at IS NOT NULL;

-- Rates of calls that wait in no account queue (reads, and changes of forward entries, which wait at their gateway): when the next call of an
-- action may be made.
CREATE TABLE rate (
  action       text PRIMARY KEY,
  next_call_at timestamptz NOT NULL
) WITH (fillfactor = 50);
