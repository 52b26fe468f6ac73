//! From a credential to who holds it: format, look-up, argon2id, and a memory of what was verified
//! (design, section 4). Knows nothing of HTTP.

mod secret;
mod verify;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{
    Code, Refused,
    admin::AdminKey,
    id::{AdminKeyId, ApiKeyId, entity},
    key::{ApiKey, KeyKind, KeySecret},
    organization::Organization,
};
use store::Db;

pub use secret::{generate_key, hash_key};
use verify::{Held, Shared, Verifier, invalid_key};

use crate::{
    app::{admin::AdminCaller, caller::Caller, error::Result},
    clock::Clock,
    config::Config,
    metrics::Keys,
};

/// Verifies credentials.
#[derive(Debug)]
pub struct Authenticator {
    config: Arc<Config>,
    shared: Arc<Shared>,
    tenants: Verifier<Tenant>,
    operators: Verifier<Operator>,
}

#[derive(Debug)]
struct Tenant {
    key: Arc<ApiKey>,
    organization: Arc<Organization>,
    secret_hash: String,
}

impl Held for Tenant {
    const KIND: KeyKind = KeyKind::Api;
    type Key = entity::ApiKey;

    async fn by_lookup(db: &Db, lookup: &str) -> store::Result<Option<Self>> {
        let found = store::api_keys::by_lookup(db.read(), lookup).await?;
        Ok(found.map(|found| Self {
            key: Arc::new(found.key),
            organization: Arc::new(found.organization),
            secret_hash: found.secret_hash,
        }))
    }

    fn secret_hash(&self) -> &str {
        &self.secret_hash
    }
}

#[derive(Debug)]
struct Operator {
    key: Arc<AdminKey>,
    secret_hash: String,
}

impl Held for Operator {
    const KIND: KeyKind = KeyKind::Admin;
    type Key = entity::AdminKey;

    async fn by_lookup(db: &Db, lookup: &str) -> store::Result<Option<Self>> {
        let found = store::admin_keys::by_lookup(db.read(), lookup).await?;
        Ok(found.map(|found| Self { key: Arc::new(found.key), secret_hash: found.secret_hash }))
    }

    fn secret_hash(&self) -> &str {
        &self.secret_hash
    }
}

impl Authenticator {
    /// An authenticator that remembers nothing yet.
    #[must_use]
    pub fn new(db: Db, clock: Arc<dyn Clock>, config: Arc<Config>, metrics: Keys) -> Self {
        let shared = Arc::new(Shared::new(db, clock, metrics));
        Self {
            config,
            tenants: Verifier::new(Arc::clone(&shared)),
            operators: Verifier::new(Arc::clone(&shared)),
            shared,
        }
    }

    /// Finds out which tenant presents a credential.
    ///
    /// # Errors
    /// `unauthorized` without one, `invalid_api_key` for one that opens nothing, `org_suspended`.
    pub async fn authenticate(
        &self,
        credential: Option<&str>,
        request_id: &str,
        origin: &str,
    ) -> Result<Caller> {
        let wanted = "send an API key as 'Authorization: Bearer cn_live_...' or in x-api-key";
        let found = self.tenants.verify(presented(credential, wanted)?).await?;
        if !found.key.is_good(self.shared.clock.now()) {
            return Err(invalid_key().into());
        }
        found.organization.standing.check()?;
        self.tenants.note_use(found.key.id);
        Ok(Caller {
            limits: self.config.limits(&found.organization, self.shared.clock.now()),
            key: Arc::clone(&found.key),
            organization: Arc::clone(&found.organization),
            request_id: request_id.to_owned(),
            origin: origin.to_owned(),
        })
    }

    /// Finds out which operator presents a credential.
    ///
    /// # Errors
    /// `unauthorized` without one, `invalid_api_key` for one that opens nothing here.
    pub async fn authenticate_admin(
        &self,
        credential: Option<&str>,
        request_id: &str,
        origin: &str,
    ) -> Result<AdminCaller> {
        let wanted = "send an admin key as 'Authorization: Bearer cn_admin_...'";
        let found = self.operators.verify(presented(credential, wanted)?).await?;
        if found.key.revoked_at.is_some() {
            return Err(invalid_key().into());
        }
        self.operators.note_use(found.key.id);
        Ok(AdminCaller {
            key: Arc::clone(&found.key),
            request_id: request_id.to_owned(),
            origin: origin.to_owned(),
        })
    }

    /// The hash to store for a new key.
    ///
    /// # Errors
    /// When too many verifications are under way.
    pub async fn hash(&self, key: &KeySecret) -> Result<String> {
        let key = key.clone();
        self.shared.in_turn(move || hash_key(&key)).await
    }

    /// Tells that some key or organization changed: every remembered row is read again before use.
    pub fn forget_rows(&self) {
        self.shared.forget_rows();
    }

    /// Tells whether changes made by other processes are announced to us at present.
    pub fn set_channel(&self, up: bool) {
        self.shared.set_channel(up);
    }

    /// Takes the keys seen since the last call, for one batched write.
    #[must_use]
    pub fn take_used(&self) -> Used {
        Used { tenants: self.tenants.take_used(), operators: self.operators.take_used() }
    }
}

/// Keys, and when each was last seen.
#[derive(Debug)]
pub struct Used {
    /// Tenants' keys.
    pub tenants: Vec<(ApiKeyId, DateTime<Utc>)>,
    /// Operators' keys.
    pub operators: Vec<(AdminKeyId, DateTime<Utc>)>,
}

fn presented<'c>(credential: Option<&'c str>, wanted: &str) -> Result<&'c str> {
    let given = credential.map(str::trim).filter(|text| !text.is_empty());
    Ok(given.ok_or_else(|| Refused::new(Code::Unauthorized, wanted))?)
}
