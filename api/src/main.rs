//! The program `crownest`: starts a runtime, hands its arguments to `cli`, and ends with the code that
//! says how it went.

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use api::cli::{self, Cli};
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let form = cli.command.form();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "crownest: starting threads: {error}");
            return ExitCode::from(3);
        }
    };
    let mut out = BufWriter::new(io::stdout());
    let ended = runtime.block_on(cli::run(cli, &mut out));
    // A write that nobody reads would otherwise be waited for.
    runtime.shutdown_background();
    match ended {
        Ok(ending) => ending.into(),
        Err(failure) => {
            // What was answered before it failed.
            let _ = out.flush();
            if let Some(text) = failure.told(form) {
                // Nobody is left to be told if this fails.
                let _ = writeln!(io::stderr(), "{text}");
            }
            (&failure).into()
        }
    }
}
