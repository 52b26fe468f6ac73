//! What handlers take from a request: who asks, query parameters, the idempotency key, the body. Each
//! fails with an [`ApiError`](super::error::ApiError); none decides anything but scopes and rates.

mod admin;
mod auth;
mod base_url;
mod body;
mod human;
mod idempotency;
mod query;

use std::time::Duration;

use futures_util::StreamExt;
use poem::RequestBody;

pub use admin::Admin;
pub use auth::{Access, Auth};
pub use base_url::BaseUrl;
pub use body::{JsonBody, StrictBody};
pub use human::{HUMAN_HEADERS, Human, KeyReader};
pub use idempotency::IdempotencyKey;
pub use query::{AfterSeq, Cursor, Limit, MetadataFilter, Param, Position, Query, page};

/// Bytes that are still read of a body that nobody wants.
const MAX_DRAINED: usize = 4 << 20;
const MAX_DRAINING: Duration = Duration::from_secs(2);

/// Reads the rest of a refused request's body, within bounds: closing a connection with unread bytes
/// resets it, and the client would see that instead of the refusal.
async fn drain(body: &mut RequestBody) {
    let Ok(body) = body.take() else { return };
    let mut pieces = std::pin::pin!(body.into_bytes_stream());
    let mut left = MAX_DRAINED;
    let read = async {
        while let Some(Ok(piece)) = pieces.next().await
            && piece.len() <= left
        {
            left -= piece.len();
        }
    };
    // Whatever came of it: the refusal is sent next.
    let _ = tokio::time::timeout(MAX_DRAINING, read).await;
}
