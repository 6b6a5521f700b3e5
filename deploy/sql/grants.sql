-- Grants the daemon's role what it needs: to read and write rows, and nothing else. Run it as the owner of the tables, after the
-- first migration of tables that another role owns, or when a privilege is missing. Safe to run again.
--
--   psql --file=deploy/sql/grants.sql "$DATABASE_URL"                  the role wechat_notifier
--   psql --set=role=notifier --file=deploy/sql/grants.sql …            another role

\set ON_ERROR_STOP on
\if :{?role}
\else
  \set role wechat_notifier
\endif

BEGIN;

-- DELETE is for retention.
SELECT format('GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %I TO %I', tablename, :'role')
  FROM pg_tables WHERE schemaname = current_schema() AND starts_with(tablename, 't_wechat_')
\gexec
SELECT format('GRANT USAGE ON SEQUENCE %I TO %I', sequencename, :'role')
  FROM pg_sequences WHERE schemaname = current_schema() AND starts_with(sequencename, 't_wechat_')
\gexec
SELECT format('GRANT SELECT ON %I TO %I', viewname, :'role')
  FROM pg_views WHERE schemaname = current_schema() AND starts_with(viewname, 'v_wechat_')
\gexec

COMMIT;
