-- The account's queues: changes of EIPs wait in one queue for each action, and a free call slot picks its change. Nothing is reserved, and nobody
-- waits inside a slot: a change is picked and marked as sent at the moment when it may be sent.

-- The clock of the slots. Not now(): that is older than the locks that a transaction waited for.
CREATE FUNCTION wall_clock() RETURNS timestamptz LANGUAGE sql AS 'SELECT clock_timestamp()';

-- One row per action; its lock orders those who pick.
CREATE TABLE account_rate (
  action       text PRIMARY KEY,
  slots        int NOT NULL DEFAULT 0,  -- slots that exist: the largest rate that was asked for
  lowered_to   int,                     -- calls a minute after the cloud throttled some; null: the full rate
  lowered_at   timestamptz,             -- refusals of calls marked before this do not lower again
  next_call_at timestamptz              -- while the rate is lowered, calls are spread evenly
) WITH (fillfactor = 50);

-- One row per call that an action is allowed within a minute. The cloud counts a call when it arrives, which is before its answer: a slot is free
-- again a minute after the answer, or, while that is not known, a minute after the longest call.
CREATE TABLE call_slot (
  action       text NOT NULL,
  slot         int  NOT NULL,
  booked_until timestamptz NOT NULL DEFAULT '-infinity',
  operation_id uuid,                    -- the operation that booked it last
  PRIMARY KEY (action, slot)
) WITH (fillfactor = 70);

-- Clusters that share the account take turns at an action; one that has not asked for two seconds is passed over.
CREATE TABLE account_turn (
  action         text NOT NULL,
  cluster_id     int  NOT NULL,
  asked_at       timestamptz NOT NULL,  -- with changes to send
  last_served_at timestamptz NOT NULL DEFAULT '-infinity',
  PRIMARY KEY (action, cluster_id)
) WITH (fillfactor = 50);

-- Marks as many changes of an action's queue as sent as there are free slots, and returns them: urgent ones first, then namespaces in turns, then
-- age. A change that needs a look (p_look) is sent only if its lease was looked at within p_fresh; the head of the queue is woken for that. The last
-- row has no operation; it says when to ask again (null: nothing waits) and how many leases were woken.
--
-- A plpgsql function, because each of its statements sees what was committed before it: in one statement, all picks of a crowd go to the namespace
-- that one snapshot shows as served longest ago.
CREATE FUNCTION dequeue_account_changes(
  p_cluster int, p_action text, p_rate int, p_limit int, p_call interval, p_fence interval, p_look boolean, p_fresh interval)
RETURNS TABLE (
  operation_id uuid, lease_id uuid, resource text, change jsonb, sends int, fence_until timestamptz, may_still_arrive boolean, waited interval,
  retry_in interval, woken int)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
  minute   CONSTANT interval := '60 s';
  -- Leases this far ahead in the queue are woken for a look: they have a second or two for it, and it still counts when their slot is free.
  ahead    CONSTANT interval := p_fresh / 2;
  t        timestamptz;
  r        account_rate;
  o        operation;
  free     int[];
  others   int;   -- clusters that ask as well
  before   int;   -- those of them that were served longer ago
  share    int;
  soon     int;   -- slots that come free within `ahead`
  picked   int := 0;
  skipped  uuid[] := '{}';
  rank     smallint;
  space    text;
  seen_at  timestamptz;
  left_over boolean;
BEGIN
  woken := 0;
  INSERT INTO account_rate (action) VALUES (p_action) ON CONFLICT DO NOTHING;
  SELECT * INTO r FROM account_rate a WHERE a.action = p_action FOR UPDATE;
  t := wall_clock();
  IF r.slots < p_rate THEN
    INSERT INTO call_slot (action, slot) SELECT p_action, n FROM generate_series(r.slots + 1, p_rate) n;
    UPDATE account_rate a SET slots = p_rate WHERE a.action = p_action;
  END IF;
  -- The clock was set back: no booking is further ahead than this.
  UPDATE call_slot s SET booked_until = t + minute WHERE s.action = p_action AND s.booked_until > t + minute + p_call;

  free := ARRAY(
    SELECT s.slot FROM call_slot s
    WHERE s.action = p_action AND s.booked_until <= t AND s.slot <= p_rate
    ORDER BY s.booked_until, s.slot LIMIT p_limit);
  IF r.lowered_to >= p_rate THEN
    UPDATE account_rate a SET lowered_to = NULL WHERE a.action = p_action;
    r.lowered_to := NULL;
  END IF;
  IF r.lowered_to IS NOT NULL THEN
    IF r.next_call_at BETWEEN t AND t + minute THEN
      free := '{}';
    ELSE
      free := free[1:1];
      r.next_call_at := NULL;
    END IF;
  END IF;

  INSERT INTO account_turn AS a (action, cluster_id, asked_at) VALUES (p_action, p_cluster, t)
  ON CONFLICT (action, cluster_id) DO UPDATE SET asked_at = t;
  SELECT count(*), count(*) FILTER (WHERE (a.last_served_at, a.cluster_id) < (m.last_served_at, m.cluster_id)) INTO others, before
  FROM account_turn m JOIN account_turn a ON a.action = m.action AND a.cluster_id <> m.cluster_id
  WHERE m.action = p_action AND m.cluster_id = p_cluster AND a.asked_at > t - interval '2 s';
  share := greatest(0, least(ceil(cardinality(free)::float8 / (others + 1))::int, cardinality(free) - before));

  WHILE picked < share AND cardinality(skipped) < 4 * p_limit LOOP
    -- Later by a moment at each pick, so that no two namespaces were served at the same time.
    t := t + interval '1 microsecond';
    SELECT q.priority INTO rank FROM operation q
    WHERE q.queued AND q.gateway_id IS NULL AND q.cluster_id = p_cluster AND q.action = p_action AND q.operation_id <> ALL (skipped)
    ORDER BY q.priority LIMIT 1;
    EXIT WHEN NOT FOUND;
    -- The first namespace by index with such a change: the inner limit keeps the planner from reading the whole queue for a join.
    SELECT f.namespace INTO space FROM fair_queue f CROSS JOIN LATERAL (
      SELECT FROM operation q
      WHERE q.queued AND q.gateway_id IS NULL AND q.cluster_id = p_cluster AND q.action = p_action AND q.priority = rank
        AND q.namespace = f.namespace AND q.operation_id <> ALL (skipped) LIMIT 1) one
    WHERE f.queue = p_action AND f.cluster_id = p_cluster
    ORDER BY f.last_served_at LIMIT 1;
    IF NOT FOUND THEN
      INSERT INTO fair_queue (queue, cluster_id, namespace, last_served_at)
      SELECT p_action, p_cluster, q.namespace, t - minute FROM operation q
      WHERE q.queued AND q.gateway_id IS NULL AND q.cluster_id = p_cluster AND q.action = p_action GROUP BY q.namespace
      ON CONFLICT DO NOTHING;
      EXIT WHEN NOT FOUND;
      CONTINUE;
    END IF;
    SELECT * INTO o FROM operation q
    WHERE q.queued AND q.gateway_id IS NULL AND q.cluster_id = p_cluster AND q.action = p_action AND q.priority = rank
      AND q.namespace = space AND q.operation_id <> ALL (skipped)
    ORDER BY q.intended_at LIMIT 1;
    CONTINUE WHEN NOT FOUND;
    -- The lease before the operation, as its claim holder locks them; whoever holds either is not waited for.
    SELECT l.looked_at INTO seen_at FROM lease l WHERE l.lease_id = o.lease_id FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
      skipped := skipped || o.operation_id;
      CONTINUE;
    END IF;
    IF p_look AND coalesce(seen_at < t - p_fresh, true) THEN
      -- Not again and again: a lease whose looks fail has a pause of its own.
      UPDATE lease l SET wake = l.wake + 1, due_at = CASE WHEN l.owner IS NULL THEN now() ELSE l.due_at END, look_asked_at = t
      WHERE l.lease_id = o.lease_id AND coalesce(l.look_asked_at < t - ahead, true);
      woken := woken + FOUND::int;
      skipped := skipped || o.operation_id;
      CONTINUE;
    END IF;
    PERFORM FROM operation q WHERE q.operation_id = o.operation_id AND q.queued FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
      skipped := skipped || o.operation_id;
      CONTINUE;
    END IF;
    picked := picked + 1;
    UPDATE call_slot s SET booked_until = t + minute + p_call, operation_id = o.operation_id
    WHERE s.action = p_action AND s.slot = free[picked];
    UPDATE operation q SET queued = false, sends = q.sends + 1, reads_without_effect = 0, call_slot = free[picked], sent_at = t,
      answer_by = t + p_call, fence_until = greatest(q.fence_until, t + p_fence)
    WHERE q.operation_id = o.operation_id RETURNING q.sends, q.fence_until INTO sends, fence_until;
    -- Due when the answer must have come: a lost one is found without anybody's death.
    UPDATE lease l SET due_at = CASE WHEN l.owner IS NULL THEN least(l.due_at, t + p_call) ELSE l.due_at END,
      wake = l.wake + (l.owner IS NOT NULL)::int
    WHERE l.lease_id = o.lease_id;
    UPDATE fair_queue f SET last_served_at = t WHERE f.queue = p_action AND f.cluster_id = p_cluster AND f.namespace = space;
    -- A place without changes goes, so that few are searched. Who queues at this moment has moved last_served_at, and keeps it.
    DELETE FROM fair_queue f
    WHERE f.queue = p_action AND f.cluster_id = p_cluster AND f.namespace = space AND f.last_served_at = t AND NOT EXISTS (
      SELECT FROM operation q
      WHERE q.queued AND q.gateway_id IS NULL AND q.cluster_id = p_cluster AND q.action = p_action AND q.namespace = space);
    operation_id := o.operation_id; lease_id := o.lease_id; resource := o.resource; change := o.change;
    may_still_arrive := o.sends > 0 AND o.fence_until >= t; waited := t - o.intended_at;
    RETURN NEXT;
  END LOOP;

  left_over := EXISTS (
    SELECT FROM operation q WHERE q.queued AND q.gateway_id IS NULL AND q.cluster_id = p_cluster AND q.action = p_action);
  UPDATE account_turn a SET
    last_served_at = CASE WHEN picked > 0 THEN t ELSE a.last_served_at END,
    asked_at = CASE WHEN left_over THEN a.asked_at ELSE '-infinity' END
  WHERE a.action = p_action AND a.cluster_id = p_cluster;
  IF r.lowered_to IS NOT NULL AND picked > 0 THEN
    r.next_call_at := t + minute / r.lowered_to;
    UPDATE account_rate a SET next_call_at = r.next_call_at WHERE a.action = p_action;
  END IF;

  retry_in := NULL;
  IF left_over THEN
    -- Not later than in a second: an answer frees its slot earlier than its booking says.
    retry_in := CASE
      WHEN woken > 0 OR (share < cardinality(free) AND picked = share) THEN interval '100 ms'
      ELSE least(interval '1 s', greatest(
        (SELECT greatest(min(s.booked_until), t) FROM call_slot s WHERE s.action = p_action AND s.slot <= p_rate) - t,
        r.next_call_at - t, interval '20 ms')) END;
    IF p_look THEN
      -- Those of the namespaces whose turn comes first; for others a slot waits until they have looked.
      soon := CASE WHEN r.lowered_to IS NOT NULL THEN 1 + r.lowered_to / 12 ELSE (
        SELECT count(*) FROM call_slot s WHERE s.action = p_action AND s.slot <= p_rate AND s.booked_until <= t + ahead) END;
      SELECT q.priority INTO rank FROM operation q
      WHERE q.queued AND q.gateway_id IS NULL AND q.cluster_id = p_cluster AND q.action = p_action
      ORDER BY q.priority LIMIT 1;
      WITH head AS MATERIALIZED (
        SELECT o.lease_id FROM fair_queue f CROSS JOIN LATERAL (
          SELECT q.lease_id FROM operation q
          WHERE q.queued AND q.gateway_id IS NULL AND q.cluster_id = p_cluster AND q.action = p_action AND q.priority = rank
            AND q.namespace = f.namespace
          ORDER BY q.intended_at LIMIT soon) o
        WHERE f.queue = p_action AND f.cluster_id = p_cluster
        ORDER BY f.last_served_at LIMIT soon),
      sleeping AS MATERIALIZED (
        SELECT l.lease_id FROM lease l JOIN head h ON h.lease_id = l.lease_id
        WHERE l.owner IS NULL AND l.due_at > now() AND coalesce(l.looked_at < t - ahead, true) AND coalesce(l.look_asked_at < t - ahead, true)
        FOR NO KEY UPDATE OF l SKIP LOCKED),
      up AS (
        UPDATE lease l SET wake = l.wake + 1, due_at = now(), look_asked_at = t FROM sleeping s WHERE l.lease_id = s.lease_id RETURNING l.lease_id)
      SELECT woken + count(*) INTO woken FROM up;
    END IF;
  END IF;
  operation_id := NULL; lease_id := NULL; resource := NULL; change := NULL; sends := NULL; fence_until := NULL; may_still_arrive := NULL; waited := NULL;
  RETURN NEXT;
END $$;

-- The cloud throttled a call: the rate is lowered once for all calls that were marked before, and the change goes back into its old place. The
-- send counts as not sent. p_send is its number: once there is a later one, this one decides nothing.
CREATE FUNCTION requeue_throttled_change(p_operation uuid, p_send int, p_rate int, p_pause interval) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  t timestamptz;
  o operation;
  r account_rate;
BEGIN
  SELECT * INTO o FROM operation q WHERE q.operation_id = p_operation AND q.sends = p_send;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  SELECT * INTO r FROM account_rate a WHERE a.action = o.action FOR UPDATE;
  t := wall_clock();
  IF r.lowered_at IS NULL OR o.sent_at > r.lowered_at THEN
    r.lowered_to := greatest(1, floor(0.7 * least(coalesce(r.lowered_to, p_rate), p_rate)));
    UPDATE account_rate a SET lowered_to = r.lowered_to, lowered_at = t,
      next_call_at = t + least(greatest(interval '60 s' / r.lowered_to, p_pause), interval '60 s')
    WHERE a.action = o.action;
  END IF;
  UPDATE operation q SET queued = true, sends = q.sends - 1, answer_by = t
  WHERE q.operation_id = p_operation AND q.outcome IS NULL AND NOT q.queued AND q.sends = p_send;
END $$;

-- A call was marked as sent and then not written: its slot is free, and the change goes back into its old place. Not if it was marked once more
-- since (p_send is the number of this mark).
CREATE FUNCTION requeue_unsent_change(p_operation uuid, p_send int) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  UPDATE call_slot s SET booked_until = wall_clock() FROM operation q
  WHERE q.operation_id = p_operation AND q.sends = p_send AND s.action = q.action AND s.slot = q.call_slot AND s.operation_id = p_operation;
  UPDATE operation q SET queued = true, sends = q.sends - 1, answer_by = wall_clock()
  WHERE q.operation_id = p_operation AND q.outcome IS NULL AND NOT q.queued AND q.sends = p_send;
END $$;
