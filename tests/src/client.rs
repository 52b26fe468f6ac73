//! A key's view of the API: requests with its credential, as any HTTP client would send them.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use crate::{answer::Answer, events::Events};

/// Where a server listens; a server that starts anew has another one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Address(Arc<Mutex<String>>);

impl Address {
    pub fn set(&self, url: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }

    pub fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What requests are sent with: straight to the server, without what it would take to trust an `https`
/// one, which no story has.
#[must_use]
pub fn http() -> Client {
    // The workspace's HTTP client comes with TLS and without a provider; whoever is first installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

/// Sends requests with a credential, or without one.
#[derive(Debug, Clone)]
pub struct Key {
    http: Client,
    address: Address,
    headers: Vec<(String, String)>,
    /// The key's id; empty if there is no such key.
    pub id: String,
    /// The key itself.
    pub secret: String,
}

impl Key {
    pub(crate) fn new(http: Client, address: Address, id: String, secret: String) -> Self {
        let headers = vec![("authorization".to_owned(), format!("Bearer {secret}"))];
        Self { http, address, headers, id, secret }
    }

    pub(crate) fn nobody(http: Client, address: Address) -> Self {
        Self { http, address, headers: Vec::new(), id: String::new(), secret: String::new() }
    }

    pub(crate) fn at(&self, address: Address) -> Self {
        Self { address, ..self.clone() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut key = self.clone();
        key.headers.push((name.to_owned(), value.to_owned()));
        key
    }

    /// The same with no credential but what `with` adds.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { headers: Vec::new(), ..self.clone() }
    }

    /// The same with an idempotency key.
    #[must_use]
    pub fn idempotent(&self, key: &str) -> Self {
        self.with("idempotency-key", key)
    }

    /// The base URL of the server.
    #[must_use]
    pub fn base(&self) -> String {
        self.address.get()
    }

    /// A request to build upon. `path` may be a whole URL.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url =
            if path.starts_with("http") { path.to_owned() } else { self.address.get() + path };
        let request = self.http.request(method, url);
        self.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
    }

    /// Sends what `request` began.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let built = request.build().unwrap();
        let name = format!("{} {}", built.method(), built.url());
        match self.http.execute(built).await {
            Ok(response) => Answer::read(name, response).await,
            Err(error) => panic!("{name}: no answer: {error:?}"),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(&body)).await
    }

    /// A POST without a body and without a content type, as several clients send it.
    pub async fn post_nothing(&self, path: &str) -> Answer {
        self.send(self.request(Method::POST, path)).await
    }

    /// A POST whose body is sent as it is.
    pub async fn post_text(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        self.send(request.body(body)).await
    }

    /// Opens an event stream.
    pub async fn stream(&self, path: &str) -> Events {
        Events::open(self.request(Method::GET, path)).await
    }
}
