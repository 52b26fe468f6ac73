//! The binary `crownest-guest`: the agent, or (as `exec-child`) the first moments of a command's
//! shell. Only tells the two apart; the work is in the library.

use std::{env, io::Write as _, process::ExitCode};

use guest::{arguments::Arguments, child, serve};

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1).peekable();
    let error = if arguments.next_if(|first| first == child::VERB).is_some() {
        child::exec(arguments)
    } else {
        match Arguments::parse(arguments).map(|arguments| serve::run(&arguments)) {
            Ok(Ok(())) => return ExitCode::SUCCESS,
            Ok(Err(error)) => error,
            Err(error) => error,
        }
    };
    // Nobody may be left to read this, so a failure to print it is ignored.
    let _ = writeln!(std::io::stderr(), "crownest-guest: {error}");
    ExitCode::from(127)
}
