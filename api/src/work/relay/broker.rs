//! One connection to the broker with one channel that confirms. It is not repaired: whoever holds it
//! connects anew. Every wait has a deadline, for brokers that are stopped by an alarm or vanish.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ExchangeKind,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, ShortString},
};
use migrations::rows::EventRow;

use super::message;
pub(super) use crate::amqp::Error;
use crate::{
    amqp::{self, in_time},
    config::Config,
    metrics::Publisher,
};

/// For a connection with its channel and topology.
const CONNECT_DEADLINE: Duration = Duration::from_secs(15);
/// For one confirm.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(10);
const EVERYTHING: &str = "crownest.#";

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
    metrics: Publisher,
}

impl Broker {
    /// Connects, and declares the topology unless that is turned off.
    pub async fn connect(config: &Config, url: &str, metrics: Publisher) -> Result<Self, Error> {
        in_time(CONNECT_DEADLINE, Self::open(config, url, metrics)).await
    }

    async fn open(config: &Config, url: &str, metrics: Publisher) -> Result<Self, Error> {
        let name = format!("crownest relay on {}", config.host);
        let connection = amqp::connect(config, url, name).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let exchange = amqp::name(&config.amqp_exchange)?;
        if config.amqp_declare_topology {
            declare(&channel, exchange.clone(), amqp::name(&config.amqp_queue)?).await?;
        }
        Ok(Self {
            connection,
            channel,
            exchange,
            keep_unroutable: config.amqp_keep_unroutable,
            told: Mutex::new(false),
            metrics,
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
        let began = Instant::now();
        let confirmation = in_time(CONFIRM_DEADLINE, publishing).await?;
        self.metrics.confirm_seconds.record(began.elapsed());
        match &confirmation {
            Confirmation::Ack(None) => self.metrics.confirms.increment(1),
            Confirmation::Ack(Some(_)) => self.metrics.returns.increment(1),
            Confirmation::Nack(_) => self.metrics.nacks.increment(1),
            Confirmation::NotRequested => {}
        }
        match confirmation {
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

    /// Says goodbye.
    pub async fn close(self) {
        amqp::close(&self.connection, "relay ends").await;
    }
}

/// A durable topic exchange, and as an example a quorum queue that takes everything.
async fn declare(
    channel: &Channel,
    exchange: ShortString,
    queue: ShortString,
) -> Result<(), Error> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, durable, amqp::none()).await?;
    let mut quorum = amqp::none();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.clone(), durable, quorum).await?;
    let options = QueueBindOptions::default();
    channel.queue_bind(queue, exchange, EVERYTHING.into(), options, amqp::none()).await?;
    Ok(())
}
