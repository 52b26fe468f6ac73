//! Listens at the broker, through a queue that is only this process's and goes with its connection.

use std::{io::Write, ops::ControlFlow, time::Duration};

use futures_util::{FutureExt, StreamExt};
use lapin::{
    Channel, Connection, Consumer, ExchangeKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::AMQPValue,
};
use rand::RngExt;
use tokio_util::sync::CancellationToken;

use super::{Failure, Printer, tell};
use crate::{
    amqp::{self, Error, in_time},
    app::events::CloudEvent,
    config::Config,
};

/// Messages on the way at a time.
const PREFETCH: u16 = 200;
/// A reader that is this far behind loses the oldest, and does not fill up the broker.
const QUEUE_BOUND: i64 = 100_000;
const CONNECT_DEADLINE: Duration = Duration::from_secs(15);
const ACK_DEADLINE: Duration = Duration::from_secs(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);

/// Prints what comes by a binding. Connects again when the connection is lost, not if there never was one.
pub(super) async fn tail<W: Write>(
    config: &Config,
    url: &str,
    binding: &str,
    printer: &mut Printer<'_, W>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let (mut backoff, mut had_one) = (FIRST_BACKOFF, false);
    loop {
        let begin = in_time(CONNECT_DEADLINE, Listening::begin(config, url, binding));
        let listening = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            listening = begin => listening,
        };
        let lost = match listening {
            Ok(mut listening) => {
                tell(&format!("listening for {binding} at {}", config.amqp_exchange));
                (backoff, had_one) = (FIRST_BACKOFF, true);
                match listening.prints(printer, stop).await? {
                    None => {
                        amqp::close(&listening.connection, "the reader ends").await;
                        return Ok(());
                    }
                    Some(error) => {
                        tell(&format!("{error}; connecting again, what comes meanwhile is missed"));
                        amqp::close(&listening.connection, "the reader starts anew").await;
                        continue_after(&mut backoff, stop).await;
                        continue;
                    }
                }
            }
            Err(error) => error,
        };
        if !had_one {
            // Its text has that of what is behind it.
            return Err(Failure::Undone(anyhow::Error::msg(format!("the broker: {lost}"))));
        }
        continue_after(&mut backoff, stop).await;
    }
}

/// With jitter, so that many do not come back at the same moment.
async fn continue_after(backoff: &mut Duration, stop: &CancellationToken) {
    let millis = u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX);
    let jitter = rand::rng().random_range(millis / 2..=millis);
    *backoff = (*backoff * 2).min(LONGEST_BACKOFF);
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(jitter)) => {}
        () = stop.cancelled() => {}
    }
}

/// A connection with a queue.
struct Listening {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

impl Listening {
    async fn begin(config: &Config, url: &str, binding: &str) -> Result<Self, Error> {
        let connection = amqp::connect(config, url, "crownest events tail".to_owned()).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        // Whose it is declares it; here it must be there.
        let exchange = amqp::name(&config.amqp_exchange)?;
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let none = amqp::none;
        channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, passive, none()).await?;
        let own = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let mut bounds = none();
        bounds.insert("x-max-length".into(), AMQPValue::LongLongInt(QUEUE_BOUND));
        let queue = channel.queue_declare("".into(), own, bounds).await?.name().clone();
        let key = amqp::name(binding)?;
        let options = QueueBindOptions::default();
        channel.queue_bind(queue.clone(), exchange, key, options, none()).await?;
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume(queue, "".into(), options, none()).await?;
        Ok(Self { connection, channel, consumer })
    }

    /// Prints until it is enough, or until the connection is lost, and says why it was.
    async fn prints<W: Write>(
        &mut self,
        printer: &mut Printer<'_, W>,
        stop: &CancellationToken,
    ) -> Result<Option<Error>, Failure> {
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(None),
                first = self.consumer.next() => first,
            };
            let mut next = first;
            let mut last = None;
            let lost = loop {
                match next {
                    Some(Ok(delivery)) => {
                        last = Some(delivery.delivery_tag);
                        match event(delivery) {
                            Some(event) => {
                                if printer.print(&event)? == ControlFlow::Break(()) {
                                    printer.flush()?;
                                    return Ok(None);
                                }
                            }
                            None => tell("a message that is no event of crownest was left out"),
                        }
                    }
                    Some(Err(error)) => break Some(Error::Client(error)),
                    None => break Some(Error::Closed),
                }
                match self.consumer.next().now_or_never() {
                    Some(ready) => next = ready,
                    None => break None,
                }
            };
            printer.flush()?;
            if lost.is_some() {
                return Ok(lost);
            }
            if let Some(tag) = last {
                let options = BasicAckOptions { multiple: true };
                let acking = async { Ok(self.channel.basic_ack(tag, options).await?) };
                if let Err(error) = in_time(ACK_DEADLINE, acking).await {
                    return Ok(Some(error));
                }
            }
        }
    }
}

/// The event of a message in CloudEvents' binary mode; none if it is no such message.
fn event(delivery: Delivery) -> Option<CloudEvent> {
    let headers = delivery.properties.headers().as_ref()?;
    let attribute = |(name, value): (&lapin::types::ShortString, &AMQPValue)| {
        let name = name.as_str().strip_prefix("cloudEvents:")?;
        let AMQPValue::LongString(text) = value else { return None };
        Some((name.to_owned(), text.to_string()))
    };
    let attributes: std::collections::BTreeMap<_, _> =
        headers.inner().iter().filter_map(attribute).collect();
    let needed = ["specversion", "id", "type", "source"];
    if !needed.iter().all(|name| attributes.contains_key(*name)) {
        return None;
    }
    let data = serde_json::from_slice(&delivery.data).ok()?;
    Some(CloudEvent { position: None, attributes, data })
}
