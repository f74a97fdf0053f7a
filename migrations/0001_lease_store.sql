-- The lease store. The lease row is the job; constraints are the law, code only proposes; what the cloud answered (a fact) is never
-- dropped, what to do next (a decision) is written only under a live claim.

-- Who this store is. Tags in the cloud carry store_id, so that two stores never take each other's things for their own.
CREATE TABLE store (
  one         boolean PRIMARY KEY DEFAULT true CHECK (one),
  store_id    uuid    NOT NULL DEFAULT gen_random_uuid(),
  incarnation bigint  NOT NULL DEFAULT 1          -- grows when the store was rebuilt from the cloud
);
INSERT INTO store DEFAULT VALUES;

-- Clusters that keep their leases here. cluster_uid is the UID of namespace kube-system: a configured name can be copied, that cannot.
CREATE TABLE cluster (
  cluster_id  int  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cluster_uid uuid NOT NULL UNIQUE,
  name        text NOT NULL UNIQUE
);

-- A lease: one thing held for one pod, an EIP or a set of ports; and the job of keeping it so.
CREATE TABLE lease (
  lease_id      uuid PRIMARY KEY DEFAULT gen_random_uuid(),  -- random: a sequence repeats after a restore, and so would tokens and names
  cluster_id    int  NOT NULL REFERENCES cluster,
  kind          text NOT NULL CHECK (kind IN ('eip', 'dnat')),
  namespace     text NOT NULL,
  pod_name      text NOT NULL,
  pod_uid       uuid NOT NULL,
  pod_created_at timestamptz,                        -- who is older decides to whom a given EIP may pass: leases are made in whatever order pods are seen
  request       jsonb NOT NULL,
  -- headstart: announced at admission, no pod seen yet. kept: the pod is gone, a successor of its name may come. ending is one-way: a pod
  -- that comes back gets a new lease. A lease that has nothing left is deleted.
  phase         text NOT NULL CHECK (phase IN ('headstart', 'wanted', 'held', 'kept', 'ending')),
  keeps         boolean NOT NULL DEFAULT false,      -- the request outlives its pod: a release strategy other than Follow, or fixed ports
  controller    text,                                -- Kind/name of the pod's controller: only its pods succeed one another
  ends_at       timestamptz,                         -- while kept: when it ends; null: when a person says so
  -- the EIP held (kind eip); ours: allocated by us, so ours to release
  allocation_id text,
  eip_address   inet,
  ours          boolean NOT NULL DEFAULT false,
  -- where it points: set when a binding or forward is intended, cleared when it is proven gone
  eni_id        text,
  vswitch_id    text,
  zone_id       text,
  vpc_id        text,
  private_ip    inet,
  primary_ip    boolean,                             -- private_ip is the interface's primary address
  generation    int  NOT NULL DEFAULT 0,             -- grows with every target; part of forward entry names
  -- this lease is the one that writes the custom resource of its name
  resource      boolean NOT NULL DEFAULT false,
  told          boolean NOT NULL DEFAULT false,      -- an address of it was published, to this pod or to a former one: fixed ports stay where they are from then on
  lost_to       text,                                -- namespace/name of the pod that took the given EIP over; it is given up, and never taken back
  parted_at     timestamptz,                         -- since when its pod is gone while its entries may be pointed at a successor
  lost_at       timestamptz,                         -- when its pod was last told that its entries are lost: of many at once few are told
  doubts        int  NOT NULL DEFAULT 0,             -- definite reads in a row that did not show what was published
  spilling      boolean NOT NULL DEFAULT false,      -- its gateway had no room for all its entries: what it has there is given back
  -- the job
  due_at        timestamptz NOT NULL DEFAULT now(),  -- when somebody must look again; while claimed, the claim's expiry
  wake          bigint NOT NULL DEFAULT 0,           -- +1 by whoever has news; compared at the end of a step, so none is lost
  owner         uuid,                                -- random per process start
  epoch         bigint NOT NULL DEFAULT 0,           -- +1 at every claim: the fence of every decision
  tries         int  NOT NULL DEFAULT 0,             -- waits in a row for the same reason
  reason        text,
  message       text,
  refused       jsonb,                               -- why a queued change was not carried out; told and waited for by the next claim holder
  refusals      int  NOT NULL DEFAULT 0,             -- such refusals in a row, without anything done
  news_at       timestamptz,                         -- when there was news of its gateway: no older list of entries tells it anything
  created_at    timestamptz NOT NULL DEFAULT now(),
  CHECK ((allocation_id IS NULL) = (eip_address IS NULL)),
  CHECK ((private_ip IS NULL) = (eni_id IS NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX lease_pod    ON lease (cluster_id, kind, pod_uid)             WHERE phase <> 'ending';
CREATE UNIQUE INDEX lease_name   ON lease (cluster_id, kind, namespace, pod_name) WHERE resource;
CREATE UNIQUE INDEX lease_eip    ON lease (allocation_id)                         WHERE allocation_id IS NOT NULL;
CREATE UNIQUE INDEX lease_target ON lease (vpc_id, private_ip)                    WHERE private_ip IS NOT NULL AND kind = 'eip';
CREATE UNIQUE INDEX lease_kept   ON lease (cluster_id, kind, namespace, pod_name, coalesce(controller, ''))
                                                                                  WHERE keeps AND phase IN ('wanted', 'held', 'kept');
-- lease_kept holds no lease in phase headstart, so it does not serve the search for what is kept for a pod's name at each of its events.
CREATE INDEX lease_kept_by_name  ON lease (cluster_id, kind, namespace, pod_name) WHERE keeps AND phase <> 'ending';
CREATE INDEX lease_due           ON lease (cluster_id, due_at);
CREATE INDEX lease_by_pod        ON lease (cluster_id, pod_uid);

-- Kept leases that people released by deleting their custom resource; counted, because an uninstallation may delete them all.
CREATE TABLE release (
  cluster_id int NOT NULL REFERENCES cluster,
  lease_id   uuid NOT NULL,
  at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX release_at ON release (cluster_id, at);

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

-- What is known of a gateway's entry quota. It cannot be read: a refusal tells it. Room is counted (full_at, less others' entries, less the
-- runs that are held), under this row's lock once there is a number to count against; so nothing has to be kept in step with the runs.
CREATE TABLE gateway (
  gateway_id text PRIMARY KEY,
  full_at    int,                                    -- how many entries stood when another was refused; null: that never happened
  full_until timestamptz,                            -- believed until then: quotas are raised, and the cloud tells nobody
  others     int NOT NULL DEFAULT 0,                 -- entries that are not of this store, at the last look
  modify_denied_until timestamptz,                   -- entries may not be modified; believed until then: rights are granted, and nobody tells us
  losses_held_until   timestamptz                    -- many of its pods lost their entries at once: until then no more are told
);

-- The EIPs of the gateways in the pool. Keyed by ID, never by address: the cloud reuses addresses.
CREATE TABLE gateway_eip (
  allocation_id text PRIMARY KEY,
  gateway_id    text NOT NULL,
  table_id      text NOT NULL,
  zone_id       text NOT NULL,
  address       inet NOT NULL,
  first_port    int  NOT NULL,                       -- the range on offer now; rows outside it are given to nobody
  last_port     int  NOT NULL,
  snat          boolean NOT NULL DEFAULT false,      -- SNAT uses it, too
  trouble       text,                                -- why nothing can be forwarded from it now, for people
  CHECK (first_port <= last_port)
);
CREATE INDEX gateway_eip_of ON gateway_eip (gateway_id);

-- One row per external port a pool offers; the row has one holder: that is "no address at two pods". A forward entry is a run of held rows,
-- mostly of one: adjacent ports, mapped in order to adjacent ports of the pod, that name the first of them as their head.
-- free → held → quiet → free; foreign: somebody else's entry stands on it.
CREATE TABLE port (
  allocation_id text     NOT NULL,
  proto         smallint NOT NULL CHECK (proto IN (6, 17)),   -- IP protocol numbers: TCP, UDP
  port          int      NOT NULL CHECK (port BETWEEN 1 AND 65535),
  gateway_id    text     NOT NULL,
  state         text     NOT NULL DEFAULT 'free' CHECK (state IN ('free', 'held', 'quiet', 'foreign')),
  lease_id      uuid,
  head          int,                                 -- the first port of its entry
  target        int,                                 -- the pod's port
  private_ip    inet,                                -- the pod's address, once the entry is intended
  entry_id      text,
  deleted       boolean NOT NULL DEFAULT false,      -- the cloud has accepted the entry's deletion
  quiet_until   timestamptz,
  gone_since    timestamptz,                         -- foreign: since when no look has shown the entry
  PRIMARY KEY (allocation_id, proto, port),
  CHECK ((state = 'held') = (lease_id IS NOT NULL)),
  CHECK ((state = 'held') = (target IS NOT NULL)),
  CHECK ((state = 'held') = (head IS NOT NULL)),
  CHECK (head <= port),
  CHECK (state = 'foreign' OR gone_since IS NULL),
  CHECK ((state = 'quiet') = (quiet_until IS NOT NULL)),
  CHECK (state = 'held' OR (private_ip IS NULL AND entry_id IS NULL AND NOT deleted))
) WITH (fillfactor = 80);
CREATE INDEX port_free            ON port (allocation_id, proto, port) WHERE state = 'free';
CREATE INDEX port_lease           ON port (lease_id)                   WHERE lease_id IS NOT NULL;
CREATE INDEX port_quiet           ON port (quiet_until)                WHERE quiet_until IS NOT NULL;
CREATE INDEX port_foreign         ON port (allocation_id)              WHERE state = 'foreign';
CREATE INDEX port_entry           ON port (gateway_id)                 WHERE head = port;
CREATE UNIQUE INDEX port_internal ON port (gateway_id, private_ip, proto, target) WHERE private_ip IS NOT NULL;

-- One writer per gateway: changes of forward entries wait in the queue of their gateway's lane, and one process at a time sends them. Who holds
-- the lane marks operations as sent, fenced by (owner, epoch); it lapses like a claim.
CREATE TABLE lane (
  gateway_id text PRIMARY KEY,
  owner      uuid,                                   -- random per process start; null: given back
  epoch      bigint NOT NULL DEFAULT 0,              -- +1 whenever it is taken
  until      timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- When a namespace last had its turn in a lane: the one whose turn is longest ago comes next.
CREATE TABLE turn (
  gateway_id text NOT NULL,
  cluster_id int  NOT NULL,
  namespace  text NOT NULL,
  taken_at   timestamptz NOT NULL,
  PRIMARY KEY (gateway_id, cluster_id, namespace)
) WITH (fillfactor = 70);

-- Every change asked of the cloud: committed before the call, parameters frozen, settled once.
CREATE TABLE operation (
  operation_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),   -- = ClientToken
  lease_id     uuid NOT NULL,
  resource     text NOT NULL,                        -- the cloud resource changed: 'eip-…', 'fwd-…', or what is to be made
  change       jsonb NOT NULL,                       -- as sent, every time
  owner        uuid NOT NULL,
  epoch        bigint NOT NULL,
  sends        int NOT NULL DEFAULT 1,
  misses       int NOT NULL DEFAULT 0,               -- reads after the fence that showed no effect
  fence_until  timestamptz NOT NULL,                 -- no send of it is expected to take effect after this
  intended_at  timestamptz NOT NULL DEFAULT now(),
  outcome      text CHECK (outcome IN ('done', 'refused', 'void')),
  answer       jsonb,
  error        text,
  settled_at   timestamptz,
  waits_out    boolean NOT NULL DEFAULT false,       -- a later send was refused: it is not sent again, and ends when no earlier send can arrive any more
  lane         text,                                 -- the gateway whose lane sends it; null: its lease's claimant does
  cluster_id   int,                                  -- whose turn it takes there
  namespace    text,
  queued       boolean NOT NULL DEFAULT false,       -- it waits there to be sent, for the first time or again
  urgent       boolean NOT NULL DEFAULT false,       -- another pod has the address from which this takes an entry away
  agains       int NOT NULL DEFAULT 0,               -- how often the same change was refused before, because the gateway was busy
  answer_by    timestamptz NOT NULL DEFAULT now(),   -- until then its sender waits for the answer to the last send
  CHECK ((outcome IS NULL) = (settled_at IS NULL)),
  CHECK (NOT queued OR (lane IS NOT NULL AND cluster_id IS NOT NULL AND namespace IS NOT NULL AND outcome IS NULL))
);
CREATE UNIQUE INDEX operation_unresolved ON operation (resource) WHERE outcome IS NULL;   -- one unresolved change per cloud resource
CREATE INDEX operation_lease             ON operation (lease_id, intended_at);
CREATE INDEX operation_queue             ON operation (lane) WHERE queued;
CREATE INDEX operation_lane              ON operation (lane) WHERE lane IS NOT NULL AND outcome IS NULL;
CREATE INDEX operation_settled           ON operation (settled_at) WHERE outcome IS NOT NULL;

-- The account's rates, shared by every process that calls the cloud for this store: when the next call of an action may be made.
CREATE TABLE rate (
  action  text PRIMARY KEY,
  free_at timestamptz NOT NULL
) WITH (fillfactor = 50);
