//! Whether this host can run what a server with the local driver runs. Whether that is a reason to skip is the
//! story's to say.

use drivers::{
    Driver as _, ErrorKind,
    local::{Local, LocalConfig},
};

use crate::program;

/// Why this host cannot run local sandboxes, if it cannot.
pub async fn cannot_run_sandboxes() -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let agent = program::folder().join("crownest-guest");
    assert!(agent.is_file(), "there is no {}; scripts/build makes it", agent.display());
    match Local::new(LocalConfig::new(folder.path(), agent)).check().await {
        Ok(_) => None,
        Err(error) if error.kind == ErrorKind::Unsupported => Some(error.to_string()),
        Err(error) => panic!("the host does not say whether it can run sandboxes: {error}"),
    }
}
