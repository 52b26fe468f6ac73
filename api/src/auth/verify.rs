//! Verifies keys of one kind: look-up, argon2id, and a memory of what was verified. Knows nothing of
//! what a key opens.

use std::{
    collections::HashMap,
    future::Future,
    mem,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    Code, Refused,
    id::{Id, Named},
    key::{KeyKind, KeySecret},
};
use hmac::{Hmac, KeyInit, Mac};
use moka::sync::Cache;
use sha2::Sha256;
use store::Db;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use super::secret;
use crate::{
    app::error::{Error, Result},
    clock::Clock,
    metrics::Keys,
};

/// Tokens remembered at most.
const MAX_REMEMBERED: u64 = 100_000;
/// A remembered token that nobody presents is forgotten after this.
const FORGET_AFTER: Duration = Duration::from_hours(24);
/// A remembered row is read again after this even if no change was announced.
const MAX_ROW_AGE: TimeDelta = TimeDelta::seconds(60);
/// How long a request waits for its turn at argon2 before it is told to come back.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// What sign-in reads of a key, by its kind.
pub(super) trait Held: Sized + Send + Sync + 'static {
    /// The kind of its keys.
    const KIND: KeyKind;
    /// The noun whose ids they have.
    type Key: Named + Send + Sync + 'static;

    /// Reads the row with this look-up part, revoked or not.
    fn by_lookup(db: &Db, lookup: &str)
    -> impl Future<Output = store::Result<Option<Self>>> + Send;

    /// The hash of the secret.
    fn secret_hash(&self) -> &str;
}

/// What all kinds of keys share in a process.
#[derive(Debug)]
pub(super) struct Shared {
    pub db: Db,
    pub clock: Arc<dyn Clock>,
    /// Tokens are remembered under an HMAC with a key of this process, so a memory dump of the cache
    /// alone tells no token.
    process_key: [u8; 32],
    /// Rises with every announced change of a key or organization; older rows are read again.
    epoch: AtomicU64,
    /// Whether changes made elsewhere reach us; while not, the row is read for each request.
    channel_up: AtomicBool,
    /// At most this many argon2 computations at a time: each takes a core and 19 MiB.
    turns: Arc<Semaphore>,
    metrics: Keys,
}

impl Shared {
    pub fn new(db: Db, clock: Arc<dyn Clock>, metrics: Keys) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            db,
            clock,
            process_key: rand::random(),
            epoch: AtomicU64::new(0),
            channel_up: AtomicBool::new(true),
            turns: Arc::new(Semaphore::new(cores)),
            metrics,
        }
    }

    pub fn forget_rows(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub fn set_channel(&self, up: bool) {
        self.forget_rows();
        self.channel_up.store(up, Ordering::Release);
    }

    fn digest(&self, secret: &KeySecret) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.process_key)
            .expect("HMAC takes keys of any length");
        mac.update(secret.expose().as_bytes());
        mac.finalize().into_bytes().into()
    }

    async fn argon2_agrees(&self, secret: &KeySecret, hash: String) -> Result<bool> {
        let secret = secret.clone();
        let began = Instant::now();
        let agrees = self.in_turn(move || secret::agrees(&secret, &hash)).await?;
        self.metrics.verification_seconds.record(began.elapsed());
        agrees
            .map_err(|error| store::Error::Corrupt(format!("a key's secret_hash: {error}")).into())
    }

    /// Runs one argon2 computation off the async threads, when it is its turn.
    pub async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let turn = tokio::time::timeout(MAX_WAIT, Arc::clone(&self.turns).acquire_owned());
        let turn = turn.await.map_err(|_| self.overloaded())?;
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        work.await.map_err(|_| self.overloaded())
    }

    fn overloaded(&self) -> Error {
        self.metrics.refusals.increment(1);
        Error::Overloaded("key verification")
    }
}

/// Verifies keys of one kind.
#[derive(Debug)]
pub(super) struct Verifier<H: Held> {
    shared: Arc<Shared>,
    remembered: Cache<[u8; 32], Remembered<H>>,
    /// The digest of the one right token of a look-up part, as far as it was seen: any other token
    /// with that part is refused without argon2, so that a flood of wrong secrets for a known prefix
    /// does not stand in the way of the right one.
    right: Cache<String, ([u8; 32], String)>,
    /// One verification at a time per key, so that a flood of wrong secrets for one key takes one
    /// turn, and a burst of good requests is verified once.
    queues: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
    used: Mutex<HashMap<Id<H::Key>, DateTime<Utc>>>,
}

#[derive(Debug)]
struct Remembered<H> {
    row: Arc<H>,
    epoch: u64,
    read_at: DateTime<Utc>,
}

impl<H> Clone for Remembered<H> {
    fn clone(&self) -> Self {
        Self { row: Arc::clone(&self.row), epoch: self.epoch, read_at: self.read_at }
    }
}

impl<H: Held> Verifier<H> {
    /// A verifier that remembers nothing yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            remembered: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_idle(FORGET_AFTER)
                .build(),
            right: Cache::builder().max_capacity(MAX_REMEMBERED).time_to_idle(FORGET_AFTER).build(),
            queues: Mutex::default(),
            used: Mutex::default(),
        }
    }

    /// The row of the key that a text is, revoked or not.
    ///
    /// # Errors
    /// `invalid_api_key`.
    pub async fn verify(&self, text: &str) -> Result<Arc<H>> {
        let secret = KeySecret::parse(H::KIND, text).map_err(|_| invalid_key())?;
        let digest = self.shared.digest(&secret);
        if let Some(found) = self.recall(&digest, &secret).await? {
            return Ok(found);
        }
        if let Some((right, hash)) = self.right.get(secret.lookup())
            && right != digest
        {
            // Unless the row got another secret, which no operation does at present.
            let row = H::by_lookup(&self.shared.db, secret.lookup()).await?;
            if row.is_none_or(|row| row.secret_hash() == hash) {
                return Err(invalid_key().into());
            }
        }
        let queue = self.queue(secret.lookup());
        let wait = tokio::time::timeout(MAX_WAIT, queue.lock());
        let _turn = wait.await.map_err(|_| self.shared.overloaded())?;
        // Somebody before us in the queue may have verified the same token.
        if let Some(found) = self.recall(&digest, &secret).await? {
            return Ok(found);
        }
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        let read_at = self.shared.clock.now();
        let row = H::by_lookup(&self.shared.db, secret.lookup()).await?.ok_or_else(invalid_key)?;
        let hash = row.secret_hash().to_owned();
        if !self.shared.argon2_agrees(&secret, hash.clone()).await? {
            return Err(invalid_key().into());
        }
        self.right.insert(secret.lookup().to_owned(), (digest, hash));
        let row = Arc::new(row);
        self.remembered.insert(digest, Remembered { row: Arc::clone(&row), epoch, read_at });
        Ok(row)
    }

    /// What is remembered of a token, its row read again if it may have changed. The token itself
    /// was verified, so no argon2 is needed as long as the row still has the same hash.
    async fn recall(&self, digest: &[u8; 32], secret: &KeySecret) -> Result<Option<Arc<H>>> {
        let Some(found) = self.remembered.get(digest) else { return Ok(None) };
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        let read_at = self.shared.clock.now();
        let fresh = found.epoch == epoch
            && self.shared.channel_up.load(Ordering::Acquire)
            && read_at - found.read_at < MAX_ROW_AGE;
        if fresh {
            return Ok(Some(found.row));
        }
        match H::by_lookup(&self.shared.db, secret.lookup()).await? {
            Some(row) if row.secret_hash() == found.row.secret_hash() => {
                let row = Arc::new(row);
                let found = Remembered { row: Arc::clone(&row), epoch, read_at };
                self.remembered.insert(*digest, found);
                Ok(Some(row))
            }
            Some(_) | None => {
                self.remembered.invalidate(digest);
                Ok(None)
            }
        }
    }

    fn queue(&self, lookup: &str) -> Arc<AsyncMutex<()>> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(lookup).and_then(Weak::upgrade) {
            return queue;
        }
        queues.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::new(AsyncMutex::new(()));
        queues.insert(lookup.to_owned(), Arc::downgrade(&queue));
        queue
    }

    /// Notes that a key was used now.
    pub fn note_use(&self, key: Id<H::Key>) {
        let now = self.shared.clock.now();
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(key, now);
    }

    /// Takes the keys seen since the last call.
    pub fn take_used(&self) -> Vec<(Id<H::Key>, DateTime<Utc>)> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *used).into_iter().collect()
    }
}

/// What every key that opens nothing is answered with, whatever is wrong with it.
pub(super) fn invalid_key() -> Refused {
    Refused::new(Code::InvalidApiKey, "the API key is malformed, unknown or revoked")
}
