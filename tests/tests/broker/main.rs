//! A real RabbitMQ and the real server fail again and again, in every way that operators know, while
//! clients work. A consumer that drops repeats by id ends with exactly the events of the database, in
//! the order of each subject.
//!
//! `BROKER_POINTS` = how often (6), `CRASH_SEED` = how and when. A seed repeats what is done, not how
//! the host schedules it.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "whoever reads a failure needs the seed and the points")]

mod consumer;
mod rabbit;
mod stage;

use std::time::Duration;

use tests::{
    Database,
    chance::{self, Chance},
    run::skipped,
};

use crate::stage::Stage;

tests::stories![a_broker_that_fails_again_and_again];

const POINTS: u32 = 6;
/// What fails is left alone for at most this long before, and while it fails.
const MOST_BETWEEN: Duration = Duration::from_millis(1500);
const MOST_BROKEN: Duration = Duration::from_secs(3);

/// What happens at a point.
#[derive(Debug, Clone, Copy)]
enum Failure {
    BrokerStops,
    ConnectionsClose,
    DiskFills,
    QueueGoes,
    ServerDies,
    /// The server dies while there is no broker.
    BothDie,
}

const FAILURES: [Failure; 6] = [
    Failure::BrokerStops,
    Failure::ConnectionsClose,
    Failure::DiskFills,
    Failure::QueueGoes,
    Failure::ServerDies,
    Failure::BothDie,
];

/// Each way to fail comes once before any comes twice, in an order that the seed decides.
async fn a_broker_that_fails_again_and_again(database: Database) {
    if let Some(reason) = rabbit::cannot_run() {
        return skipped("broker", reason);
    }
    let (seed, points) = (chance::seed(), chance::number("BROKER_POINTS").unwrap_or(POINTS));
    println!("{}: CRASH_SEED={seed} BROKER_POINTS={points}", database.name());
    let mut chance = Chance::new(seed);

    let mut stage = Stage::set(database).await;
    let mut deck = Vec::new();
    for point in 0..points {
        if deck.is_empty() {
            deck.extend(FAILURES);
        }
        let at = usize::try_from(chance.below(deck.len() as u64)).unwrap();
        let failure = deck.swap_remove(at);
        let (wait, broken) = (chance.up_to(MOST_BETWEEN), chance.up_to(MOST_BROKEN));
        // When it happens, and for how long, is what this is about.
        tokio::time::sleep(wait).await;
        stage.suffers(failure, broken).await;
        println!(
            "{}: point {point}: {failure:?} after {wait:.0?} for {broken:.0?}: {}",
            database.name(),
            stage.state().await
        );
    }
    stage.finishes_the_load().await;
    stage.checks_that_everything_came().await;
    println!("{}: {}", database.name(), stage.close().await);
}
