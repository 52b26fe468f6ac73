//! The baseline: a publisher with nothing behind it, which confirms as the relay does.

use anyhow::{Result, ensure};
use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};

use super::{EXCHANGE, IN_FLIGHT, QUEUE, Stage};

/// A message like the relay's.
#[derive(Debug, Clone)]
pub struct Sample {
    key: ShortString,
    properties: BasicProperties,
    pub body: Vec<u8>,
}

impl Sample {
    /// Takes one that the relay published.
    pub async fn take(channel: &Channel) -> Result<Option<Self>> {
        let options = BasicGetOptions { no_ack: true };
        let got = channel.basic_get(QUEUE.into(), options).await?;
        Ok(got.map(|got| Self {
            key: got.delivery.routing_key.clone(),
            properties: got.delivery.properties.clone(),
            body: got.delivery.data.clone(),
        }))
    }
}

/// A publisher.
#[derive(Debug)]
pub struct Bare {
    // Ends with it.
    _connection: Connection,
    channel: Channel,
    sample: Sample,
}

impl Bare {
    pub async fn new(stage: &Stage, sample: Sample) -> Result<Self> {
        let connection = stage.connect().await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { _connection: connection, channel, sample })
    }

    /// Publishes a message and waits for its confirm.
    pub async fn publish(&self, body: &[u8]) -> Result<()> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (key, properties) = (self.sample.key.clone(), self.sample.properties.clone());
        let publishing =
            self.channel.basic_publish(EXCHANGE.into(), key, options, body, properties);
        let confirmed = publishing.await?.await?;
        ensure!(matches!(confirmed, Confirmation::Ack(None)), "the broker did not take it");
        Ok(())
    }

    /// Publishes so many like the sample, with many confirms in flight.
    pub async fn publish_all(&self, n: usize) -> Result<()> {
        let mut in_flight = FuturesUnordered::new();
        let mut left = n;
        loop {
            while left > 0 && in_flight.len() < IN_FLIGHT {
                in_flight.push(self.publish(&self.sample.body));
                left -= 1;
            }
            match in_flight.next().await {
                Some(done) => done?,
                None => return Ok(()),
            }
        }
    }
}
