-- Replays: who brought which letters back, and what became of each. Rows are never deleted: this is the account.

ALTER TABLE t_wechat_replay
    ADD COLUMN rate_per_second    integer NOT NULL DEFAULT 20,
    ADD COLUMN canary             integer[] NOT NULL DEFAULT '{}',  -- sizes of the first steps
    ADD COLUMN max_failed_percent integer NOT NULL DEFAULT 10,      -- of a canary's step; more stops the replay
    ADD COLUMN canary_wait_s      bigint NOT NULL DEFAULT 300,
    ADD COLUMN steps_passed       integer NOT NULL DEFAULT 0,
    ADD COLUMN even_expired       boolean NOT NULL DEFAULT false,
    ADD COLUMN re_resolve         boolean NOT NULL DEFAULT false,
    ADD COLUMN letters            bigint NOT NULL DEFAULT 0,        -- in the set
    ADD COLUMN published          bigint NOT NULL DEFAULT 0,
    ADD COLUMN refused            bigint NOT NULL DEFAULT 0,
    ADD COLUMN stopped_because    text,
    ADD COLUMN ended_at           timestamptz,
    ADD COLUMN counted            text,                             -- the end that the metrics have counted
    ADD CONSTRAINT t_wechat_replay_state
        CHECK (state IN ('running', 'paused', 'stopped', 'cancelled', 'finished'));

-- The set of a replay. It is written once, with the replay, and never grows.
CREATE TABLE t_wechat_replay_letter (
    replay       bigint NOT NULL REFERENCES t_wechat_replay,
    letter       bigint NOT NULL,         -- t_wechat_dead_letter.id
    state        text NOT NULL DEFAULT 'pending'
                 CHECK (state IN ('pending', 'published', 'refused', 'cancelled', 'ended')),
    -- What is brought back: a delivery, or, without a recipient, a whole event.
    company_no   text,
    app_id       text,
    template_id  text,
    event_id     text,
    recipient    text,
    turn         integer,                 -- the turn it goes out with, each time it is published; fixed with the set
    had_rows     boolean NOT NULL,        -- a whole event that the ledger knew when the set was fixed
    body         bytea,                   -- mended by the operator; the letter keeps the original
    step         integer,                 -- of the canary
    published_at timestamptz,
    refusal      text,
    outcome      text,
    reason       text,
    later_letter bigint,                  -- the letter that it died with again
    ended_at     timestamptz,
    PRIMARY KEY (replay, letter)
);
-- A letter is in one unfinished replay at most.
CREATE UNIQUE INDEX t_wechat_replay_letter_once ON t_wechat_replay_letter (letter)
    WHERE state IN ('pending', 'published');
CREATE INDEX t_wechat_replay_letter_pending ON t_wechat_replay_letter (replay, letter) WHERE state = 'pending';
CREATE INDEX t_wechat_replay_letter_published ON t_wechat_replay_letter (replay, letter) WHERE state = 'published';

-- What has become of each letter by now: what was written down, else what ledger and archive say.
CREATE VIEW v_wechat_replay_letter AS
SELECT r.replay, r.letter, r.state, r.step, r.app_id, r.event_id, r.recipient, r.turn, r.published_at, r.ended_at,
       CASE r.state WHEN 'published' THEN coalesce(d.outcome, e.outcome) WHEN 'ended' THEN r.outcome ELSE r.state END
           AS outcome,
       CASE r.state WHEN 'published' THEN coalesce(d.reason, e.reason) WHEN 'refused' THEN r.refusal ELSE r.reason END
           AS reason,
       CASE r.state WHEN 'published' THEN coalesce(d.later_letter, e.later_letter) ELSE r.later_letter END
           AS later_letter
  FROM t_wechat_replay_letter r
  JOIN t_wechat_replay p ON p.id = r.replay
  -- A delivery: its row, and the letter it may have died with again. One that never got to its row (the broker gave
  -- the message up) has such a letter all the same.
  LEFT JOIN LATERAL (
        SELECT CASE WHEN w.status IN ('sent', 'skipped') THEN w.status
                    WHEN w.status IN ('planned', 'attempting', 'retrying') THEN 'in_progress'
                    WHEN w.turn >= r.turn OR l.id IS NOT NULL THEN 'dead'
                    ELSE 'in_progress' END AS outcome,
               CASE WHEN w.status = 'skipped' OR w.turn >= r.turn THEN w.reason ELSE l.reason END AS reason,
               CASE WHEN w.status = 'dead' OR w.status IS NULL THEN l.id END AS later_letter
          FROM (SELECT) one
          LEFT JOIN t_wechat_delivery w
            ON w.event_id = r.event_id AND w.recipient = r.recipient AND w.template_id = r.template_id
               AND w.app_id = r.app_id AND w.company_no = r.company_no
          LEFT JOIN LATERAL (
                SELECT id, reason FROM t_wechat_dead_letter
                 WHERE event_id = r.event_id AND recipient = r.recipient AND template_id = r.template_id
                   AND app_id = r.app_id AND company_no = r.company_no AND turn >= r.turn AND id <> r.letter
                 ORDER BY turn DESC, id DESC LIMIT 1) l ON true) d
    ON r.state = 'published' AND r.recipient IS NOT NULL
  -- A whole event: what its rows came to, or the letter it became again.
  LEFT JOIN LATERAL (
        SELECT CASE WHEN l.id IS NOT NULL THEN 'dead'
                    WHEN w.many = 0 OR w.unfinished > 0 THEN 'in_progress'
                    WHEN w.dead > 0 THEN 'dead' WHEN w.sent > 0 THEN 'sent' ELSE 'skipped' END AS outcome,
               l.reason, l.id AS later_letter
          FROM (SELECT count(*) AS many, count(*) FILTER (WHERE status = 'sent') AS sent,
                       count(*) FILTER (WHERE status = 'dead') AS dead,
                       count(*) FILTER (WHERE status IN ('planned', 'attempting', 'retrying')) AS unfinished
                  FROM t_wechat_delivery
                 WHERE event_id = r.event_id AND template_id = r.template_id AND app_id = r.app_id
                   AND company_no = r.company_no) w
          LEFT JOIN LATERAL (
                SELECT id, reason FROM t_wechat_dead_letter
                 WHERE event_id = r.event_id AND recipient IS NULL AND template_id = r.template_id
                   AND app_id = r.app_id AND company_no = r.company_no AND id > p.cut_off AND id <> r.letter
                 ORDER BY id DESC LIMIT 1) l ON true) e
    ON r.state = 'published' AND r.recipient IS NULL;
