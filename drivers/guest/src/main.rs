//! The binary `crownest-guest`: the agent, or (as `exec-child`) the first moments of a command's
//! shell, or (as `machine`, or started by a kernel as `init`) the first process of a machine. Only tells
//! them apart; the work is in the library.

use std::{env, io::Write as _, path::Path, process::ExitCode};

use guest::{
    arguments::Arguments,
    child,
    machine::{self, MachineArguments},
    serve,
};

fn main() -> ExitCode {
    let mut arguments = env::args_os().peekable();
    let name = arguments.next();
    let is_init = std::process::id() == 1
        && name
            .is_some_and(|name| Path::new(&name).file_name().is_some_and(|n| n == machine::INIT));
    let error = if is_init {
        match machine::init() {
            Err(error) => error,
        }
    } else if arguments.next_if(|first| first == child::VERB).is_some() {
        child::exec(arguments)
    } else {
        let ended = if arguments.next_if(|first| first == machine::VERB).is_some() {
            MachineArguments::parse(arguments).and_then(|arguments| machine::run(&arguments))
        } else {
            Arguments::parse(arguments).and_then(|arguments| serve::run(&arguments))
        };
        match ended {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => error,
        }
    };
    // Nobody may be left to read this, so a failure to print it is ignored.
    let _ = writeln!(std::io::stderr(), "crownest-guest: {error}");
    ExitCode::from(127)
}
