//! Opens the pools, with every setting that correctness or speed depends on.

use std::{path::Path, time::Duration};

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection,
    sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{Db, Options};
use crate::error::{Error, Result};

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long SQLite waits for another process's write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any statement of ours takes; frees connections from those that hang.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Testing each time would double the round trips of a read; a connection that was just used lives.
const TEST_IF_IDLE_FOR: Duration = Duration::from_secs(30);

pub(super) async fn connect(url: &str, options: &Options) -> Result<Db> {
    if url.starts_with("sqlite:") {
        return sqlite(url, options).await;
    }
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        let pool = open(url, options.max_connections, |connect| {
            connect.statement_timeout(STATEMENT_TIMEOUT).set_application_name("crownest");
        })
        .await?;
        return Ok(Db { write: pool.clone(), read: pool });
    }
    Err(Error::Unavailable("a database address starts with sqlite:// or postgres://".into()))
}

pub(super) fn exists(url: &str) -> bool {
    // What is no address is told by `connect`.
    !url.starts_with("sqlite:")
        || url.parse().map_or(true, |parsed: SqliteConnectOptions| parsed.get_filename().is_file())
}

async fn sqlite(url: &str, options: &Options) -> Result<Db> {
    let parsed: SqliteConnectOptions = url.parse().map_err(Error::from)?;
    let file = parsed.get_filename().to_owned();
    if url.contains(":memory:") || url.contains("mode=memory") || file.as_os_str().is_empty() {
        return Err(Error::Unavailable("SQLite in memory is a database per connection".into()));
    }
    if let Some(folder) = file.parent().filter(|folder| *folder != Path::new("")) {
        std::fs::create_dir_all(folder).map_err(|error| Error::Unavailable(Box::new(error)))?;
    }
    let write = open(url, 1, |connect| {
        connect.map_sqlx_sqlite_opts(|sqlite| {
            sqlite
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                // In WAL mode, NORMAL may lose the last commits when the power fails.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(BUSY_TIMEOUT)
        });
    })
    .await?;
    let read = open(url, options.max_connections, |connect| {
        connect.map_sqlx_sqlite_opts(|sqlite| sqlite.read_only(true).busy_timeout(BUSY_TIMEOUT));
    })
    .await?;
    Ok(Db { write, read })
}

async fn open(
    url: &str,
    max_connections: u32,
    set: impl FnOnce(&mut ConnectOptions),
) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire_if_idle_for(TEST_IF_IDLE_FOR)
        .sqlx_logging(false)
        .record_stmt_in_spans(false);
    set(&mut options);
    Ok(Database::connect(options).await?)
}
