-- The names of columns and tables follow the field's words: a delivery's `turn` is its epoch, a `letter` is a dead letter.
-- Nothing but names changes. Releases that know the old names cannot work beside this one: stop them first.

ALTER TABLE t_wechat_delivery RENAME COLUMN turn TO epoch;

ALTER TABLE t_wechat_dead_letter RENAME COLUMN letter TO identity;
ALTER TABLE t_wechat_dead_letter RENAME COLUMN turn TO epoch;
ALTER INDEX t_wechat_dead_letter_letter_key RENAME TO t_wechat_dead_letter_identity_key;

ALTER TABLE t_wechat_letter_action RENAME TO t_wechat_dead_letter_action;
ALTER TABLE t_wechat_dead_letter_action RENAME COLUMN letters TO dead_letters;
ALTER INDEX t_wechat_letter_action_pkey RENAME TO t_wechat_dead_letter_action_pkey;
ALTER INDEX t_wechat_letter_action_letters RENAME TO t_wechat_dead_letter_action_dead_letters;
ALTER SEQUENCE t_wechat_letter_action_id_seq RENAME TO t_wechat_dead_letter_action_id_seq;
ALTER TRIGGER t_wechat_letter_action_stays ON t_wechat_dead_letter_action RENAME TO t_wechat_dead_letter_action_stays;
ALTER FUNCTION t_wechat_letter_action_stays() RENAME TO t_wechat_dead_letter_action_stays;
CREATE OR REPLACE FUNCTION t_wechat_dead_letter_action_stays() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION 't_wechat_dead_letter_action is append-only'; END$$;

ALTER TABLE t_wechat_replay RENAME COLUMN letters TO dead_letters;

ALTER TABLE t_wechat_replay_letter RENAME TO t_wechat_replay_dead_letter;
ALTER TABLE t_wechat_replay_dead_letter RENAME COLUMN letter TO dead_letter;
ALTER TABLE t_wechat_replay_dead_letter RENAME COLUMN turn TO epoch;
ALTER TABLE t_wechat_replay_dead_letter RENAME COLUMN later_letter TO later_dead_letter;
ALTER TABLE t_wechat_replay_dead_letter
    RENAME CONSTRAINT t_wechat_replay_letter_state_check TO t_wechat_replay_dead_letter_state_check;
ALTER TABLE t_wechat_replay_dead_letter
    RENAME CONSTRAINT t_wechat_replay_letter_replay_fkey TO t_wechat_replay_dead_letter_replay_fkey;
ALTER INDEX t_wechat_replay_letter_pkey RENAME TO t_wechat_replay_dead_letter_pkey;
ALTER INDEX t_wechat_replay_letter_once RENAME TO t_wechat_replay_dead_letter_once;
ALTER INDEX t_wechat_replay_letter_pending RENAME TO t_wechat_replay_dead_letter_pending;
ALTER INDEX t_wechat_replay_letter_published RENAME TO t_wechat_replay_dead_letter_published;

ALTER VIEW v_wechat_replay_letter RENAME TO v_wechat_replay_dead_letter;
ALTER VIEW v_wechat_replay_dead_letter RENAME COLUMN letter TO dead_letter;
ALTER VIEW v_wechat_replay_dead_letter RENAME COLUMN turn TO epoch;
ALTER VIEW v_wechat_replay_dead_letter RENAME COLUMN later_letter TO later_dead_letter;

ALTER VIEW v_wechat_conservation RENAME COLUMN turn TO epoch;
CREATE OR REPLACE VIEW v_wechat_conservation AS
SELECT 'unfinished' AS gap, d.company_no, d.app_id, d.template_id, d.event_id, d.recipient, d.status,
       d.epoch, d.claimed_until, d.created_at
  FROM t_wechat_delivery d
 WHERE d.status IN ('planned', 'attempting', 'retrying')
UNION ALL
SELECT 'dead without a dead letter', d.company_no, d.app_id, d.template_id, d.event_id, d.recipient, d.status,
       d.epoch, d.claimed_until, d.created_at
  FROM t_wechat_delivery d
 WHERE d.status = 'dead'
   AND NOT EXISTS (SELECT FROM t_wechat_dead_letter l
                    WHERE l.event_id = d.event_id AND l.recipient = d.recipient AND l.template_id = d.template_id
                      AND l.app_id = d.app_id AND l.company_no = d.company_no);
