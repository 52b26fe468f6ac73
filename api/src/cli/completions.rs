//! `crownest completions`: what a shell needs to complete this program's words.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure};

/// For which shell.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

/// Prints the script to `out`.
///
/// # Errors
/// When it cannot be written.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "crownest", &mut script);
    Ok(out.write_all(&script)?)
}
