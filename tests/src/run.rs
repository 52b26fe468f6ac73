//! Runs a story as a test: a runtime, captured logs, and a visible line when it cannot run here.

use std::{future::Future, io::Write};

use store::testing::POSTGRES_URL;

use crate::logs::Logs;

/// The databases that every story runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    Postgres,
}

impl Database {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// Runs one story on one database.
pub fn story<F: Future<Output = ()>>(database: Database, story: impl FnOnce(Database) -> F) {
    if database == Database::Postgres && std::env::var_os(POSTGRES_URL).is_none() {
        skipped("postgres", &format!("{POSTGRES_URL} is not set"));
        return;
    }
    // Each thread of the runtime gets the capture, so nothing of another story gets in, and nothing
    // that this one spawns gets lost.
    let logs = Logs::new();
    let _here = logs.capture();
    runtime(&logs).block_on(story(database));
}

/// A runtime whose threads log into `logs`.
pub(crate) fn runtime(logs: &Logs) -> tokio::runtime::Runtime {
    let logs = logs.clone();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(move || logs.capture_on_this_thread())
        .on_thread_stop(Logs::release_this_thread)
        .build()
        .unwrap()
}

/// Says what did not run, to whoever reads the output and to the script that sums up.
#[expect(clippy::print_stdout, reason = "a skip must be seen")]
pub fn skipped(name: &str, reason: &str) {
    println!("SKIPPED {name}: {reason}");
    let Some(file) = std::env::var_os("TEST_SKIPS_FILE") else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
    file.write_all(format!("{name}\t{reason}\n").as_bytes()).unwrap();
}
