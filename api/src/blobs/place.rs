//! The two places: a folder, and a bucket of any service that speaks S3. What differs between them is
//! here alone.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    local::LocalFileSystem,
    multipart::MultipartStore,
    path::Path,
};

use super::{Error, Result};
use crate::config::Config;

/// The last part of what bytes are found by. A folder has one folder for each key, in which also lies
/// what is half written.
const BYTES: &str = "bytes";
const CONNECT: Duration = Duration::from_secs(5);
/// A bucket that is silent for this long is asked again.
const SILENCE: Duration = Duration::from_secs(30);
const RETRIES: usize = 5;

/// Where bytes are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A folder.
    Folder(PathBuf),
    /// A bucket, and what all keys in it begin with.
    Bucket { bucket: String, prefix: String, endpoint: Option<String>, region: Option<String> },
}

impl Place {
    /// Reads the settings.
    pub fn of(config: &Config) -> std::result::Result<Self, String> {
        if let Some(endpoint) = &config.artifact_s3_endpoint
            && !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme))
        {
            return Err("artifact_s3_endpoint must start with http:// or https://".to_owned());
        }
        let Some(text) = &config.artifact_store else {
            return Ok(Self::Folder(config.state_dir.join("artifacts")));
        };
        if let Some(address) = text.strip_prefix("s3://") {
            let (bucket, prefix) = address.split_once('/').unwrap_or((address, ""));
            if bucket.is_empty() {
                return Err("artifact_store must name a bucket, as s3://BUCKET/PREFIX".to_owned());
            }
            return Ok(Self::Bucket {
                bucket: bucket.to_owned(),
                prefix: prefix.trim_matches('/').to_owned(),
                endpoint: config.artifact_s3_endpoint.clone(),
                region: config.artifact_s3_region.clone(),
            });
        }
        let folder = text.strip_prefix("file://").unwrap_or(text);
        if folder.is_empty() || folder.contains("://") {
            return Err("artifact_store must be a folder or s3://BUCKET/PREFIX".to_owned());
        }
        Ok(Self::Folder(folder.into()))
    }
}

/// An open store. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Store {
    /// A folder.
    Folder { files: Arc<LocalFileSystem>, root: PathBuf },
    /// A bucket.
    Bucket { s3: Arc<AmazonS3>, prefix: String },
}

impl Store {
    pub async fn open(place: Place) -> Result<Self> {
        match place {
            Place::Folder(root) => {
                let failed = |error: io::Error| {
                    let text = format!("{}: {error}", root.display());
                    Error::Failed(text.into())
                };
                tokio::fs::create_dir_all(&root).await.map_err(failed)?;
                let root = tokio::fs::canonicalize(&root).await.map_err(failed)?;
                let files = LocalFileSystem::new_with_prefix(&root)?.with_fsync(true);
                Ok(Self::Folder { files: Arc::new(files), root })
            }
            Place::Bucket { bucket, prefix, endpoint, region } => {
                let s3 = Arc::new(open_bucket(bucket, endpoint, region)?);
                Ok(Self::Bucket { s3, prefix })
            }
        }
    }

    pub fn objects(&self) -> &dyn ObjectStore {
        match self {
            Self::Folder { files, .. } => files.as_ref(),
            Self::Bucket { s3, .. } => s3.as_ref(),
        }
    }

    /// Where the bytes of a key are.
    pub fn path(&self, key: &str) -> Path {
        match self {
            Self::Folder { .. } => Path::from(format!("{key}/{BYTES}")),
            Self::Bucket { prefix, .. } => Path::from(format!("{prefix}/{key}/{BYTES}")),
        }
    }

    pub async fn remove(&self, key: &str, upload_id: Option<&str>) -> Result<()> {
        match self {
            Self::Folder { root, .. } => {
                // With what is half written, which the store would not show.
                let folder = root.join(key);
                match tokio::fs::remove_dir_all(&folder).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(Error::Failed(error.into()))
                    }
                    Ok(()) | Err(_) => Ok(()),
                }
            }
            Self::Bucket { s3, .. } => {
                let path = self.path(key);
                if let Some(upload_id) = upload_id {
                    match s3
                        .abort_multipart(&path, &upload_id.to_owned())
                        .await
                        .map_err(Error::from)
                    {
                        // Whole already, or given up before.
                        Ok(()) | Err(Error::Missing) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(s3.delete(&path).await?)
            }
        }
    }
}

/// Credentials come from where such programs usually have them: `AWS_ACCESS_KEY_ID` and its like, or
/// the role of the machine.
fn open_bucket(
    bucket: String,
    endpoint: Option<String>,
    region: Option<String>,
) -> Result<AmazonS3> {
    // The workspace's HTTP client comes with TLS and without a provider; whoever is first installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = ClientOptions::new()
        .with_connect_timeout(CONNECT)
        .with_read_timeout(SILENCE)
        // A download takes as long as its reader does.
        .with_timeout_disabled();
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: RETRIES,
        retry_timeout: super::CALL,
    };
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client)
        .with_retry(retry);
    if let Some(region) = region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(store: Option<&str>) -> std::result::Result<Place, String> {
        let artifact_store = store.map(str::to_owned);
        Place::of(&Config { artifact_store, state_dir: "state".into(), ..Config::default() })
    }

    #[test]
    fn places() {
        let folder = |path: &str| Ok(Place::Folder(path.into()));
        let bucket = |bucket: &str, prefix: &str| {
            let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
            Ok(Place::Bucket { bucket, prefix, endpoint: None, region: None })
        };
        for (setting, wanted) in [
            (None, folder("state/artifacts")),
            (Some("/srv/artifacts"), folder("/srv/artifacts")),
            (Some("file:///srv/artifacts"), folder("/srv/artifacts")),
            (Some("s3://b"), bucket("b", "")),
            (Some("s3://b/a/c/"), bucket("b", "a/c")),
        ] {
            assert_eq!(place(setting), wanted, "{setting:?}");
        }
        for setting in ["", "s3://", "s3:///a", "gs://b", "https://b"] {
            let text = place(Some(setting)).unwrap_err();
            assert!(text.starts_with("artifact_store"), "{setting:?}: {text}");
        }
    }

    #[tokio::test]
    async fn what_is_half_written_goes_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Place::Folder(folder.path().join("new"))).await.unwrap();
        let path = store.path("org_1/art_1");
        let mut upload = store.objects().put_multipart(&path).await.unwrap();
        upload.put_part("half".into()).await.unwrap();
        let key = folder.path().join("new/org_1/art_1");
        assert_eq!(std::fs::read_dir(&key).unwrap().count(), 1);
        store.remove("org_1/art_1", None).await.unwrap();
        assert!(!key.exists());
        assert!(upload.complete().await.is_err(), "it cannot come back");
        assert!(!key.exists());
        store.remove("org_1/art_1", None).await.unwrap();
    }
}
