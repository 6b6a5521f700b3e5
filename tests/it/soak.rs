//! A soak: a steady load of all kinds of events, and everything goes wrong at random, several things at once. Then all is
//! healed, everything must end, and the books must add up. `tests/soak` runs it; it is not part of the suite.

mod account;
mod plan;
mod publisher;
mod stage;

use std::time::{Duration, Instant};

use account::Account;
use plan::Plan;
use publisher::Publisher;
use stage::Stage;

/// After the last fault. The longest wait there is by design is a pause that is probed, then a lane that is looked for.
const SETTLES_WITHIN: Duration = Duration::from_secs(180);

/// What `tests/soak` was asked for.
struct Order {
    length: Duration,
    seed: u64,
    processes: usize,
}

impl Order {
    fn of_the_script() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<f64>().unwrap());
        Self {
            length: Duration::from_secs_f64(number("WN_SOAK_MINUTES").unwrap_or(2.0) * 60.0),
            seed: std::env::var("WN_SOAK_SEED")
                .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap()),
            processes: number("WN_SOAK_PROCESSES").unwrap_or(2.0) as usize,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and servers of its own; tests/soak runs it"]
async fn everything_goes_wrong_and_the_books_add_up() {
    let order = Order::of_the_script();
    let plan = Plan::of(order.seed, order.length, order.processes);
    println!("seed {}: {} faults planned\n{plan}", order.seed, plan.deeds.len());
    let mut stage = Stage::set(order.processes).await;
    let publisher = Publisher::start(&stage.world, order.seed, order.length);

    let began = Instant::now();
    for deed in &plan.deeds {
        tokio::time::sleep(deed.at.saturating_sub(began.elapsed())).await;
        stage.does(deed).await;
    }
    tokio::time::sleep(order.length.saturating_sub(began.elapsed())).await;
    let published = publisher.ends().await;

    stage.heals().await;
    let healed = Instant::now();
    let settled = stage.settles(SETTLES_WITHIN, published.least_rows()).await;
    let account = Account::of(&stage, &order, &plan, &published, settled.then(|| healed.elapsed())).await;
    println!("{account}");
    let faults = account.faults();
    // The daemons are still there: they tell their logs when this fails.
    assert!(
        faults.is_empty(),
        "seed {}: {}\n{}",
        order.seed,
        faults.join("; "),
        stage.first_gaps().await.join("\n")
    );
}
