//! Capability URLs: a token that opens one method and path of one organization until an instant.
//! Keys live in the database, so every replica accepts every token and a key can be rotated: the
//! newest signs, each one that is still stored verifies. `app/signing_keys.rs` rotates them.

use std::{collections::HashMap, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use domain::{
    Code, Refused,
    id::{OrganizationId, SigningKeyId},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use store::{Db, signing_keys::SigningKey};
use tokio::{sync::RwLock, time::Instant};

use crate::app::error::Result;

/// How long a key that was read is believed to be still there.
const BELIEF: Duration = Duration::from_secs(5);

/// Signs and checks capability tokens.
#[derive(Debug, Default)]
pub struct Signer {
    keys: RwLock<HashMap<SigningKeyId, ([u8; 32], Instant)>>,
}

/// What a token opens.
#[derive(Debug, Clone, Copy)]
pub struct Capability<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path with whatever of the query matters.
    pub path: &'a str,
}

impl Signer {
    /// Makes a token for `org` that ends at `expires_at` (whole seconds, rounded down).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sign(
        &self,
        db: &Db,
        org: OrganizationId,
        capability: Capability<'_>,
        now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<String> {
        let (id, secret) = current(db, now).await?;
        let body =
            format!("{}.{}.{}", expires_at.timestamp(), org.uuid().simple(), id.uuid().simple());
        let signature = mac(&secret, &body, capability).finalize().into_bytes();
        Ok(format!("{body}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Checks a token and tells whose it is.
    ///
    /// # Errors
    /// `unauthorized` for a token that is malformed, for something else, of an unknown key or over;
    /// `org_suspended`.
    pub async fn verify(
        &self,
        db: &Db,
        token: &str,
        capability: Capability<'_>,
        now: DateTime<Utc>,
    ) -> Result<OrganizationId> {
        let token = parse(token).ok_or_else(refused)?;
        let secret = self.secret(db, token.key).await?.ok_or_else(refused)?;
        // verify_slice compares in constant time.
        mac(&secret, token.body, capability)
            .verify_slice(&token.signature)
            .map_err(|_| refused())?;
        if now.timestamp() >= token.expires_at {
            return Err(refused().into());
        }
        let organization = store::organizations::get(db.read(), token.org).await?;
        organization.standing.check()?;
        Ok(token.org)
    }

    async fn secret(&self, db: &Db, id: SigningKeyId) -> Result<Option<[u8; 32]>> {
        if let Some((secret, read_at)) = self.keys.read().await.get(&id)
            && read_at.elapsed() < BELIEF
        {
            return Ok(Some(*secret));
        }
        let found = store::signing_keys::get(db.read(), id).await?;
        let found = found.map(|key| bytes(&key)).transpose()?;
        let mut keys = self.keys.write().await;
        match found {
            Some(secret) => drop(keys.insert(id, (secret, Instant::now()))),
            None => drop(keys.remove(&id)),
        }
        Ok(found)
    }
}

/// A new key.
pub fn new_key(now: DateTime<Utc>) -> SigningKey {
    SigningKey {
        id: SigningKeyId::generate(now),
        secret: rand::random::<[u8; 32]>().to_vec(),
        created_at: now,
        retired_at: None,
    }
}

/// The newest key; the first one is made when it is first needed. Two servers that make one at the
/// same time leave two good keys.
async fn current(db: &Db, now: DateTime<Utc>) -> Result<(SigningKeyId, [u8; 32])> {
    let key = match store::signing_keys::current(db.read()).await? {
        Some(key) => key,
        None => {
            let key = new_key(now);
            store::signing_keys::insert(db.write(), &key).await?;
            key
        }
    };
    Ok((key.id, bytes(&key)?))
}

fn bytes(key: &SigningKey) -> Result<[u8; 32]> {
    let wrong = |_| store::Error::Corrupt(format!("{} is not of 32 bytes", key.id));
    Ok(key.secret.as_slice().try_into().map_err(wrong)?)
}

struct Token<'a> {
    body: &'a str,
    expires_at: i64,
    org: OrganizationId,
    key: SigningKeyId,
    signature: Vec<u8>,
}

fn parse(token: &str) -> Option<Token<'_>> {
    let (body, signature) = token.rsplit_once('.')?;
    let mut parts = body.split('.');
    let expires_at = parts.next()?.parse().ok()?;
    let org = OrganizationId::from_uuid(parts.next()?.parse().ok()?);
    let key = SigningKeyId::from_uuid(parts.next()?.parse().ok()?);
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
    parts.next().is_none().then_some(Token { body, expires_at, org, key, signature })
}

fn mac(secret: &[u8; 32], body: &str, capability: Capability<'_>) -> Hmac<Sha256> {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(secret).expect("HMAC takes keys of any length");
    // Neither a method nor a token body can hold a line break, so the parts cannot be shifted.
    mac.update(format!("v1\n{}\n{body}\n{}", capability.method, capability.path).as_bytes());
    mac
}

fn refused() -> Refused {
    Refused::new(Code::Unauthorized, "the link is not valid or has expired; ask for a new one")
}
