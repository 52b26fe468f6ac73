//! Connections to the AMQP broker, as the settings say. Knows no events.

use std::time::Duration;

use lapin::{
    Connection, ConnectionProperties,
    tcp::OwnedTLSConfig,
    types::{FieldTable, ShortString},
};
use tokio::time::timeout;

use crate::config::Config;

const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Why the broker cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The client says so; its text holds no credentials.
    #[error("{0}")]
    Client(#[from] lapin::Error),
    /// It does not answer.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// It refused to take a message.
    #[error("the broker refused a message")]
    Refused,
    /// It went away.
    #[error("the connection was closed")]
    Closed,
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
}

/// Connects under a name that operators see at the broker. Has no deadline.
///
/// # Errors
/// When the broker does not want to, or a setting makes no sense.
pub(crate) async fn connect(config: &Config, url: &str, name: String) -> Result<Connection, Error> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let mut tls = OwnedTLSConfig::default();
    if let Some(file) = &config.amqp_ca_file {
        let read = tokio::fs::read_to_string(file).await;
        tls.cert_chain = Some(read.map_err(|error| {
            Error::Setting(format!("amqp_ca_file {}: {error}", file.display()))
        })?);
    }
    let runtime = lapin::runtime::default_runtime()
        .map_err(|error| Error::Setting(format!("no runtime for the broker: {error}")))?;
    Ok(Connection::connect_with_config(url, properties, tls, runtime).await?)
}

/// Says goodbye, if there is still somebody to hear it.
pub(crate) async fn close(connection: &Connection, why: &str) {
    let goodbye = async { Ok(connection.close(200, why.into()).await?) };
    if let Err(error) = in_time(CLOSE_DEADLINE, goodbye).await {
        tracing::debug!(%error, "the connection was not closed in good order");
    }
}

/// Waits for the broker, but not for ever.
pub(crate) async fn in_time<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(deadline, work).await.unwrap_or(Err(Error::Late(deadline)))
}

/// A name of an exchange or a queue.
pub(crate) fn name(text: &str) -> Result<ShortString, Error> {
    short(text).ok_or_else(|| Error::Setting(format!("{text} is too long a name")))
}

/// A short string; none above AMQP's 255 bytes.
pub(crate) fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text.to_owned()).ok()
}

/// No arguments.
pub(crate) fn none() -> FieldTable {
    FieldTable::default()
}
