//! The first process of a machine of its own: prepares it, serves `Machine`, tells the host that it is up,
//! and once it is told what the machine is to be, starts the agent as an ordinary user. Ends when the
//! agent ends, so that a machine never goes on without one.

mod init;
mod network;
mod ports;
mod service;

use std::{convert::Infallible, ffi::OsString, io, path::PathBuf};

use nix::sys::reboot::{RebootMode, reboot};
use protocol::{AGENT_PORT, MACHINE_PORT, machine_server::MachineServer};
use tokio::{runtime, sync::oneshot};
use tonic::transport::Server;

use self::{
    ports::Ports,
    service::{Kept, Service},
};
use crate::incoming;

/// The first argument that makes the binary the first process of a machine.
pub const VERB: &str = "machine";
/// What the kernel calls the first program of an initial file system.
pub const INIT: &str = "init";

/// What the machine was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineArguments {
    /// Where its ports are, as Unix sockets named by their numbers: `1024` and `1026` are made there,
    /// and at `host-1025` somebody listens.
    pub ports: PathBuf,
    /// The directory that clients see as `/workspace`.
    pub workspace: PathBuf,
}

impl MachineArguments {
    /// Reads the arguments after the verb.
    ///
    /// # Errors
    /// An unknown option, a missing value, or no place for the ports.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> io::Result<Self> {
        let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        let mut arguments = arguments.into_iter();
        let (mut ports, mut workspace) = (None, PathBuf::from(protocol::WORKSPACE));
        while let Some(option) = arguments.next() {
            let missing = || wrong(format!("{} wants a value", option.display()));
            let value = arguments.next().map(PathBuf::from);
            match option.to_str() {
                Some("--ports") => ports = Some(value.ok_or_else(missing)?),
                Some("--workspace") => workspace = value.ok_or_else(missing)?,
                _ => return Err(wrong(format!("unknown option {}", option.display()))),
            }
        }
        let ports = ports.ok_or_else(|| wrong("give --ports".to_owned()))?;
        Ok(Self { ports, workspace })
    }
}

/// Serves until the agent ends, in a machine that is none: its ports are Unix sockets, and nothing is
/// prepared.
///
/// # Errors
/// The ports could not be made, nobody on the host waits for this machine, or serving broke off.
pub fn run(arguments: &MachineArguments) -> io::Result<()> {
    serve(&Ports::Directory(arguments.ports.clone()), arguments.workspace.clone())
}

/// Is the first process of a machine until that is switched off.
///
/// # Errors
/// Only that the machine could not be switched off.
pub fn init() -> io::Result<Infallible> {
    let served =
        init::prepare().and_then(|()| serve(&Ports::Vsock, PathBuf::from(protocol::WORKSPACE)));
    if let Err(error) = served {
        init::complain(&error);
    }
    Ok(reboot(RebootMode::RB_POWER_OFF)?)
}

fn serve(ports: &Ports, workspace: PathBuf) -> io::Result<()> {
    let agent = ports.listen(AGENT_PORT)?;
    let control = ports.listen(MACHINE_PORT)?;
    let (ended, agent_ended) = oneshot::channel();
    let service = Service::new(Kept { agent, workspace, ended });
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if matches!(ports, Ports::Vsock) {
            network::open_loopback().await?;
        }
        let serving = Server::builder()
            .add_service(MachineServer::new(service))
            .serve_with_incoming(incoming::connections(control)?);
        ports.knock()?;
        tokio::select! {
            served = serving => served.map_err(io::Error::other),
            // Nobody else holds the sender, so it is told or dropped at the agent's end.
            _ = agent_ended => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> io::Result<MachineArguments> {
        MachineArguments::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_read() {
        let read = parse("--ports /p --workspace /w").unwrap();
        assert_eq!((read.ports, read.workspace), ("/p".into(), "/w".into()));
        assert_eq!(parse("--ports /p").unwrap().workspace, PathBuf::from("/workspace"));
        for (line, why) in
            [("", "no ports"), ("--ports", "no value"), ("--ports /p --loud yes", "unknown")]
        {
            assert!(parse(line).is_err(), "{why}");
        }
    }
}
