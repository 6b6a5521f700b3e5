-- What is not sent to just now, and why: written by every daemon for the pauses it came to by itself, and by operators.
-- Daemons refresh their rows every few seconds, so a row of a dead one is known by its age.
CREATE TABLE t_wechat_pause (
    app_id      text NOT NULL,
    template_id text NOT NULL DEFAULT '',       -- empty: the whole app
    process     text NOT NULL DEFAULT '',       -- host:pid:nonce of the daemon; empty: by hand, for all of them
    reason      text NOT NULL,
    errcode     bigint,
    detail      text,                           -- the blocked address, WeChat's words, or the operator's
    since       timestamptz NOT NULL DEFAULT now(),
    until       timestamptz,                    -- the next probe, where one is due
    operator    text,
    probe_asked boolean NOT NULL DEFAULT false, -- an operator wants it tried at once
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, template_id, process)
);
