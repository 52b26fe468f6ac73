//! One connection to the broker with one channel that confirms. It is not repaired: whoever holds it
//! connects anew. Every wait has a deadline, for brokers that are stopped by an alarm or vanish.

use std::{sync::Mutex, time::Duration};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    tcp::OwnedTLSConfig,
    types::{AMQPValue, FieldTable, ShortString},
};
use migrations::rows::EventRow;
use tokio::time::timeout;

use super::message;
use crate::config::Config;

/// For a connection with its channel and topology.
const CONNECT_DEADLINE: Duration = Duration::from_secs(15);
/// For one confirm.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(10);
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
const EVERYTHING: &str = "crownest.#";

/// Why the broker cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The client says so; its text holds no credentials.
    #[error("{0}")]
    Client(#[from] lapin::Error),
    /// It does not answer.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// It refused to take a message.
    #[error("the broker refused a message")]
    Refused,
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is safe with the broker.
    Confirmed,
    /// No queue takes it.
    Unroutable,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Broker {
    connection: Connection,
    channel: Channel,
    exchange: ShortString,
    keep_unroutable: bool,
    /// Unroutable messages are told once per connection.
    told: Mutex<bool>,
}

impl Broker {
    /// Connects, and declares the topology unless that is turned off.
    pub async fn connect(config: &Config, url: &str) -> Result<Self, Error> {
        in_time(CONNECT_DEADLINE, Self::open(config, url)).await
    }

    async fn open(config: &Config, url: &str) -> Result<Self, Error> {
        let name = format!("crownest relay on {}", config.host);
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
        let connection = Connection::connect_with_config(url, properties, tls, runtime).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let name = |text| {
            message::short(text).ok_or_else(|| Error::Setting(format!("{text} is too long a name")))
        };
        let exchange = name(&config.amqp_exchange)?;
        if config.amqp_declare_topology {
            declare(&channel, exchange.clone(), name(&config.amqp_queue)?).await?;
        }
        Ok(Self {
            connection,
            channel,
            exchange,
            keep_unroutable: config.amqp_keep_unroutable,
            told: Mutex::new(false),
        })
    }

    /// Publishes an event and waits for its confirm.
    pub async fn publish(&self, event: &EventRow) -> Result<Outcome, Error> {
        let (key, properties): (ShortString, BasicProperties) =
            message::of(event).map_err(Error::Setting)?;
        let publishing = async {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let body = event.data.as_bytes();
            let exchange = self.exchange.clone();
            let confirm =
                self.channel.basic_publish(exchange, key, options, body, properties).await?;
            Ok::<_, Error>(confirm.await?)
        };
        match in_time(CONFIRM_DEADLINE, publishing).await? {
            Confirmation::Ack(None) => Ok(Outcome::Confirmed),
            // An unroutable message is acknowledged, too: it comes back with that.
            Confirmation::Ack(Some(_)) if !self.keep_unroutable => Ok(Outcome::Confirmed),
            Confirmation::Ack(Some(returned)) => {
                let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if !*told {
                    let key = returned.delivery.routing_key.as_str();
                    tracing::warn!(key, "no queue takes this event; it waits until one does");
                }
                *told = true;
                Ok(Outcome::Unroutable)
            }
            Confirmation::Nack(_) | Confirmation::NotRequested => Err(Error::Refused),
        }
    }

    /// Whether connection and channel still stand.
    pub fn is_alive(&self) -> Result<(), Error> {
        if self.connection.status().connected() && self.channel.status().connected() {
            Ok(())
        } else {
            Err(Error::Refused)
        }
    }

    /// Says goodbye, if there is still somebody to hear it.
    pub async fn close(self) {
        let goodbye = async { Ok(self.connection.close(200, "relay ends".into()).await?) };
        if let Err(error) = in_time(CLOSE_DEADLINE, goodbye).await {
            tracing::debug!(%error, "the connection was not closed in good order");
        }
    }
}

async fn in_time<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(deadline, work).await.unwrap_or(Err(Error::Late(deadline)))
}

/// A durable topic exchange, and as an example a quorum queue that takes everything.
async fn declare(
    channel: &Channel,
    exchange: ShortString,
    queue: ShortString,
) -> Result<(), Error> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let none = FieldTable::default;
    channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, durable, none()).await?;
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.clone(), durable, quorum).await?;
    let options = QueueBindOptions::default();
    channel.queue_bind(queue, exchange, EVERYTHING.into(), options, none()).await?;
    Ok(())
}
