//! From a credential to a [`Caller`]: format, look-up, argon2id, and a memory of what was verified
//! (design, section 4). Knows nothing of HTTP.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    Code, Refused,
    id::ApiKeyId,
    key::{ALPHABET, KeySecret, LOOKUP_LEN, SECRET_LEN},
    organization::Organization,
};
use hmac::{Hmac, KeyInit, Mac};
use moka::sync::Cache;
use rand::RngExt;
use sha2::Sha256;
use store::{Db, api_keys::Credential};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use crate::{
    app::{
        caller::Caller,
        error::{Error, Result},
    },
    clock::Clock,
    config::Config,
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

/// Verifies credentials.
#[derive(Debug)]
pub struct Authenticator {
    db: Db,
    clock: Arc<dyn Clock>,
    config: Arc<Config>,
    /// Tokens are remembered under an HMAC with a key of this process, so a memory dump of the cache
    /// alone tells no token.
    process_key: [u8; 32],
    remembered: Cache<[u8; 32], Arc<Remembered>>,
    /// The digest of the one right token of a look-up part, as far as it was seen: any other token
    /// with that part is refused without argon2, so that a flood of wrong secrets for a known prefix
    /// does not stand in the way of the right one.
    right: Cache<String, ([u8; 32], String)>,
    /// Rises with every announced change of a key or organization; older rows are read again.
    epoch: AtomicU64,
    /// Whether changes made elsewhere reach us; while not, the row is read for each request.
    channel_up: AtomicBool,
    /// At most this many argon2 computations at a time: each takes a core and 19 MiB.
    turns: Arc<Semaphore>,
    /// One verification at a time per key, so that a flood of wrong secrets for one key takes one
    /// turn, and a burst of good requests is verified once.
    queues: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
    used: Mutex<HashMap<ApiKeyId, DateTime<Utc>>>,
    metrics: Keys,
}

#[derive(Debug)]
struct Remembered {
    credential: Arc<Credential>,
    key: Arc<domain::key::ApiKey>,
    organization: Arc<Organization>,
    epoch: u64,
    read_at: DateTime<Utc>,
}

impl Remembered {
    fn new(credential: Credential, epoch: u64, read_at: DateTime<Utc>) -> Arc<Self> {
        let key = Arc::new(credential.key.clone());
        let organization = Arc::new(credential.organization.clone());
        Arc::new(Self { credential: Arc::new(credential), key, organization, epoch, read_at })
    }
}

impl Authenticator {
    /// An authenticator that remembers nothing yet.
    #[must_use]
    pub fn new(db: Db, clock: Arc<dyn Clock>, config: Arc<Config>, metrics: Keys) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            db,
            clock,
            config,
            process_key: rand::random(),
            remembered: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_idle(FORGET_AFTER)
                .build(),
            right: Cache::builder().max_capacity(MAX_REMEMBERED).time_to_idle(FORGET_AFTER).build(),
            epoch: AtomicU64::new(0),
            channel_up: AtomicBool::new(true),
            turns: Arc::new(Semaphore::new(cores)),
            queues: Mutex::default(),
            used: Mutex::default(),
            metrics,
        }
    }

    /// Finds out who presents a credential.
    ///
    /// # Errors
    /// `unauthorized` without one, `invalid_api_key` for one that opens nothing, `org_suspended`.
    pub async fn authenticate(
        &self,
        credential: Option<&str>,
        request_id: &str,
        origin: &str,
    ) -> Result<Caller> {
        let Some(text) = credential.map(str::trim).filter(|text| !text.is_empty()) else {
            return Err(Refused::new(
                Code::Unauthorized,
                "send an API key as 'Authorization: Bearer cn_live_...' or in x-api-key",
            )
            .into());
        };
        let secret = KeySecret::parse(text).map_err(|_| invalid_key())?;
        let found = self.verified(&secret).await?;
        if found.key.revoked_at.is_some() {
            return Err(invalid_key().into());
        }
        if found.organization.suspended_at.is_some() {
            return Err(Refused::new(Code::OrgSuspended, "the organization is suspended").into());
        }
        self.note_use(found.key.id);
        Ok(Caller {
            limits: self.config.limits(&found.organization, self.clock.now()),
            key: Arc::clone(&found.key),
            organization: Arc::clone(&found.organization),
            request_id: request_id.to_owned(),
            origin: origin.to_owned(),
        })
    }

    async fn verified(&self, secret: &KeySecret) -> Result<Arc<Remembered>> {
        let digest = self.digest(secret);
        if let Some(found) = self.recall(&digest, secret).await? {
            return Ok(found);
        }
        if let Some((right, hash)) = self.right.get(secret.lookup())
            && right != digest
        {
            // Unless the row got another secret, which no operation does at present.
            let row = store::api_keys::by_lookup(self.db.read(), secret.lookup()).await?;
            if row.is_none_or(|row| row.secret_hash == hash) {
                return Err(invalid_key().into());
            }
        }
        let queue = self.queue(secret.lookup());
        let wait = tokio::time::timeout(MAX_WAIT, queue.lock());
        let _turn = wait.await.map_err(|_| self.overloaded())?;
        // Somebody before us in the queue may have verified the same token.
        if let Some(found) = self.recall(&digest, secret).await? {
            return Ok(found);
        }
        let epoch = self.epoch.load(Ordering::Acquire);
        let now = self.clock.now();
        let credential = store::api_keys::by_lookup(self.db.read(), secret.lookup())
            .await?
            .ok_or_else(invalid_key)?;
        if !self.argon2_agrees(secret, credential.secret_hash.clone()).await? {
            return Err(invalid_key().into());
        }
        let right = (digest, credential.secret_hash.clone());
        self.right.insert(secret.lookup().to_owned(), right);
        let found = Remembered::new(credential, epoch, now);
        self.remembered.insert(digest, Arc::clone(&found));
        Ok(found)
    }

    /// What is remembered of a token, its row read again if it may have changed. The token itself
    /// was verified, so no argon2 is needed as long as the row still has the same hash.
    async fn recall(
        &self,
        digest: &[u8; 32],
        secret: &KeySecret,
    ) -> Result<Option<Arc<Remembered>>> {
        let Some(found) = self.remembered.get(digest) else { return Ok(None) };
        let (epoch, now) = (self.epoch.load(Ordering::Acquire), self.clock.now());
        let fresh = found.epoch == epoch
            && self.channel_up.load(Ordering::Acquire)
            && now - found.read_at < MAX_ROW_AGE;
        if fresh {
            return Ok(Some(found));
        }
        let row = store::api_keys::by_lookup(self.db.read(), secret.lookup()).await?;
        match row {
            Some(row) if row.secret_hash == found.credential.secret_hash => {
                let found = Remembered::new(row, epoch, now);
                self.remembered.insert(*digest, Arc::clone(&found));
                Ok(Some(found))
            }
            Some(_) | None => {
                self.remembered.invalidate(digest);
                Ok(None)
            }
        }
    }

    fn overloaded(&self) -> Error {
        self.metrics.refusals.increment(1);
        Error::Overloaded("key verification")
    }

    async fn argon2_agrees(&self, secret: &KeySecret, hash: String) -> Result<bool> {
        let began = Instant::now();
        let turn = tokio::time::timeout(MAX_WAIT, Arc::clone(&self.turns).acquire_owned());
        let turn = turn.await.map_err(|_| self.overloaded())?;
        let secret = secret.clone();
        let verified = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            PasswordHash::new(&hash)
                .map(|hash| argon2id().verify_password(secret.expose().as_bytes(), &hash).is_ok())
        });
        let verified = verified.await;
        self.metrics.verification_seconds.record(began.elapsed());
        verified
            .map_err(|_| self.overloaded())?
            .map_err(|error| store::Error::Corrupt(format!("api_keys.secret_hash: {error}")).into())
    }

    fn digest(&self, secret: &KeySecret) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.process_key)
            .expect("HMAC takes keys of any length");
        mac.update(secret.expose().as_bytes());
        mac.finalize().into_bytes().into()
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

    /// Tells that some key or organization changed: every remembered row is read again before use.
    pub fn forget_rows(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Tells whether changes made by other processes are announced to us at present.
    pub fn set_channel(&self, up: bool) {
        self.forget_rows();
        self.channel_up.store(up, Ordering::Release);
    }

    fn note_use(&self, key: ApiKeyId) {
        let now = self.clock.now();
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(key, now);
    }

    /// Takes the keys seen since the last call, for one batched write.
    #[must_use]
    pub fn take_used(&self) -> Vec<(ApiKeyId, DateTime<Utc>)> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *used).into_iter().collect()
    }
}

fn invalid_key() -> Refused {
    Refused::new(Code::InvalidApiKey, "the API key is malformed, unknown or revoked")
}

/// The parameters of design section 4; OWASP's minimum for argon2id.
fn argon2id() -> Argon2<'static> {
    let params = Params::new(19_456, 2, 1, None).expect("constants within argon2's ranges");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// A new random key.
#[must_use]
pub fn generate_key() -> KeySecret {
    let mut rng = rand::rng();
    let mut random = |n: usize| -> String {
        (0..n).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
    };
    KeySecret::from_parts(&random(LOOKUP_LEN), &random(SECRET_LEN))
        .expect("parts of the right length and alphabet")
}

/// The hash to store for a key. Takes about 30 ms of CPU: call it off the async threads.
///
/// # Panics
/// Never: the parameters are constants and any bytes can be hashed.
#[must_use]
pub fn hash_key(key: &KeySecret) -> String {
    argon2id().hash_password(key.expose().as_bytes()).expect("argon2 hashes any bytes").to_string()
}
