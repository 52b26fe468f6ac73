//! Messages between the processes of an installation, on PostgreSQL only: with SQLite there is one
//! process. They are hints that come at most once; nothing may depend on one arriving.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait,
    sqlx::Executor,
    sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    db::{Backend, Db, Sql, Tx},
    error::{Error, Result},
};

const CHANNEL: &str = "crownest";
/// PostgreSQL's limit.
const MAX_PAYLOAD: usize = 8_000;
/// After so long without a message the connection is tried, because a peer that vanished without a
/// word looks like one that has nothing to say.
const IDLE: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(250);

/// Sends a message when the transaction commits. Does nothing on SQLite.
///
/// # Errors
/// [`Error::Corrupt`] for a payload of 8000 bytes or more.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn notify(tx: &Tx, payload: &str) -> Result<()> {
    if payload.len() >= MAX_PAYLOAD || payload.contains('\0') {
        return Err(Error::Corrupt(
            "a message must be less than 8000 bytes without NUL".to_owned(),
        ));
    }
    if tx.get_database_backend() == sea_orm::DbBackend::Postgres {
        let sql = Sql::new("select pg_notify($1, $2)", [CHANNEL.into(), payload.into()]);
        sql.execute(tx).await?;
    }
    Ok(())
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// The channel works from here on. What was sent before is lost.
    Up,
    /// Somebody sent this.
    Message(String),
    /// The channel does not work any more, since at most a few seconds. `Up` follows once it does.
    Down,
}

/// Hears what is sent, until it is dropped.
#[derive(Debug)]
pub struct Listener {
    signals: mpsc::Receiver<Signal>,
}

impl Listener {
    /// The next signal. Safe to drop and call again. `None` never comes while the runtime lives.
    pub async fn next(&mut self) -> Option<Signal> {
        self.signals.recv().await
    }
}

/// Starts to listen; `None` on SQLite. The first signal is `Up`, as soon as the channel is.
#[must_use]
pub fn listen(db: &Db) -> Option<Listener> {
    if db.backend() == Backend::Sqlite {
        return None;
    }
    let options = db.read().get_postgres_connection_pool().connect_options().as_ref().clone();
    let (sender, signals) = mpsc::channel(1_024);
    tokio::spawn(async move {
        // Ends when the listener is dropped, at the latest when the connection is tried next.
        let work = run(&options, &sender);
        tokio::select! { () = work => {}, () = sender.closed() => {} }
    });
    Some(Listener { signals })
}

async fn run(options: &PgConnectOptions, signals: &mpsc::Sender<Signal>) {
    loop {
        match timeout(DEADLINE, connect(options)).await {
            Ok(Ok(mut connection)) => {
                if signals.send(Signal::Up).await.is_err() {
                    return;
                }
                let reason = hear(&mut connection, signals).await;
                tracing::info!(reason, "the notification channel is down");
                if signals.send(Signal::Down).await.is_err() {
                    return;
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "the notification channel stays down"),
            Err(_) => tracing::debug!("the notification channel stays down: no answer"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// A connection of its own: it never returns to the pool, and the pool's limits do not apply to it.
async fn connect(
    options: &PgConnectOptions,
) -> std::result::Result<PgListener, sea_orm::SqlxError> {
    let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
    let pool = pool.connect_with(options.clone()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Passes messages on until the connection fails, and says how it did.
async fn hear(connection: &mut PgListener, signals: &mpsc::Sender<Signal>) -> String {
    loop {
        match timeout(IDLE, connection.try_recv()).await {
            Ok(Ok(Some(message))) => {
                let message = Signal::Message(message.payload().to_owned());
                if signals.send(message).await.is_err() {
                    return "nobody listens".to_owned();
                }
            }
            // It would reconnect by itself, and nobody would know that messages were lost.
            Ok(Ok(None)) => return "the server closed the connection".to_owned(),
            Ok(Err(error)) => return error.to_string(),
            Err(_) => match timeout(DEADLINE, connection.execute("select 1")).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return "the server does not answer".to_owned(),
            },
        }
    }
}
