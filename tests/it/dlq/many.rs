//! Fifty thousand dead letters: an operator gets his answer at once, and memory stays bounded.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use wechat_notifier::db::dead_letters::{self, Filter};

use crate::cli::terminal::Terminal;

const DEAD_LETTERS: i64 = 50_000;
/// What an operator is promised.
const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn fifty_thousand_dead_letters_answer_within_a_second() {
    let terminal = Terminal::new().await;
    fill(&terminal.scratch.client().await).await;
    let db = terminal.scratch.database();
    // Connecting is not the archive's matter.
    drop(db.durable().await.unwrap());

    let groups = timed("groups", dead_letters::groups(&db, &Filter::default(), 100)).await.unwrap();
    assert_eq!(groups.iter().map(|group| group.dead_letters).sum::<i64>(), DEAD_LETTERS);
    let none = Filter { reason: Some("panicked".to_owned()), ..Filter::default() };
    assert!(
        timed("a list that finds nothing", dead_letters::list(&db, &none, None, 100))
            .await
            .unwrap()
            .is_empty()
    );
    for (what, filter) in filters() {
        let found = timed(what, dead_letters::list(&db, &filter, None, 100)).await.unwrap();
        assert!(!found.is_empty(), "{what}");
    }
    let dead_letter = timed("show", dead_letters::show(&db, DEAD_LETTERS / 2)).await.unwrap().unwrap();
    timed(
        "the dead letters of its delivery",
        dead_letters::of_delivery(&db, &dead_letter.archived.dead_letter.about, 100),
    )
    .await
    .unwrap();
    timed("its account", dead_letters::done_to(&db, DEAD_LETTERS / 2)).await.unwrap();
    timed("the metric", dead_letters::tally(&db)).await.unwrap();

    for line in ["dlq groups", "dlq list --user user-77", "dlq show 25000"] {
        let started = Instant::now();
        terminal.ok(line);
        assert!(started.elapsed() < 3 * AT_ONCE, "`{line}`, with its start, took {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn fifty_thousand_dead_letters_are_closed_in_batches() {
    let terminal = Terminal::new().await;
    let client = terminal.scratch.client().await;
    fill(&client).await;
    assert_eq!(
        terminal.ok("dlq resolve --company C001 --why outage --yes"),
        format!("resolved {DEAD_LETTERS} dead letters\n")
    );
    let account = client
        .query_one("SELECT count(*), count(DISTINCT act), sum(cardinality(dead_letters))::bigint FROM t_wechat_dead_letter_action", &[])
        .await
        .unwrap();
    assert_eq!((account.get::<_, i64>(0), account.get::<_, i64>(1)), (50, 1), "batches of one act");
    assert_eq!(account.get::<_, i64>(2), DEAD_LETTERS);
}

fn filters() -> [(&'static str, Filter); 6] {
    let text = |text: &str| Some(text.to_owned());
    [
        ("by reason and code", Filter { reason: text("content"), errcode: Some(47003), ..Filter::default() }),
        ("by app", Filter { app_id: text("wx7"), ..Filter::default() }),
        ("by group", Filter { group: text("0003"), ..Filter::default() }),
        ("by event", Filter { event_id: text("pay-3"), ..Filter::default() }),
        ("by user", Filter { user: text("user-77"), ..Filter::default() }),
        ("by state and field", Filter { state: text("open"), field: text("thing2"), ..Filter::default() }),
    ]
}

/// Dead letters as a bad day leaves them: 40 groups, ten events for five thousand people each, a body and headers of usual size.
async fn fill(client: &Client) {
    client
        .execute(
            "INSERT INTO t_wechat_dead_letter
                    (identity, reason, class, errcode, field, app_id, template_id, company_no, event_id, recipient, openid,
                     sys_user_id, epoch, attempts, fingerprint, body, headers, archived_at)
             SELECT 'l' || n, CASE WHEN n % 4 = 0 THEN 'content' ELSE 'exhausted' END, 'transient',
                    CASE WHEN n % 4 = 0 THEN 47003 ELSE -1 END, CASE WHEN n % 4 = 0 THEN 'thing2' END,
                    'wx' || n % 10, 'T1', 'C001', 'pay-' || n % 10, 'openid-' || n, 'openid-' || n, 'user-' || n, 0, 6,
                    lpad(to_hex(n % 40), 4, '0') || '00000000', convert_to(repeat('订阅消息 ', 60), 'UTF8'),
                    jsonb_build_object('x-wn-errmsg', repeat('e', 200), 'x-wn-reason', 'exhausted'),
                    now() - n * interval '1 s'
               FROM generate_series(1, $1::bigint) n",
            &[&DEAD_LETTERS],
        )
        .await
        .unwrap();
    client.batch_execute("VACUUM ANALYZE t_wechat_dead_letter").await.unwrap();
}

async fn timed<T>(what: &str, answer: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let answer = answer.await;
    let took = started.elapsed();
    eprintln!("{what}: {took:?}");
    assert!(took < AT_ONCE, "{what} took {took:?}");
    answer
}
