//! Tokens of previews: made once, shown once, stored as a hash.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How a token begins.
pub const PREFIX: &str = "pvt_";

/// A new token with its hash.
#[must_use]
pub fn generate() -> (String, [u8; 32]) {
    let token = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let hash = hash(&token);
    (token, hash)
}

/// What is stored of a token. It is 256 random bits, which nobody tries out however fast the hash is; a
/// slow one, as keys and passwords have, would only make every request dear.
fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether a text is the token of a hash; takes as long whether it is nearly that or not at all.
#[must_use]
pub fn opens(text: &str, stored: &[u8; 32]) -> bool {
    hash(text).ct_eq(stored).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_what_it_was_made_for_alone() {
        let (token, hash) = generate();
        let (other, other_hash) = generate();
        assert!(token.starts_with(PREFIX) && token.len() == 47, "{token}");
        assert!(opens(&token, &hash) && opens(&other, &other_hash));
        assert!(!opens(&other, &hash) && !opens("", &hash) && !opens(&token[..46], &hash));
    }
}
