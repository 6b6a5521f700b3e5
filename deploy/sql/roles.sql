-- Creates two roles: one owns the tables and applies migrations; the other is for the daemon and can neither change nor drop a
-- table. Run it once, as a superuser, in the database for the tables, before the first migration:
--
--   psql --set=database=wechat --file=deploy/sql/roles.sql wechat
--   \password wechat_owner        and        \password wechat_notifier
--
-- Then apply migrations as wechat_owner (wechat-notifier migrate) before you start a release that has new ones, and run the
-- daemon as wechat_notifier. Where no migration is missing, `run` and `migrate` change nothing and need no privilege to. With
-- database.migrate_on_start = false a daemon that is started too early waits, not ready, instead of failing.

\set ON_ERROR_STOP on

BEGIN;

CREATE ROLE wechat_owner LOGIN;
CREATE ROLE wechat_notifier LOGIN;

REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO wechat_owner, wechat_notifier;

GRANT USAGE, CREATE ON SCHEMA public TO wechat_owner;
GRANT USAGE ON SCHEMA public TO wechat_notifier;

-- Also covers what later migrations create. DELETE is for retention.
ALTER DEFAULT PRIVILEGES FOR ROLE wechat_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO wechat_notifier;
ALTER DEFAULT PRIVILEGES FOR ROLE wechat_owner IN SCHEMA public
    GRANT USAGE ON SEQUENCES TO wechat_notifier;

-- A statement that runs longer than this waits for a lock or lacks an index; the daemon retries it.
ALTER ROLE wechat_notifier SET statement_timeout = '30s';
ALTER ROLE wechat_notifier SET idle_in_transaction_session_timeout = '60s';

COMMIT;
