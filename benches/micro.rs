//! The small things that every event passes through: decoding, batching towards PostgreSQL, and the bookkeeping of acks.
//!
//!     cargo bench --features bench --bench micro

use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::runtime::Runtime;
use wechat_notifier::amqp::AckWindow;
use wechat_notifier::db::Error;
use wechat_notifier::db::batch::Batcher;
use wechat_notifier::domain::event::{Arrival, Event};
use wechat_notifier::lifecycle::{Task, Tasks};

/// As many as the default prefetch.
const WINDOW: u16 = 800;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// An everyday event, and one that names this many users by itself.
#[divan::bench(args = [0, 10, 500])]
fn decode_an_event(bencher: Bencher<'_, '_>, named: usize) {
    let body = event(named);
    let arrival = Arrival {
        message_id: None,
        timestamp: None,
        first_seen: Timestamp::UNIX_EPOCH,
        default_ttl: Duration::from_secs(72 * 3600),
    };
    bencher.bench(|| Event::decode(black_box(&body), &arrival).expect("a sound event"));
}

/// Settlements in the order of their tags: each round is one prefix.
#[divan::bench]
fn acks_in_order(bencher: Bencher<'_, '_>) {
    let tags: Vec<u64> = (1..=u64::from(WINDOW)).collect();
    bencher.counter(ItemsCount::new(tags.len())).bench(|| settled_in_rounds(&tags));
}

/// Settlements out of order, as parallel requests end: gaps open and close.
#[divan::bench]
fn acks_out_of_order(bencher: Bencher<'_, '_>) {
    // 17 and 800 have no common divisor, so every tag comes once.
    let tags: Vec<u64> = (0..u64::from(WINDOW)).map(|i| i * 17 % u64::from(WINDOW) + 1).collect();
    bencher.counter(ItemsCount::new(tags.len())).bench(|| settled_in_rounds(&tags));
}

/// So many askers at once and a statement that costs nothing: what is left is the batcher.
#[divan::bench(args = [1, 16, 256])]
fn batch_while_busy(bencher: Bencher<'_, '_>, askers: usize) {
    let runtime = Runtime::new().expect("a runtime");
    let batcher = runtime.block_on(async {
        Batcher::start(
            (&Tasks::default(), Task::PlanBatch),
            256,
            Arc::new(|items: &[u64]| Box::pin(async { Ok::<_, Error>(items.to_vec()) })),
            |_| (),
        )
    });
    bencher
        .counter(ItemsCount::new(askers))
        .bench_local(|| runtime.block_on(join_all((0..askers as u64).map(|number| batcher.submit(number)))));
}

/// Settles tags and takes what is due after each ten, as the writer of the acks does.
fn settled_in_rounds(tags: &[u64]) -> AckWindow {
    let (mut window, now) = (AckWindow::new(WINDOW), Instant::now());
    for round in tags.chunks(10) {
        for tag in round {
            window.settle(*tag, now);
        }
        black_box(window.take_due(now));
    }
    window
}

fn event(named: usize) -> Vec<u8> {
    let openids: Vec<String> = (0..named).map(|i| format!("oABCDEFGHIJKLMNOPQRSTU{i:06}")).collect();
    let event = serde_json::json!({
        "event_id": "pay-20261122-000017", "company_no": "C001", "app_id": "wx0123456789abcdef",
        "template_id": "i6Mr7Qlw-w3KAxRz0ol84rPTXmvCoFwJgIHOw1tbiAI",
        "customer_id": "M100", "openids": openids, "page": "pages/pay/detail?id=17",
        "data": { "amount1": { "value": "¥100.00" }, "thing2": "广州至北京", "date3": "2026-11-22 10:00" },
        "occurred_at": "2026-11-22T10:00:00+08:00",
    });
    event.to_string().into_bytes()
}
