-- Reads from a standby of PostgreSQL, see server/database/standby.py. Positions in the WAL are numbers of bytes.

-- name: identity
-- Which database this is: a standby has the identity of its primary, and a copy made by pg_dump has one of its own.
SELECT s.system_identifier, d.oid::bigint AS database
FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()

-- name: position
-- Of the primary: everything that it has confirmed to a client lies before this position. A commit is confirmed when it
-- has been flushed; with synchronous_commit = off as soon as it is in memory. Not always the latter: that position also
-- covers transactions in progress, and no standby gets these before they are flushed, up to 0.2 s later.
SELECT pg_wal_lsn_diff(
         CASE current_setting('synchronous_commit')
           WHEN 'off' THEN pg_current_wal_insert_lsn() ELSE pg_current_wal_flush_lsn() END, '0/0')::bigint AS bytes,
       ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::int AS timeline

-- name: replayed
-- Of a standby: how far it is. Its timeline is the one that it has last written to its control file, so it may be
-- reported too low for some minutes after a failover, and never too high.
SELECT pg_is_in_recovery() AS is_standby,
       pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint AS bytes,
       greatest(c.timeline_id, r.min_recovery_end_timeline) AS timeline
FROM pg_control_checkpoint() c, pg_control_recovery() r
