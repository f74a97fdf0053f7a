-- What a pod was told of once, people may rely on: fixed ports that were published stay where they are, whatever their gateway refuses since.
ALTER TABLE lease
  ADD COLUMN told boolean NOT NULL DEFAULT false;       -- an address of it was published, to this pod or to a former one

UPDATE lease SET told = true WHERE phase IN ('held', 'kept') OR generation > 1;

-- A change whose last send was refused, and of which an earlier send went unanswered: sent again and again it would never end.
ALTER TABLE operation
  ADD COLUMN waits_out boolean NOT NULL DEFAULT false;  -- it is not sent again; what the earlier send may do shows by the end of its fence
