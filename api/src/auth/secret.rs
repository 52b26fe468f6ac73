//! Making keys and hashing them. Remembers nothing.

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use domain::key::{ALPHABET, KeyKind, KeySecret, LOOKUP_LEN, SECRET_LEN};
use rand::RngExt;

/// The parameters of design section 4; OWASP's minimum for argon2id.
fn argon2id() -> Argon2<'static> {
    let params = Params::new(19_456, 2, 1, None).expect("constants within argon2's ranges");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// A new random key.
#[must_use]
pub fn generate_key(kind: KeyKind) -> KeySecret {
    let mut rng = rand::rng();
    let mut random = |n: usize| -> String {
        (0..n).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
    };
    KeySecret::from_parts(kind, &random(LOOKUP_LEN), &random(SECRET_LEN))
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

/// Whether a stored hash is this key's. Takes as long as [`hash_key`].
///
/// # Errors
/// For a text that is no hash.
pub(super) fn agrees(
    key: &KeySecret,
    hash: &str,
) -> Result<bool, argon2::password_hash::phc::Error> {
    let hash = PasswordHash::new(hash)?;
    Ok(argon2id().verify_password(key.expose().as_bytes(), &hash).is_ok())
}
