//! The program `crownest`: starts logging, hands its arguments to `cli`, and ends with the code that
//! says how it went.

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use api::cli::{self, Cli, Failure};
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let mut out = BufWriter::new(io::stdout());
    match cli::run(Cli::parse(), &mut out).await {
        Ok(ending) => ending.into(),
        Err(failure) => {
            if !matches!(failure, Failure::Unread) {
                // Nobody is left to be told if this fails.
                let _ = writeln!(io::stderr(), "crownest: {failure}");
            }
            (&failure).into()
        }
    }
}
