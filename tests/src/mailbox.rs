//! What a billing pipeline has at the broker: an exchange and a queue that no other story knows. Takes
//! messages and forgets none; what they must be is told in `message`.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
};

use api::config::Config;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
        ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};

use crate::{
    message::{self, Message},
    run::skipped,
    world::World,
};

/// The environment variable that names the broker to test with.
const AMQP_URL: &str = "TEST_AMQP_URL";

/// An exchange with a queue, and what came out of it so far.
#[derive(Debug)]
pub struct Mailbox {
    /// The broker.
    pub url: String,
    pub exchange: String,
    pub queue: String,
    pub messages: Vec<Message>,
    connection: Connection,
}

impl Mailbox {
    /// Names an exchange and a queue, which the server is to declare. `None`, and said so, where there
    /// is no broker.
    pub async fn open() -> Option<Self> {
        let Ok(url) = std::env::var(AMQP_URL) else {
            skipped("rabbitmq", &format!("{AMQP_URL} is not set"));
            return None;
        };
        Some(Self::at(&url).await)
    }

    /// The same at a broker of the story's own.
    pub async fn at(url: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("story-{}-{number}", std::process::id());
        Self {
            url: url.to_owned(),
            exchange: format!("{name}.events"),
            queue: format!("{name}.usage"),
            messages: Vec::new(),
            connection: connect(url).await,
        }
    }

    /// Settings of a server that publishes to it.
    pub fn settings(&self) -> impl FnOnce(&mut Config) + use<> {
        let (url, exchange, queue) = (self.url.clone(), self.exchange.clone(), self.queue.clone());
        move |config| {
            config.amqp_url = Some(url);
            config.amqp_exchange = exchange;
            config.amqp_queue = queue;
        }
    }

    /// A connection that was lost is made anew.
    async fn channel(&mut self) -> Channel {
        if let Ok(channel) = self.connection.create_channel().await {
            return channel;
        }
        self.connection = connect(&self.url).await;
        self.connection.create_channel().await.unwrap()
    }

    /// Declares what a server would, but for the binding.
    pub async fn declares(&mut self) {
        let channel = self.channel().await;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let exchange = self.exchange.as_str().into();
        let none = FieldTable::default();
        channel.exchange_declare(exchange, ExchangeKind::Topic, durable, none).await.unwrap();
        let queue = self.queue.clone();
        self.declares_queue(&queue).await;
    }

    async fn declares_queue(&mut self, queue: &str) {
        let channel = self.channel().await;
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.into(), durable, quorum).await.unwrap();
    }

    /// Declares a further queue, which gets everything, and returns its name. Whoever wants it deletes it.
    pub async fn adds_queue(&mut self) -> String {
        let queue = format!("{}.other", self.queue);
        self.declares_queue(&queue).await;
        self.binds_queue(&queue, "crownest.#").await;
        queue
    }

    /// Declares a further queue, which refuses everything but one message, and returns its name.
    pub async fn adds_full_queue(&mut self) -> String {
        let queue = format!("{}.full", self.queue);
        let mut bounded = FieldTable::default();
        bounded.insert("x-max-length".into(), AMQPValue::LongInt(1));
        bounded.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel().await.queue_declare(queue.as_str().into(), durable, bounded).await.unwrap();
        self.binds_queue(&queue, "crownest.#").await;
        queue
    }

    /// Publishes messages once more, as a relay does that was not told of a confirm.
    pub async fn repeats(&mut self, messages: &[Message]) {
        let channel = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        for message in messages {
            let (exchange, key) = (message.exchange.as_str(), message.routing_key.as_str());
            let (options, properties) =
                (BasicPublishOptions::default(), message.properties.clone());
            let publishing = channel
                .basic_publish(exchange.into(), key.into(), options, &message.body, properties)
                .await;
            publishing.unwrap().await.unwrap();
        }
    }

    /// Binds the queue.
    pub async fn binds(&mut self, pattern: &str) {
        let queue = self.queue.clone();
        self.binds_queue(&queue, pattern).await;
    }

    async fn binds_queue(&mut self, queue: &str, pattern: &str) {
        let channel = self.channel().await;
        let (queue, exchange) = (queue.into(), self.exchange.as_str().into());
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue, exchange, pattern.into(), options, none).await.unwrap();
    }

    /// Takes the binding away.
    pub async fn unbinds(&mut self, pattern: &str) {
        let channel = self.channel().await;
        let (queue, exchange) = (self.queue.as_str().into(), self.exchange.as_str().into());
        let none = FieldTable::default();
        channel.queue_unbind(queue, exchange, pattern.into(), none).await.unwrap();
    }

    /// How many messages wait in the queue.
    pub async fn n_waiting(&mut self) -> u32 {
        let queue = self.queue.clone();
        self.n_waiting_in(&queue).await
    }

    /// How many messages wait in a queue.
    pub async fn n_waiting_in(&mut self, queue: &str) -> u32 {
        let channel = self.channel().await;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let none = FieldTable::default();
        channel.queue_declare(queue.into(), passive, none).await.unwrap().message_count()
    }

    /// Deletes the queue with all that is in it.
    pub async fn deletes_queue(&mut self) {
        let queue = self.queue.clone();
        self.deletes(&queue).await;
    }

    /// Deletes a queue with all that is in it.
    pub async fn deletes(&mut self, queue: &str) {
        let channel = self.channel().await;
        let options = QueueDeleteOptions::default();
        channel.queue_delete(queue.into(), options).await.unwrap();
    }

    /// Takes what waits in the queue.
    pub async fn takes(&mut self) {
        let channel = self.channel().await;
        let at_once = BasicGetOptions { no_ack: true };
        while let Some(got) = channel.basic_get(self.queue.as_str().into(), at_once).await.unwrap()
        {
            self.messages.push(got.delivery.into());
        }
    }

    /// The ids of what came.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<String> {
        self.messages.iter().map(Message::id).collect()
    }

    /// The kinds of what came, each once.
    #[must_use]
    pub fn kinds(&self) -> BTreeSet<String> {
        self.messages.iter().map(Message::kind).collect()
    }

    /// Takes until something is to be seen among all messages.
    pub async fn until<T>(
        &mut self,
        world: &World,
        what: &str,
        look: impl Fn(&[Message]) -> Option<T>,
    ) -> T {
        let looking = async || {
            self.takes().await;
            look(&self.messages)
        };
        world.until(what, looking).await
    }

    /// Takes until every event of the database came and is marked as published; then checks that
    /// nothing else came, each as it is in the database, and in order.
    pub async fn has_everything(&mut self, world: &World) {
        let looking = async || {
            let wanted = message::events(world.db()).await;
            if wanted.iter().any(|event| event.published_at.is_none()) {
                return None;
            }
            self.takes().await;
            let came = self.ids();
            wanted.iter().all(|event| came.contains(&message::id_of(event))).then_some(())
        };
        world.until("every event in the queue", looking).await;
        let events = message::events(world.db()).await;
        let came = message::in_order(&self.messages, &events, &self.exchange);
        assert!(came.len() <= events.len() && !came.is_empty());
    }

    /// Removes exchange and queue.
    pub async fn close(mut self) {
        self.deletes_queue().await;
        let channel = self.channel().await;
        let options = ExchangeDeleteOptions::default();
        channel.exchange_delete(self.exchange.as_str().into(), options).await.unwrap();
        self.connection.close(200, "the story ends".into()).await.unwrap();
    }
}

async fn connect(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default()).await.unwrap()
}
