-- Finds the sessions that hold the advisory lock $1, or, for longer than $2, a lock on a table of
-- the lease store. Names of applications are visible to their own user and to pg_monitor.
SELECT a.pid AS "pid!", coalesce(a.application_name, '') AS "application_name!",
  coalesce(a.usename::text, '') AS "user_name!",
  coalesce(extract(epoch FROM now() - a.xact_start), 0)::bigint AS "seconds!"
FROM pg_stat_activity a
WHERE a.pid <> pg_backend_pid() AND EXISTS (
  SELECT FROM pg_locks l
  WHERE l.pid = a.pid AND l.granted
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    AND ((l.locktype = 'advisory' AND l.objsubid = 1
          AND l.classid::bigint << 32 | l.objid::bigint = $1)
      OR (l.locktype = 'relation' AND a.xact_start <= now() - $2::text::interval
          AND l.relation IN (
            SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace))))
ORDER BY a.xact_start NULLS LAST, a.pid LIMIT 5
