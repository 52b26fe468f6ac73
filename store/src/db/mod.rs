//! Connections to the database and transactions on them.

mod connect;
mod sql;
mod tx;

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend,
    IsolationLevel, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;
use tokio::runtime::Handle;

pub(crate) use sql::{Sql, count, signed, unsigned, word};
pub use tx::Tx;

use crate::error::{Error, Result};

/// For a database that vanished without a word; longer than every timeout that it has itself.
const DEADLINE: Duration = Duration::from_secs(45);

/// Waits for the database, but not for ever.
pub(crate) async fn in_time<T>(
    answer: impl Future<Output = std::result::Result<T, sea_orm::DbErr>>,
) -> Result<T> {
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(answer) => Ok(answer?),
        Err(late) => Err(Error::Unavailable(Box::new(late))),
    }
}

async fn begin(connection: &DatabaseConnection, options: TransactionOptions) -> Result<Tx> {
    let connection = connection.clone();
    let beginning = async move { connection.begin_with_options(options).await };
    in_time(Beginning(Some(Box::pin(beginning)))).await.map(Tx::new)
}

type BoxedBeginning = Pin<Box<dyn Future<Output = DbResult<DatabaseTransaction>> + Send>>;
type DbResult<T> = std::result::Result<T, sea_orm::DbErr>;

/// Begins a transaction to the end, even if nobody waits for it any more: a connection that is given back
/// while it begins one has one open that nobody knows of, and whatever is written through it next is not
/// there for anybody else, and gone with the connection.
struct Beginning(Option<BoxedBeginning>);

impl Future for Beginning {
    type Output = DbResult<DatabaseTransaction>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(beginning) = &mut self.0 else { return Poll::Pending };
        let begun = ready!(beginning.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(begun)
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        // Without a runtime its connection ends as well.
        if let (Some(beginning), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            // It is rolled back as soon as it has begun.
            runtime.spawn(async move { drop(beginning.await) });
        }
    }
}

/// What an operator may set about connections.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections at a time: all of them on PostgreSQL, those for reading on SQLite.
    pub max_connections: u32,
}

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The embedded one.
    Sqlite,
    /// The one for production.
    Postgres,
}

/// The open connections: all of them on PostgreSQL, those for reading on SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Those that somebody works with.
    pub used: u32,
    /// Those that wait for work.
    pub idle: u32,
}

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    /// The same pool twice on PostgreSQL. On SQLite, one connection that writes and a pool that
    /// cannot: readers never wait for the writer, and no reader can become one.
    write: DatabaseConnection,
    read: DatabaseConnection,
}

impl Db {
    /// Connects to `sqlite://<path>`, making the file and its folder, or to `postgres://..`.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] when it does not answer or the address is of no known kind.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn connect(url: &str, options: Options) -> Result<Self> {
        connect::connect(url, &options).await
    }

    /// Whether connecting would find a database: on SQLite it would else make one.
    #[must_use]
    pub fn exists(url: &str) -> bool {
        connect::exists(url)
    }

    /// Brings the schema up to date. Any number of processes may do so at the same time.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn migrate(&self) -> Result<()> {
        let tx = self.begin().await?;
        if self.backend() == Backend::Postgres {
            // Held until the transaction ends; whoever waits finds nothing left to do.
            tx.execute_unprepared("select pg_advisory_xact_lock(7162081294016413027)").await?;
            tx.execute_unprepared("set local statement_timeout = 0").await?;
        }
        migrations::Migrator::up(tx.inner(), None).await?;
        tx.commit().await
    }

    /// Begins a transaction. On SQLite it takes the write lock at once: one that reads first and
    /// writes later would fail, not wait, if another process wrote in between.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] when no connection or lock is free in time.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn begin(&self) -> Result<Tx> {
        let options = TransactionOptions {
            sqlite_transaction_mode: (self.backend() == Backend::Sqlite)
                .then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        begin(&self.write, options).await
    }

    /// Begins a transaction that only reads: all its statements see the database as it is at the first
    /// of them, whatever others write meanwhile. It is over when it is dropped.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] when no connection is free in time.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn snapshot(&self) -> Result<Tx> {
        let postgres = self.backend() == Backend::Postgres;
        let options = TransactionOptions {
            isolation_level: postgres.then_some(IsolationLevel::RepeatableRead),
            access_mode: postgres.then_some(AccessMode::ReadOnly),
            sqlite_transaction_mode: (!postgres).then_some(SqliteTransactionMode::Deferred),
        };
        begin(&self.read, options).await
    }

    /// For single statements that only read.
    #[must_use]
    pub const fn read(&self) -> &DatabaseConnection {
        &self.read
    }

    /// For single statements that write. On SQLite it waits for the open transaction to end, so
    /// whoever holds one must use that instead.
    #[must_use]
    pub const fn write(&self) -> &DatabaseConnection {
        &self.write
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] when not.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn ping(&self) -> Result<()> {
        in_time(self.read.execute_unprepared("select 1")).await.map(|_| ())
    }

    /// Which database it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        if self.write.get_database_backend() == DbBackend::Postgres {
            Backend::Postgres
        } else {
            Backend::Sqlite
        }
    }

    /// The connections that are open at present, without asking the database.
    #[must_use]
    pub fn connections(&self) -> Connections {
        let (open, idle) = match self.backend() {
            Backend::Postgres => {
                let pool = self.read.get_postgres_connection_pool();
                (pool.size(), pool.num_idle())
            }
            Backend::Sqlite => {
                let pool = self.read.get_sqlite_connection_pool();
                (pool.size(), pool.num_idle())
            }
        };
        let idle = u32::try_from(idle).unwrap_or(open).min(open);
        Connections { used: open - idle, idle }
    }

    /// Closes all connections and waits for them.
    ///
    /// # Errors
    /// As any statement.
    pub async fn close(self) -> Result<()> {
        self.read.close().await?;
        self.write.close().await?;
        Ok(())
    }
}
