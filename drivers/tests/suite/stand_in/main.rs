//! A stand-in for the VMM, started as the VMM would be: the same command line, the same API on the same
//! socket, the same states and the same kind of vsock. What would be the processor's work, the test does
//! that made the socket in place of `/dev/kvm`: it runs the real agent as a process. Isolates nothing.
//!
//! Faults are read from what would be the initial file system: lines of a fault and a name.

mod api;
mod machine;
mod schema;

use std::{env, io, io::Write as _, process::ExitCode, sync::Arc};

use tokio::net::UnixListener;

use self::machine::Machine;

/// What it says of itself unless it is told to be older.
pub const VERSION: &str = "v53.0.0";

fn main() -> ExitCode {
    match run(env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be left to read this.
            let _ = writeln!(io::stderr(), "stand-in: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl IntoIterator<Item = String>) -> io::Result<()> {
    let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
    let mut arguments = arguments.into_iter();
    let mut socket = None;
    while let Some(option) = arguments.next() {
        if option == "--version" {
            return writeln!(io::stdout(), "cloud-hypervisor {VERSION}");
        }
        let value = arguments.next().ok_or_else(|| wrong(format!("{option} wants a value")))?;
        match (option.as_str(), value.split_once('=')) {
            ("--api-socket", Some(("path", path))) => socket = Some(path.to_owned()),
            ("--seccomp", None) if value == "true" => {}
            ("--log-file", None) => {}
            _ => return Err(wrong(format!("{option} {value} is not understood"))),
        }
    }
    let socket = socket.ok_or_else(|| wrong("give --api-socket".to_owned()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(async { api::serve(UnixListener::bind(socket)?, Arc::new(Machine::new())).await })
}
