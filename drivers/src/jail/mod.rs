//! What any driver needs that keeps processes on this host: users of their own, control groups, a
//! record of what was started, and ways to find and end all of it after any accident. Does not decide
//! what a sandbox sees or runs; that is each driver's.

pub(crate) mod failure;
pub(crate) mod groups;
pub(crate) mod hold;
pub(crate) mod launcher;
pub(crate) mod lock;
pub(crate) mod overlap;
pub(crate) mod processes;
pub(crate) mod program;
pub(crate) mod record;
pub(crate) mod sockets;
pub(crate) mod sweeper;
pub(crate) mod uids;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use self::{
    failure::{Failure, Result},
    groups::Controller,
    uids::Uids,
};
use crate::{
    driver::{DriverError, Verb},
    spec::Limitation,
};

/// Where servers that are root keep what they share with each other, whatever their state
/// directories, and with the users that sandboxes run as.
pub(crate) const SHARED: &str = "/run/crownest";

/// The usual first id of the range of users for sandboxes. Below are the accounts and the subordinate
/// ids of `login.defs` (up to 600100000), systemd's containers (up to 1879048191) and what SSSD makes of
/// Active Directory (up to 2000200000); above are systemd's foreign ids (from 2147352576).
pub(crate) const FIRST_UID: u32 = 2_100_000_000;

/// The usual length of that range.
pub(crate) const N_UIDS: u32 = 4_096;

/// Runs a verb to its end even if the caller goes away, so that nothing is left half done.
pub(crate) async fn to_the_end<T: Send + 'static>(
    verb: Verb,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> std::result::Result<T, DriverError> {
    let ended = tokio::spawn(tracing::Instrument::in_current_span(work)).await;
    ended
        .unwrap_or_else(|error| Err(Failure::host(format!("it was broken off: {error}"))))
        .map_err(|failure| failure.of_verb(verb))
}

/// Whether the server may give users away and change what it likes.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The users for sandboxes, if the server may give any away.
pub(crate) fn uids(first: u32, n_uids: u32) -> Option<Uids> {
    is_root().then(|| Uids::new(Path::new(SHARED).join("uids"), first, n_uids))
}

/// A state directory as every server names it: claims of user ids name directories.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Says with whom sandboxes share their users.
pub(crate) fn shared_users(uids: Option<Uids>) -> Option<Limitation> {
    let Some(range) = uids.map(|uids| uids.range()) else {
        return Some(Limitation {
            what: "All sandboxes run as the server's own user.".to_owned(),
            remedy: "Run the server as root; then each sandbox gets a user of its own.".to_owned(),
        });
    };
    let others = overlap::others(&range);
    let (ids, n_ids) = (overlap::shown(&range), range.len());
    (!others.is_empty()).then(|| Limitation {
        what: format!(
            "The user ids of sandboxes, {ids}, are also somebody else's, whose processes are killed \
             with a sandbox of the same id: {}.",
            others.join(", ")
        ),
        remedy: format!(
            "Set sandbox_uid_base to the first of {n_ids} ids in a row that nobody on this host has."
        ),
    })
}

/// Says that a control group does not limit something.
pub(crate) fn unlimited(controller: Controller) -> Limitation {
    let what = match controller {
        Controller::Cpu => "The CPU time of a sandbox is not limited.",
        Controller::Memory => {
            "The memory of a sandbox is not limited, except for the files in its directories."
        }
        Controller::Pids => "The number of processes of a sandbox is not limited.",
    };
    let remedy = "Run the server as root, or as a systemd unit with Delegate=cpu memory pids.";
    Limitation { what: what.to_owned(), remedy: remedy.to_owned() }
}

/// How long ending the processes of a sandbox may take.
const KILL_DEADLINE: Duration = Duration::from_secs(10);
