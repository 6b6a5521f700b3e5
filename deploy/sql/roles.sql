-- Two roles: one owns the tables and applies migrations, the other runs the daemon and can neither change nor drop a table.
-- Run once, as a superuser, in the database that the tables are to live in, before the first migration:
--
--   psql --set=database=wechat --file=deploy/sql/roles.sql wechat
--   \password wechat_owner        and        \password wechat_notifier
--
-- Then apply migrations as wechat_owner (wechat-notifier migrate) before a release that brings some is started, and run the
-- daemon as wechat_notifier. Where nothing is missing, `run` and `migrate` change nothing and need no right to. With
-- database.migrate_on_start = false a daemon that was started too early waits, not ready, instead of ending with an error.

\set ON_ERROR_STOP on

BEGIN;

CREATE ROLE wechat_owner LOGIN;
CREATE ROLE wechat_notifier LOGIN;

REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO wechat_owner, wechat_notifier;

GRANT USAGE, CREATE ON SCHEMA public TO wechat_owner;
GRANT USAGE ON SCHEMA public TO wechat_notifier;

-- What a later migration creates is covered too. DELETE is for retention.
ALTER DEFAULT PRIVILEGES FOR ROLE wechat_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO wechat_notifier;
ALTER DEFAULT PRIVILEGES FOR ROLE wechat_owner IN SCHEMA public
    GRANT USAGE ON SEQUENCES TO wechat_notifier;

-- A statement that runs longer than this has met a lock or a lost index; the daemon tries again by itself.
ALTER ROLE wechat_notifier SET statement_timeout = '30s';
ALTER ROLE wechat_notifier SET idle_in_transaction_session_timeout = '60s';

COMMIT;
