//! `kill -9` of the real server at random instants, while clients create sandboxes, run commands and
//! kill sandboxes on the local driver; then the next server takes over. Says what must hold on the
//! host, in the database and for the clients; the load itself is in `load`.
//!
//! `CRASH_POINTS` = how often (4), `CRASH_SEED` = which instants. A seed repeats what is done and
//! when the server is killed, not how the host schedules it.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "whoever reads a failure needs the seed and the points")]

mod answers;
mod books;
mod commands;
mod follower;
mod host;
mod journal;
mod load;
mod stage;

use std::time::Duration;

use tests::{
    Database,
    chance::{self, Chance},
    run::skipped,
    serving::cannot_run_sandboxes,
};

use crate::stage::Stage;

tests::stories![a_server_that_is_killed_again_and_again];

const POINTS: u32 = 4;
/// A killed server lived at most this long, from its start or from the start of its load.
const MOST_AT_START: Duration = Duration::from_millis(400);
const MOST_UNDER_LOAD: Duration = Duration::from_secs(2);
/// Long enough for what the last server left to be taken up: that is cut short, too.
const MOST_OF_A_LONG_LIFE: Duration = Duration::from_secs(20);

/// What a server that is killed is doing at that time.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Starting,
    UnderLoad,
    TakingUp,
}

impl Moment {
    fn of(point: u32, chance: &mut Chance) -> Self {
        if point % 5 == 4 {
            Self::TakingUp
        } else if chance.below(5) == 0 {
            Self::Starting
        } else {
            Self::UnderLoad
        }
    }

    const fn at_most(self) -> Duration {
        match self {
            Self::Starting => MOST_AT_START,
            Self::UnderLoad => MOST_UNDER_LOAD,
            Self::TakingUp => MOST_OF_A_LONG_LIFE,
        }
    }
}

/// A host's server is killed again and again in the middle of its work. Its sandboxes do not notice,
/// and its clients, who try again with the same keys, get everything exactly once.
async fn a_server_that_is_killed_again_and_again(database: Database) {
    if let Some(reason) = cannot_run_sandboxes().await {
        return skipped("crash", &reason);
    }
    let (seed, points) = (chance::seed(), chance::number("CRASH_POINTS").unwrap_or(POINTS));
    println!("{}: CRASH_SEED={seed} CRASH_POINTS={points}", database.name());
    let mut chance = Chance::new(seed);

    let mut stage = Stage::set(database, chance.fork()).await;
    for point in 0..points {
        let moment = Moment::of(point, &mut chance);
        let life = chance.up_to(moment.at_most());
        match moment {
            Moment::Starting => stage.starts_server_blindly(),
            Moment::UnderLoad | Moment::TakingUp => stage.starts_server_with_load().await,
        }
        // The one sleep: when the server dies is what this is about.
        tokio::time::sleep(life).await;
        let killed = stage.kills_server().await;
        println!(
            "{}: point {point}: {moment:?}, killed after {life:.0?}: {killed}",
            database.name()
        );
        stage.checks_the_dead().await;
    }
    stage.starts_server().await;
    stage.finishes_the_load().await;
    stage.checks_the_living().await;
    stage.checks_what_ran().await;
    stage.checks_every_retry().await;
    stage.kills_all_sandboxes().await;
    stage.checks_that_nothing_is_left().await;
    println!("{}: {}", database.name(), stage.close().await);
}
