//! Where the API is and who asks: flags, variables and a file. A key is never an argument, because
//! everybody on the machine can read those.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Client, Failure};

/// Where a key may be, the first that is there counts. The published clients know both.
const KEYS: [&str; 2] = ["CROWNEST_BEARER_TOKEN", "CROWNEST_API_KEY"];
/// A file of more bytes than this holds no key.
const MAX_KEY_FILE: u64 = 4096;

/// Where the API is, and with which key to ask it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The API")]
pub struct Access {
    /// Where the API is; a path in it is kept.
    #[arg(
        long,
        value_name = "URL",
        env = "CROWNEST_API_URL",
        default_value = "http://127.0.0.1:8787"
    )]
    api_url: String,
    /// A file that holds the key and nothing else. Without one, the key is in the variable
    /// CROWNEST_BEARER_TOKEN or CROWNEST_API_KEY.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl Access {
    /// A client for it.
    ///
    /// # Errors
    /// `Argument` when there is no key, or a setting makes no sense.
    pub fn client(&self) -> Result<Client, Failure> {
        let key = key(("key-file", self.key_file.as_deref()), &KEYS)?;
        Client::new(("api-url", &self.api_url), &key)
    }
}

/// The key: in the file that `setting` names, or in the first of these variables that is there.
///
/// # Errors
/// `Argument` when there is none, or the file holds none.
pub fn key((setting, file): (&str, Option<&Path>), variables: &[&str]) -> Result<String, Failure> {
    if let Some(file) = file {
        return read(file).map_err(|e| Failure::Argument(format!("{setting}: {e:#}")));
    }
    let held = variables.iter().filter_map(|name| std::env::var(name).ok());
    held.map(|key| key.trim().to_owned()).find(|key| !key.is_empty()).ok_or_else(|| {
        let last = variables.last().copied().unwrap_or_default();
        Failure::Argument(format!("there is no key: set {last}, or name a file with --{setting}"))
    })
}

fn read(file: &Path) -> anyhow::Result<String> {
    let at = || file.display().to_string();
    let size = std::fs::metadata(file).with_context(at)?.len();
    anyhow::ensure!(size <= MAX_KEY_FILE, "{} is too large to be a key", at());
    let text = std::fs::read_to_string(file).with_context(at)?;
    let key = text.trim();
    anyhow::ensure!(!key.is_empty(), "{} is empty", at());
    anyhow::ensure!(!key.contains(char::is_whitespace), "{} holds more than a key", at());
    Ok(key.to_owned())
}
