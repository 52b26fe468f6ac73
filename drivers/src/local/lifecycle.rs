//! Makes one sandbox of this driver: which programs, with which arguments, as whom. What becomes of it
//! after that, and after any accident, is the same as with every driver that keeps processes.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use chrono::{DateTime, Utc};
use domain::id::SandboxId;
use tokio::net::UnixStream;

use super::{LocalConfig, arguments, arguments::Descriptor, filter, host::Host};
use crate::{
    guest::Guest,
    jail::{
        self,
        failure::{Doing, Result},
        groups::{Groups, Promise},
        hold::{Held, Hold, silent},
        launcher::{self, Launch, Launcher, Script},
        program::{self, Program},
        uids::Uids,
    },
    spec::Spec,
};

/// Waits for a line, then becomes bubblewrap. Standard output is one end of a pair of sockets: what
/// to wait for comes in, what bubblewrap tells goes out (descriptor 3). The files need no place on
/// the host that a sandbox's user would have to be able to read; only the filter, which is binary, is
/// a file, named by what is the shell's own name otherwise.
pub(super) const SCRIPT: &str = "\
IFS= read -r go <&1 || exit 1
exec \"$@\" 3>&1 >/dev/null 9<\"$0\" 4<<'PASSWD' 5<<'GROUP' 6<<'HOSTS' 7<<'NSSWITCH' 8<<'HOSTNAME'
user:x:1000:1000::/home/user:/bin/sh
nobody:x:65534:65534::/:/usr/sbin/nologin
PASSWD
user:x:1000:
nogroup:x:65534:
GROUP
127.0.0.1 localhost sandbox
::1 localhost
HOSTS
passwd: files
group: files
hosts: files dns
NSSWITCH
sandbox
HOSTNAME
";

/// Where the script opens the filter of system calls.
pub(super) const FILTER: Descriptor = Descriptor("9");

/// One sandbox, whether it is there or not.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    config: LocalConfig,
    hold: Hold,
    promise: Promise,
}

impl Sandbox {
    pub fn new(config: &LocalConfig, promise: &Promise, id: SandboxId) -> Self {
        let program = arguments::agent_inside(id);
        let hold = Hold::new(&config.state_dir, id, config.uids(), program);
        Self { config: config.clone(), hold, promise: promise.clone() }
    }

    async fn hello(&self) -> Result<()> {
        let stream = self.connect()?;
        let guest = Guest::over(Box::new(stream)).await.map_err(silent)?;
        guest.hello().await.map(drop).map_err(silent)
    }

    /// Connects to the agent of a sandbox that runs.
    pub fn connect(&self) -> Result<UnixStream> {
        let stream = self.hold.directory.connect().and_then(UnixStream::from_std);
        stream.doing("connect to the agent in", &self.hold.directory.path)
    }

    fn launch(
        &self,
        host: &Host,
        spec: &Spec,
        filter: Option<PathBuf>,
        uid: Option<u32>,
    ) -> Result<Launch> {
        let agent = self.config.agent_for(uid)?;
        let descriptor = filter.as_ref().map(|_| FILTER);
        Ok(Launch {
            script: Script { text: SCRIPT, name: filter.unwrap_or_else(|| "/dev/null".into()) },
            program: program::find_bwrap(&self.config.bwrap)?,
            arguments: arguments::sandbox(host, &agent, self.hold.id, spec, descriptor),
            uid,
            n_pids: spec.limits.n_pids,
            // What it writes is in memory, and counted there.
            largest_file: None,
            stdin: Stdio::from(OwnedFd::from(self.hold.directory.listen()?)),
        })
    }
}

impl Held for Sandbox {
    type Order = Spec;
    const START_DEADLINE: Duration = Duration::from_secs(10);

    fn hold(&self) -> &Hold {
        &self.hold
    }

    async fn make(&self, spec: &Spec) -> Result<DateTime<Utc>> {
        let (host, directory) = (Host::look(), &self.hold.directory);
        program::find_bwrap(&self.config.bwrap)?;
        directory.create(spec)?;
        let uid = self.hold.claim_user().await?;
        let filter = self.config.filter()?;
        let mut record = self.hold.begin_record()?;
        let groups = Groups::make(&self.hold.id.to_string(), &spec.limits, &self.promise)?;
        let mut launcher = Launcher::start(self.launch(&host, spec, filter, uid)?)?;
        record.launcher = Some(launcher.process);
        record.groups.clone_from(&groups.directories);
        directory.write(&record)?;
        groups.join(launcher.process.pid)?;
        let agent = launcher.go().await?;
        launcher::limit_processes(agent, uid, spec.limits.n_pids)?;
        tokio::select! {
            hello = self.hello() => hello?,
            failure = launcher.end() => return Err(failure),
        }
        record.inside = Some(agent);
        directory.write(&record)?;
        directory.written_at()
    }
}

impl LocalConfig {
    /// The range of user ids for sandboxes, if the server may give any away.
    pub(super) fn uids(&self) -> Option<Uids> {
        jail::uids(self.first_uid, self.n_uids)
    }

    /// The filter of system calls, in a place where sandboxes can be started from.
    pub(super) fn filter(&self) -> Result<Option<PathBuf>> {
        filter::file(if jail::is_root() { jail::SHARED.as_ref() } else { &self.state_dir })
    }

    /// The agent in a form that this user can run.
    pub(super) fn agent_for(&self, uid: Option<u32>) -> Result<PathBuf> {
        let agent = Program {
            name: "agent",
            path: &self.agent,
            remedy: "build it with `cargo build -p guest` or correct its path in the configuration",
        };
        match uid {
            Some(_) => agent.readable(&Path::new(jail::SHARED).join("agents")),
            None => agent.existing(),
        }
    }
}
