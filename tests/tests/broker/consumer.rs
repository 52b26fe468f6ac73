//! A consumer that never gives up: it connects again whatever happened, and acknowledges what it has
//! kept. What it kept may repeat.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicGetOptions},
};
use tests::message::Message;
use tokio::{task::JoinHandle, time::timeout};

const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A broker that does not answer for this long has gone.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Consumer {
    kept: Arc<Mutex<Vec<Message>>>,
    task: JoinHandle<()>,
}

impl Consumer {
    pub fn start(url: &str, queue: &str) -> Self {
        let kept = Arc::<Mutex<Vec<Message>>>::default();
        let (url, queue, keeping) = (url.to_owned(), queue.to_owned(), Arc::clone(&kept));
        let task = tokio::spawn(async move {
            loop {
                // Every failure is the same to it.
                consume(&url, &queue, &keeping).await.ok();
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        });
        Self { kept, task }
    }

    pub fn messages(&self) -> Vec<Message> {
        self.kept.lock().unwrap().clone()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn consume(url: &str, queue: &str, kept: &Mutex<Vec<Message>>) -> anyhow::Result<()> {
    let connecting = Connection::connect(url, ConnectionProperties::default());
    let connection = timeout(PATIENCE, connecting).await??;
    let channel = timeout(PATIENCE, connection.create_channel()).await??;
    loop {
        let getting = channel.basic_get(queue.into(), BasicGetOptions::default());
        match timeout(PATIENCE, getting).await?? {
            Some(got) => {
                let tag = got.delivery.delivery_tag;
                kept.lock().unwrap().push(got.delivery.into());
                let acking = channel.basic_ack(tag, BasicAckOptions::default());
                timeout(PATIENCE, acking).await??;
            }
            None => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
