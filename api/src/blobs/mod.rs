//! Where the bytes of artifacts are: a folder of this host, or an S3 bucket. Streams in and out, a few
//! parts in memory at a time, with a checksum over all of it. What appears there appears whole. Knows
//! keys, sizes and checksums, and neither rows nor tenants.

mod place;
mod read;
mod write;

use std::time::Duration;

use object_store::{ObjectStoreExt as _, PutPayload};
use tokio::sync::OnceCell;

pub use write::Written;

use crate::config::Config;
use place::{Place, Store};

/// Uploads that a process may have at a time, whose turn it is being for the caller to say. Each holds
/// [`write::IN_FLIGHT`] parts and the one that is being filled, so this bounds the memory that they take.
pub const UPLOADS: usize = 6;
/// A single call of the store, with its repetitions.
const CALL: Duration = Duration::from_secs(90);
/// Making all of an upload durable.
const COMMIT: Duration = Duration::from_secs(600);

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has no such bytes.
    #[error("the bytes are not there")]
    Missing,
    /// It has others than were written.
    #[error("the bytes are not those that were written")]
    Corrupt,
    /// It did not answer.
    #[error("the artifact store did not answer in time")]
    TimedOut,
    /// It failed.
    #[error("the artifact store failed: {0}")]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        if matches!(error, object_store::Error::NotFound { .. }) {
            return Self::Missing;
        }
        Self::Failed(error.into())
    }
}

/// The result of a call of the store.
pub type Result<T> = std::result::Result<T, Error>;

/// The store of a server. Opened when it is first needed.
#[derive(Debug)]
pub struct Blobs {
    place: Result<Place>,
    store: OnceCell<Store>,
}

/// Checks the settings of the store.
///
/// # Errors
/// A text that names the setting.
pub fn check(config: &Config) -> std::result::Result<(), String> {
    if config.max_artifact_bytes > write::MAX_BYTES {
        return Err(format!("max_artifact_bytes must be at most {}", write::MAX_BYTES));
    }
    Place::of(config).map(drop)
}

impl Blobs {
    /// The store of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            place: Place::of(config).map_err(|text| Error::Failed(text.into())),
            store: OnceCell::new(),
        }
    }

    /// Opens the store, and writes and removes something small, so that a server that cannot keep
    /// artifacts does not start.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn open(&self) -> Result<()> {
        let store = self.store().await?;
        let key = format!(".probe-{}", std::process::id());
        let probe = PutPayload::from_static(b"probe");
        within(CALL, store.objects().put(&store.path(&key), probe)).await?;
        self.remove(&key, None).await
    }

    /// Removes everything that is kept under a key, half-written or whole. Removed twice, it is gone.
    ///
    /// # Errors
    /// When the store does not answer; then some may be left.
    pub async fn remove(&self, key: &str, upload_id: Option<&str>) -> Result<()> {
        match within_all(CALL, self.store().await?.remove(key, upload_id)).await {
            Err(Error::Missing) => Ok(()),
            result => result,
        }
    }

    /// Whether a write that was given up may still take effect after [`Self::remove`]: a bucket may be at
    /// work on a call that nobody waits for any more. In a folder nothing comes back.
    #[must_use]
    pub const fn may_write_late(&self) -> bool {
        matches!(self.place, Ok(Place::Bucket { .. }))
    }

    async fn store(&self) -> Result<&Store> {
        let open = || async {
            match &self.place {
                Ok(place) => Store::open(place.clone()).await,
                Err(error) => Err(Error::Failed(error.to_string().into())),
            }
        };
        self.store.get_or_try_init(open).await
    }
}

async fn within<T>(
    deadline: Duration,
    answer: impl Future<Output = object_store::Result<T>>,
) -> Result<T> {
    within_all(deadline, async { Ok(answer.await?) }).await
}

async fn within_all<T>(deadline: Duration, answer: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(deadline, answer).await.unwrap_or(Err(Error::TimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bucket_writes_late() {
        for (store, wanted) in
            [(None, false), (Some("/srv/artifacts"), false), (Some("s3://b"), true)]
        {
            let artifact_store = store.map(str::to_owned);
            let blobs = Blobs::of(&Config { artifact_store, ..Config::default() });
            assert_eq!(blobs.may_write_late(), wanted, "{store:?}");
        }
    }
}
