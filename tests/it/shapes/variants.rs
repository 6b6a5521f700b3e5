//! The three tables as others made them before us, five ways. Each binds a business user to `oAlice` and names her in a rule.

use crate::support::{APP, COMPANY, TEMPLATE};

/// Tables of another shape, and what a complete list must name: each as `table.column`.
pub struct Variant {
    pub name: &'static str,
    pub tables: String,
    /// Of its rule.
    pub company: &'static str,
    pub template: &'static str,
    pub differs: &'static [&'static str],
}

/// All of them.
pub fn all() -> [Variant; 5] {
    [tutorial(), by_text(), hand_written(), with_duplicates(), of_another_framework()]
}

/// As a tutorial has them.
fn tutorial() -> Variant {
    Variant {
        name: "the tutorial's own",
        company: COMPANY,
        template: TEMPLATE,
        tables: format!(
            "CREATE TABLE t_wechat_app (
                 id varchar(32) NOT NULL PRIMARY KEY, app_id varchar(32) NOT NULL, app_name varchar(64),
                 app_secret varchar(64), access_token varchar(512), token_exp_time timestamp, create_by varchar(32),
                 create_time timestamp, update_by varchar(32), update_time timestamp, remarks varchar(255));
             CREATE TABLE t_wechat_user (
                 id varchar(32) NOT NULL PRIMARY KEY, app_id varchar(32), openid varchar(64), unionid varchar(64),
                 nick_name varchar(64), avatar_url varchar(255), session_key varchar(64), subscribe_template text,
                 sys_user_id varchar(32), username varchar(64), status char(1) DEFAULT '1', create_by varchar(32),
                 create_time timestamp, update_by varchar(32), update_time timestamp, remarks varchar(255));
             CREATE TABLE t_wechat_message_user (
                 id varchar(32) NOT NULL PRIMARY KEY, company_no varchar(32), app_id varchar(32), template_id varchar(64),
                 customer_id varchar(32), sys_user_ids varchar(1000), status char(1) DEFAULT '1', create_by varchar(32),
                 create_time timestamp, update_by varchar(32), update_time timestamp, remarks varchar(255));
             CREATE TABLE t_shop_member (
                 number int PRIMARY KEY, wechat_user varchar(32) REFERENCES t_wechat_user (id));
             INSERT INTO t_wechat_app (id, app_id, app_secret, update_time)
                  VALUES ('a1', '{APP}', 'secret', '2026-11-01 10:00:00');
             INSERT INTO t_wechat_user (id, app_id, openid, sys_user_id, subscribe_template, status, update_time)
                  VALUES ('u1', '{APP}', 'oAlice', 'alice', '{{\"{TEMPLATE}\": {{\"status\": \"accept\"}}}}', '1', NULL),
                         ('u2', '{APP}', 'oBob', 'bob', '', '0', '2026-11-01 10:00:00');
             INSERT INTO t_shop_member VALUES (1, 'u1');
             INSERT INTO t_wechat_message_user (id, company_no, app_id, template_id, sys_user_ids, status)
                  VALUES ('r1', '{COMPANY}', '{APP}', '{TEMPLATE}', 'bob, alice', '1');"
        ),
        differs: &[
            "t_wechat_app.id",
            "t_wechat_app.app_secret",
            "t_wechat_app.access_token",
            "t_wechat_app.token_exp_time",
            "t_wechat_app.update_time",
            "t_wechat_app.status",
            "t_wechat_user.id",
            "t_wechat_user.subscribe_template",
            "t_wechat_user.update_time",
            "t_wechat_user.status",
            "t_wechat_message_user.id",
            "t_wechat_message_user.sys_user_ids",
            "t_wechat_message_user.update_time",
            "t_wechat_message_user.status",
        ],
    }
}

/// Everything a text of fixed width.
fn by_text() -> Variant {
    Variant {
        name: "all of it text",
        company: COMPANY,
        template: TEMPLATE,
        tables: format!(
            "CREATE TABLE t_wechat_app (
                 id char(20) NOT NULL PRIMARY KEY, app_id char(32), app_name char(32) NOT NULL, app_secret char(64),
                 access_token text NOT NULL DEFAULT '', token_exp_time varchar(32) DEFAULT '', update_time varchar(32),
                 create_by char(8), update_by char(8), status varchar(4));
             CREATE TABLE t_wechat_user (
                 id char(20) NOT NULL PRIMARY KEY, app_id char(32), openid char(64), subscribe_template json,
                 sys_user_id char(32), username char(32), status varchar(4), create_by char(8), update_by char(8),
                 update_time varchar(32));
             CREATE TABLE t_wechat_message_user (
                 id char(20) NOT NULL PRIMARY KEY, company_no char(32), app_id char(32), template_id char(64),
                 customer_id char(32) NOT NULL, sys_user_ids json, openids varchar(200), status varchar(4),
                 create_by char(8), update_by char(8), update_time varchar(32));
             INSERT INTO t_wechat_app VALUES ('1', '{APP}', 'Shop', 'secret', '', '', '2026-11-01 10:00:00', 'a', 'a', '1');
             INSERT INTO t_wechat_user VALUES ('1', '{APP}', 'oAlice', '{{\"{TEMPLATE}\": {{\"status\": \"accept\"}}}}',
                                               'alice', 'Alice', '1', 'a', 'a', '');
             INSERT INTO t_wechat_message_user VALUES ('1', '{COMPANY}', '{APP}', '{TEMPLATE}', '', '[\"alice\", \"bob\"]',
                                                       '', '1', 'a', 'a', NULL);"
        ),
        differs: &[
            "t_wechat_app.id",
            "t_wechat_app.app_id",
            "t_wechat_app.app_name",
            "t_wechat_app.app_secret",
            "t_wechat_app.token_exp_time",
            "t_wechat_app.create_by",
            "t_wechat_app.update_by",
            "t_wechat_app.update_time",
            "t_wechat_app.status",
            "t_wechat_user.id",
            "t_wechat_user.app_id",
            "t_wechat_user.openid",
            "t_wechat_user.subscribe_template",
            "t_wechat_user.sys_user_id",
            "t_wechat_user.username",
            "t_wechat_user.create_by",
            "t_wechat_user.update_by",
            "t_wechat_user.update_time",
            "t_wechat_user.status",
            "t_wechat_message_user.id",
            "t_wechat_message_user.company_no",
            "t_wechat_message_user.app_id",
            "t_wechat_message_user.template_id",
            "t_wechat_message_user.customer_id",
            "t_wechat_message_user.sys_user_ids",
            "t_wechat_message_user.openids",
            "t_wechat_message_user.create_by",
            "t_wechat_message_user.update_by",
            "t_wechat_message_user.update_time",
            "t_wechat_message_user.status",
        ],
    }
}

/// Small types, no numbers by themselves, half of the columns left out.
fn hand_written() -> Variant {
    Variant {
        name: "written by hand",
        company: COMPANY,
        template: TEMPLATE,
        tables: format!(
            "CREATE TABLE t_wechat_app (id int NOT NULL PRIMARY KEY, app_id text, app_secret text, expires int,
                                        token_exp_time bigint);
             CREATE TABLE t_wechat_user (id int NOT NULL, app_id text, openid text, sys_user_id bigint, tenant text NOT NULL,
                                         subscribe_template jsonb);
             CREATE TABLE t_wechat_message_user (id bigint, company_no text, app_id text, template_id text,
                                                 sys_user_ids bigint[], status boolean DEFAULT true);
             INSERT INTO t_wechat_app VALUES (7, '{APP}', 'secret', 1, 1700000000);
             INSERT INTO t_wechat_user VALUES (7, '{APP}', 'oAlice', 1001, 't', '{{\"{TEMPLATE}\": {{\"status\": \"accept\"}}}}');
             INSERT INTO t_wechat_message_user VALUES (NULL, '{COMPANY}', '{APP}', '{TEMPLATE}', '{{1001}}', NULL);"
        ),
        differs: &[
            "t_wechat_app.id",
            "t_wechat_app.app_name",
            "t_wechat_app.access_token",
            "t_wechat_app.token_exp_time",
            "t_wechat_app.create_by",
            "t_wechat_app.update_by",
            "t_wechat_app.update_time",
            "t_wechat_app.status",
            "t_wechat_user.id",
            "t_wechat_user.sys_user_id",
            "t_wechat_user.tenant",
            "t_wechat_user.username",
            "t_wechat_user.create_by",
            "t_wechat_user.update_by",
            "t_wechat_user.update_time",
            "t_wechat_user.status",
            "t_wechat_message_user.id",
            "t_wechat_message_user.customer_id",
            "t_wechat_message_user.sys_user_ids",
            "t_wechat_message_user.create_by",
            "t_wechat_message_user.update_by",
            "t_wechat_message_user.update_time",
            "t_wechat_message_user.status",
        ],
    }
}

/// The right types, and rows that share what must be unique; a table of another purpose has a name of ours.
fn with_duplicates() -> Variant {
    Variant {
        name: "with duplicates",
        company: COMPANY,
        template: TEMPLATE,
        tables: format!(
            "CREATE TABLE t_wechat_app (
                 id bigserial PRIMARY KEY, app_id text, app_name text, app_secret text, access_token text,
                 token_exp_time timestamptz, create_by text, update_by text, update_time timestamptz DEFAULT now(),
                 status smallint NOT NULL DEFAULT 1);
             CREATE TABLE t_wechat_user (
                 id bigserial, app_id text, openid text, subscribe_template jsonb, sys_user_id text, username text,
                 create_by text, update_by text, update_time timestamptz DEFAULT now(), status smallint DEFAULT 0);
             CREATE TABLE t_wechat_message_user (
                 id bigserial PRIMARY KEY, company_no text, app_id text, template_id text, customer_id text,
                 sys_user_ids text[], create_by text, update_by text, update_time timestamptz DEFAULT now(),
                 status integer NOT NULL DEFAULT 1);
             CREATE TABLE t_wechat_template (id bigserial PRIMARY KEY, name text);
             INSERT INTO t_wechat_app (app_id, app_secret, update_time)
                  VALUES ('{APP}', 'secret', '2026-11-02'), ('{APP}', 'old', '2026-11-01');
             INSERT INTO t_wechat_user (app_id, openid, sys_user_id, subscribe_template, update_time, status)
                  VALUES ('{APP}', 'oAlice', 'alice', '{{}}', '2026-11-01', 1),
                         ('{APP}', 'oAlice', 'alice', '{{\"{TEMPLATE}\": {{\"status\": \"accept\"}}}}', '2026-11-02', 1);
             INSERT INTO t_wechat_message_user (company_no, app_id, template_id, sys_user_ids)
                  VALUES ('{COMPANY}', '{APP}', '{TEMPLATE}', '{{alice}}');"
        ),
        differs: &[
            "t_wechat_app.app_id",
            "t_wechat_user.status",
            "t_wechat_user.app_id, openid",
            "t_wechat_user.id",
            "t_wechat_template",
        ],
    }
}

/// Numbers made elsewhere, flags and times of other types, a key of the company's own.
fn of_another_framework() -> Variant {
    Variant {
        name: "of another framework",
        company: "4711",
        template: "T",
        tables: format!(
            "CREATE TABLE t_wechat_app (
                 \"App Key\" uuid NOT NULL PRIMARY KEY, app_id varchar, app_name varchar, app_secret varchar,
                 access_token varchar(2000), token_exp_time timestamp(0), create_by bigint, create_time date NOT NULL,
                 update_by bigint, update_time date, status numeric(1) DEFAULT 1);
             CREATE TABLE t_wechat_user (
                 id numeric(20) NOT NULL PRIMARY KEY, app_id varchar, openid varchar(20), subscribe_template varchar,
                 sys_user_id varchar, username varchar, create_by bigint, update_by bigint, update_time timestamp DEFAULT now(),
                 status smallint DEFAULT 1);
             CREATE TABLE t_wechat_message_user (
                 id serial PRIMARY KEY, company_no integer, app_id varchar, template_id varchar(32), customer_id bigint,
                 sys_user_ids varchar[] NOT NULL DEFAULT '{{}}', create_by bigint, update_by bigint,
                 update_time timestamptz, status smallint NOT NULL);
             INSERT INTO t_wechat_app VALUES (gen_random_uuid(), '{APP}', 'Shop', 'secret', '', NULL, 1, now(), 1, now(), 1);
             INSERT INTO t_wechat_user VALUES (1189998819991197253, '{APP}', 'oAlice',
                                               '{{\"T\": {{\"status\": \"accept\"}}}}', 'alice', NULL, 1, 1, now(), NULL);
             INSERT INTO t_wechat_message_user (company_no, app_id, template_id, sys_user_ids, status)
                  VALUES (4711, '{APP}', 'T', '{{alice}}', 1);"
        ),
        differs: &[
            "t_wechat_app.App Key",
            "t_wechat_app.create_time",
            "t_wechat_app.token_exp_time",
            "t_wechat_app.create_by",
            "t_wechat_app.update_by",
            "t_wechat_app.update_time",
            "t_wechat_app.status",
            "t_wechat_user.id",
            "t_wechat_user.openid",
            "t_wechat_user.subscribe_template",
            "t_wechat_user.create_by",
            "t_wechat_user.update_by",
            "t_wechat_user.update_time",
            "t_wechat_user.status",
            "t_wechat_message_user.id",
            "t_wechat_message_user.company_no",
            "t_wechat_message_user.template_id",
            "t_wechat_message_user.customer_id",
            "t_wechat_message_user.sys_user_ids",
            "t_wechat_message_user.create_by",
            "t_wechat_message_user.update_by",
            "t_wechat_message_user.status",
        ],
    }
}
