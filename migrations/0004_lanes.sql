-- One writer per gateway: changes of forward entries wait in the queue of their gateway's lane, and one process at a time sends them.

-- A gateway's lane. Who holds it marks operations as sent, fenced by (owner, epoch); it lapses like a claim.
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

ALTER TABLE operation
  ADD COLUMN lane       text,                        -- the gateway whose lane sends it; null: its lease's claimant does
  ADD COLUMN cluster_id int,                         -- whose turn it takes there
  ADD COLUMN namespace  text,
  ADD COLUMN queued     boolean NOT NULL DEFAULT false,  -- it waits there to be sent, for the first time or again
  ADD COLUMN urgent     boolean NOT NULL DEFAULT false,  -- another pod has the address from which this takes an entry away
  ADD COLUMN agains     int NOT NULL DEFAULT 0,      -- how often the same change was refused before, because the gateway was busy
  ADD COLUMN answer_by  timestamptz NOT NULL DEFAULT now(),  -- until then somebody waits for the answer to the last send
  ADD CHECK (NOT queued OR (lane IS NOT NULL AND cluster_id IS NOT NULL AND namespace IS NOT NULL AND outcome IS NULL));
CREATE INDEX operation_queue ON operation (lane) WHERE queued;
CREATE INDEX operation_lane  ON operation (lane) WHERE lane IS NOT NULL AND outcome IS NULL;

-- A lane finds out that entries may not be modified; whoever plans must know.
ALTER TABLE gateway
  ADD COLUMN modify_denied_until timestamptz;        -- believed until then: rights are granted, and nobody tells us

-- What a lane has to say to the lease: its change was not carried out, and why. Told and waited for by the lease's next claimant.
ALTER TABLE lease
  ADD COLUMN refused  jsonb,
  ADD COLUMN refusals int NOT NULL DEFAULT 0,        -- such word in a row, without anything done
  ADD COLUMN news_at  timestamptz;                   -- when there was news of its gateway: no older list of entries tells it anything
