//! One request: its deadline, and what is sent again. Only what may be done twice is: reads, what
//! brings about a state, and what carries an idempotency key, which stays the same.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder, Response, header::RETRY_AFTER};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Client, Failure, Refusal};

/// An answer's JSON.
pub type Json = Value;

/// How often a request is sent at most.
const MAX_TRIES: u32 = 5;
/// How long to wait before the second try; each further wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const MAX_WAIT: Duration = Duration::from_secs(4);
/// The longest wait that a server may ask for; beyond it, its answer is the answer.
const MAX_ASKED_WAIT: Duration = Duration::from_secs(60);
/// How long one try may take. Requests wait for a sandbox that starts, which may take a minute.
const DEADLINE: Duration = Duration::from_secs(90);
/// The largest answer that is taken; a page of 500 sandboxes with full metadata has 3 MB.
const MAX_ANSWER: usize = 32 << 20;

/// Whether a request may reach the server twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Harmless,
    Harmful,
}

/// A request to be sent.
#[derive(Debug)]
#[must_use = "it is sent by `json` or `open`"]
pub struct Call<'c> {
    client: &'c Client,
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    body: Option<Value>,
    idempotency_key: Option<String>,
    repeat: Repeat,
}

impl<'c> Call<'c> {
    pub(super) fn new(client: &'c Client, method: Method, path: &str) -> Self {
        // By HTTP's own rules, which the API keeps.
        let repeat = if method == Method::POST { Repeat::Harmful } else { Repeat::Harmless };
        let (path, query) = (path.to_owned(), Vec::new());
        Self { client, method, path, query, body: None, idempotency_key: None, repeat }
    }

    /// Adds a parameter.
    pub fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Serialize) -> Self {
        self.body = Some(serde_json::to_value(body).unwrap_or_default());
        self
    }

    /// Gives it an idempotency key, so that it may be sent again.
    pub fn once(mut self) -> Self {
        self.idempotency_key = Some(Uuid::new_v4().to_string());
        self.repeat = Repeat::Harmless;
        self
    }

    /// Says that it must not reach the server twice.
    pub const fn unrepeatable(mut self) -> Self {
        self.repeat = Repeat::Harmful;
        self
    }

    /// Says that it may be sent twice: it brings about a state and does nothing to one that is there.
    pub const fn repeatable(mut self) -> Self {
        self.repeat = Repeat::Harmless;
        self
    }

    /// Sends it and reads the answer's JSON.
    ///
    /// # Errors
    /// `Refused` with what the API said; `Undone` when it gave no usable answer.
    pub async fn json(self) -> Result<Json, Failure> {
        let answer = self.tries(async |response| body(response).await).await?;
        serde_json::from_slice(&answer).map_err(|error| {
            self.undone(anyhow::Error::new(error).context("the answer is no JSON"))
        })
    }

    /// Sends it and hands over the answer as it begins, such as a download. Its rest is not sent
    /// again.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub async fn open(self) -> Result<Response, Failure> {
        self.tries(async |response| Ok(response)).await
    }

    async fn tries<T>(
        &self,
        read: impl AsyncFn(Response) -> Result<T, Trouble>,
    ) -> Result<T, Failure> {
        let mut tried = 0;
        loop {
            tried += 1;
            let sent = async {
                let response = self.request().send().await?;
                if response.status().is_success() {
                    read(response).await
                } else {
                    refused(response).await
                }
            };
            let trouble = match tokio::time::timeout(DEADLINE, sent).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(trouble)) => trouble,
                Err(_) => Trouble::Late,
            };
            let backoff = MAX_WAIT.min(FIRST_WAIT * 2_u32.pow(tried - 1));
            match trouble.wait(self.repeat).filter(|_| tried < MAX_TRIES) {
                Some(asked) => tokio::time::sleep(asked.unwrap_or(backoff)).await,
                None => return Err(self.failure(trouble)),
            }
        }
    }

    fn request(&self) -> RequestBuilder {
        let mut request = self.client.begin(self.method.clone(), &self.path);
        if !self.query.is_empty() {
            request = request.query(&self.query);
        }
        if let Some(body) = &self.body {
            request = request.json(body);
        }
        if let Some(key) = &self.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        request
    }

    fn failure(&self, trouble: Trouble) -> Failure {
        match trouble {
            Trouble::Refused(refusal, _) => Failure::Refused(Box::new(refusal)),
            Trouble::Late => {
                let text = format!("no answer within {} seconds", DEADLINE.as_secs());
                self.undone(anyhow::Error::msg(text))
            }
            Trouble::Large => self.undone(anyhow::Error::msg("the answer is too large")),
            Trouble::Network(error) => self.undone(error.without_url().into()),
        }
    }

    fn undone(&self, error: anyhow::Error) -> Failure {
        let base = self.client.base.as_str().trim_end_matches('/').to_owned();
        Failure::Undone(error.context(format!("{} {base}{}", self.method, self.path)))
    }
}

/// Why a try gave no answer.
#[derive(Debug)]
enum Trouble {
    Refused(Refusal, Option<Duration>),
    Late,
    Large,
    Network(reqwest::Error),
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        Self::Network(error)
    }
}

impl Trouble {
    /// Whether to try again, and how long to wait before if the server said so.
    fn wait(&self, repeat: Repeat) -> Option<Option<Duration>> {
        match self {
            // Nothing was done about it, whatever it was.
            Self::Refused(refusal, asked) if refusal.code == "rate_limited" => {
                Some(*asked).filter(|asked| asked.is_none_or(|asked| asked <= MAX_ASKED_WAIT))
            }
            // A quota does not pass by itself within seconds.
            Self::Refused(refusal, asked)
                if refusal.retryable
                    && repeat == Repeat::Harmless
                    && refusal.code != "quota_exceeded" =>
            {
                Some(*asked).filter(|asked| asked.is_none_or(|asked| asked <= MAX_ASKED_WAIT))
            }
            Self::Refused(..) | Self::Large => None,
            // It never left.
            Self::Network(error) if error.is_connect() => Some(None),
            Self::Network(_) | Self::Late => (repeat == Repeat::Harmless).then_some(None),
        }
    }
}

async fn refused<T>(response: Response) -> Result<T, Trouble> {
    let (status, headers) = (response.status(), response.headers().clone());
    let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let asked = asked.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let refusal = Refusal::read(status, &headers, &body(response).await?);
    Err(Trouble::Refused(refusal, asked))
}

async fn body(response: Response) -> Result<Vec<u8>, Trouble> {
    let (mut chunks, mut whole) = (response.bytes_stream(), Vec::new());
    while let Some(chunk) = chunks.next().await {
        whole.extend_from_slice(&chunk?);
        if whole.len() > MAX_ANSWER {
            return Err(Trouble::Large);
        }
    }
    Ok(whole)
}
