//! What a table of another shape holds is reported by column, also where it changes below a running daemon.

use wechat_notifier::db::registry::{apps, rules};
use wechat_notifier::db::{Error, migrate};
use wechat_notifier::domain::ids::{AppId, CompanyNo, TemplateId};

use crate::scratch::Scratch;

#[tokio::test]
async fn a_column_of_another_type_is_an_error_that_names_it_not_a_panic() {
    let scratch = Scratch::new().await;
    let db = scratch.database();
    migrate::apply(&db).await.unwrap();
    scratch
        .client()
        .await
        .simple_query(
            "INSERT INTO t_wechat_app (app_id) VALUES ('wx1');
             ALTER TABLE t_wechat_app ALTER COLUMN update_time TYPE timestamp",
        )
        .await
        .unwrap();

    let error = apps::list(&db).await.unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains("column update_time") && told.contains("`timestamp`"), "{told}");
}

#[tokio::test]
async fn a_row_that_a_trigger_swallows_is_an_error_not_a_panic() {
    let scratch = Scratch::new().await;
    let db = scratch.database();
    migrate::apply(&db).await.unwrap();
    scratch
        .client()
        .await
        .simple_query(
            "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER swallow BEFORE INSERT ON t_wechat_message_user FOR EACH ROW EXECUTE FUNCTION swallow()",
        )
        .await
        .unwrap();

    let rule = rules::NewRule {
        company_no: CompanyNo::parse("C001").unwrap(),
        app_id: AppId::parse("wx1").unwrap(),
        template_id: TemplateId::parse("T1").unwrap(),
        customer_id: None,
        sys_user_ids: Vec::new(),
        openids: Vec::new(),
    };
    let error = rules::add(&db, &rule).await.unwrap_err();
    assert!(error.to_string().contains("registry::add_rule"), "{error}");
}
