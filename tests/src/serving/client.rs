//! A client that does not give up: a request whose server died is sent again to the next one, with
//! the same idempotency key. Knows how requests end, and no request in particular.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::{sync::watch, time::timeout};

/// A request that has no answer after this has been lost.
const PATIENCE: Duration = Duration::from_secs(150);
/// Between two looks at a request that is still being worked on.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where the server is, if there is one.
#[derive(Debug, Clone, Default)]
pub struct Door {
    /// Which server of the story; the same address may come again.
    pub epoch: u32,
    pub url: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    door: watch::Receiver<Door>,
    secret: Arc<str>,
    /// Requests that had to be sent again, for the summary.
    n_retries: Arc<Mutex<u32>>,
}

/// What a server answered in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Answer {
    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn is(&self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Somebody works on the same request: its first try, or what a server that died left of it.
    fn is_in_progress(&self) -> bool {
        self.status == 409 && self.is(409)["error"]["code"] == "idempotency_request_in_progress"
    }
}

impl Client {
    pub fn new(door: watch::Receiver<Door>, secret: &str) -> Self {
        let http = crate::client::http();
        Self { http, door, secret: secret.into(), n_retries: Arc::default() }
    }

    pub fn n_retries(&self) -> u32 {
        *self.n_retries.lock().unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.insist(Method::GET, path, None, None).await.is(200)
    }

    /// Sends a request until it is answered, by whichever server.
    pub async fn insist(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let insisting = async {
            loop {
                let door = self.open_door().await;
                let mut request = self.request(&door, method.clone(), path);
                if let Some(key) = key {
                    request = request.header("idempotency-key", key);
                }
                if let Some(body) = body {
                    request = request.json(body);
                }
                match answer(request).await {
                    Ok(answer) if answer.is_in_progress() => tokio::time::sleep(LOOK_AGAIN).await,
                    Ok(answer) => return answer,
                    Err(_) => self.after(&door).await,
                }
                *self.n_retries.lock().unwrap() += 1;
            }
        };
        let answered = timeout(PATIENCE, insisting).await;
        answered.unwrap_or_else(|_| panic!("{method} {path} {key:?} has no answer"))
    }

    /// A request to the server behind a door.
    pub fn request(&self, door: &Door, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", door.url.as_deref().unwrap());
        self.http.request(method, url).bearer_auth(&self.secret)
    }

    /// Waits for a server.
    pub async fn open_door(&self) -> Door {
        self.door.clone().wait_for(|door| door.url.is_some()).await.unwrap().clone()
    }

    /// Waits until the server that was behind a door is known to be dead.
    pub async fn after(&self, gone: &Door) {
        self.door.clone().wait_for(|door| door.epoch > gone.epoch).await.unwrap();
    }
}

async fn answer(request: RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    Ok(Answer { status, body: response.bytes().await? })
}
