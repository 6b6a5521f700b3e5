-- Every delivery looks into these indexes. A comparison of keys ends at the first column that differs, so the column that
-- differs most comes first: the app is the same for nearly all of them.
CREATE INDEX t_wechat_message_user_customer
    ON t_wechat_message_user (coalesce(customer_id, ''), template_id, app_id, company_no);
DROP INDEX t_wechat_message_user_lookup;
ALTER INDEX t_wechat_message_user_customer RENAME TO t_wechat_message_user_lookup;

CREATE INDEX t_wechat_user_name ON t_wechat_user (sys_user_id, app_id);
DROP INDEX t_wechat_user_sys_user;
ALTER INDEX t_wechat_user_name RENAME TO t_wechat_user_sys_user;

CREATE UNIQUE INDEX t_wechat_user_identity ON t_wechat_user (openid, app_id);
DROP INDEX t_wechat_user_openid;
ALTER INDEX t_wechat_user_identity RENAME TO t_wechat_user_openid;

-- A claim writes a row and its settlement writes it once more. Rows of one page are often settled together, before the old
-- versions can be cleared away; a page with room for both versions of each keeps them off other pages and out of the indexes.
ALTER TABLE t_wechat_delivery SET (fillfactor = 50);
