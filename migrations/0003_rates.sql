-- How many requests of an app's day are used or reserved; see daily_quota of t_wechat_app. A row per app with a quota and day.
CREATE TABLE t_wechat_quota (
    app_id text NOT NULL,
    day    date NOT NULL,                        -- by Beijing's clock
    used   bigint NOT NULL DEFAULT 0,            -- with what running processes hold in hand
    PRIMARY KEY (app_id, day)
) WITH (fillfactor = 50);                        -- one row is updated again and again: in place
