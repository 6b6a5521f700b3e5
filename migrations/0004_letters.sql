-- Dead letters by the ten thousand, and an account of what operators did with them.

-- The letters of one delivery, also of an event for a hundred thousand.
DROP INDEX t_wechat_dead_letter_event;
CREATE INDEX t_wechat_dead_letter_delivery ON t_wechat_dead_letter (event_id, recipient);
-- A group is named by how its fingerprint begins.
DROP INDEX t_wechat_dead_letter_group;
CREATE INDEX t_wechat_dead_letter_group ON t_wechat_dead_letter (fingerprint text_pattern_ops, id);
-- For the metric: counted without reading a letter.
CREATE INDEX t_wechat_dead_letter_count ON t_wechat_dead_letter (state, reason) WHERE state <> 'purged';

-- Who closed which letters, when and why. One row for each batch that was committed, so that the account is right wherever
-- the command was stopped; the rows of one command share their act.
CREATE TABLE t_wechat_letter_action (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    act      uuid NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    action   text NOT NULL,                 -- resolved, purged
    operator text NOT NULL,                 -- the operating system's user; the daemon's own retention is 'retention'
    why      text,
    filter   jsonb NOT NULL,                -- what was asked for
    letters  bigint[] NOT NULL              -- which letters that was, in this batch
);
CREATE INDEX t_wechat_letter_action_letters ON t_wechat_letter_action USING gin (letters);

-- The account is only ever added to.
CREATE FUNCTION t_wechat_letter_action_stays() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION 't_wechat_letter_action is only ever added to'; END$$;
CREATE TRIGGER t_wechat_letter_action_stays
    BEFORE UPDATE OR DELETE OR TRUNCATE ON t_wechat_letter_action
    FOR EACH STATEMENT EXECUTE FUNCTION t_wechat_letter_action_stays();
