//! Finds out whether this host can run sandboxes, by running one that does nothing, and what it
//! cannot enforce for them. Starts and changes no sandbox that anybody asked for.

use std::{fs::File, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use super::{
    LocalConfig,
    arguments::{self, Descriptor},
    host::Host,
};
use crate::{
    jail::{
        self,
        failure::{Doing, Failure, Result},
        groups::{Controller, Promise},
        launcher, program, record,
    },
    spec::Limitation,
};

const DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn check(config: &LocalConfig, promise: &Promise) -> Result<Vec<Limitation>> {
    record::private_directory(&config.state_dir)?;
    let host = Host::look();
    trial(config, &host).await?;
    let enforced = promise.renew();
    let mut limitations: Vec<_> = Controller::ALL
        .into_iter()
        .filter(|controller| !enforced.contains(controller))
        .filter_map(unenforced)
        .collect();
    for (name, program) in [("python3", &host.python), ("node", &host.node)] {
        if program.is_none() {
            limitations.push(Limitation {
                what: format!("Templates with {name} are refused, for the host does not have it."),
                remedy: format!("Install {name} with the system's package manager."),
            });
        }
    }
    limitations.extend(jail::shared_users(config.uids()));
    if config.filter()?.is_none() {
        limitations.push(Limitation {
            what: "Sandboxes can use the keys of the server's session.".to_owned(),
            remedy: "Use a host with an x86-64 or 64-bit ARM processor.".to_owned(),
        });
    }
    limitations.push(Limitation {
        what: "Sandboxes share the kernel of the host, and have no network.".to_owned(),
        remedy: "Use the cloud_hypervisor driver for code that is not trusted.".to_owned(),
    });
    Ok(limitations)
}

fn unenforced(controller: Controller) -> Option<Limitation> {
    match controller {
        // The user namespace bounds them as well.
        Controller::Pids if launcher::counts_processes_by_namespace() => None,
        Controller::Cpu | Controller::Memory | Controller::Pids => {
            Some(jail::unlimited(controller))
        }
    }
}

/// Runs a sandbox that does nothing, as a user like those that sandboxes run as.
async fn trial(config: &LocalConfig, host: &Host) -> Result<()> {
    let bwrap = program::find_bwrap(&config.bwrap)?;
    let uid = config.uids().map(|uids| uids.trial());
    let agent = config.agent_for(uid)?;
    let filter = config.filter()?;
    // Standard input is as good a way in as any other.
    let descriptor = filter.as_ref().map(|_| Descriptor("0"));
    let stdin = match &filter {
        Some(path) => Stdio::from(File::open(path).doing("open", path)?),
        None => Stdio::null(),
    };
    let mut command = Command::new(&bwrap);
    command.args(arguments::trial(host, &agent, descriptor)).env_clear().current_dir("/");
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    let ended = timeout(DEADLINE, command.output());
    let ended = ended.await.map_err(|_| Failure::timed_out("a trial of bubblewrap hangs"))?;
    let output = ended.map_err(|error| launcher::unstarted(&error, uid))?;
    if output.status.success() {
        return Ok(());
    }
    Err(launcher::explained(String::from_utf8_lossy(&output.stderr).trim()))
}
