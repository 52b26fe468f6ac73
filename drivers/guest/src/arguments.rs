//! Reads the agent's command line. By hand, because three options do not earn a parser library in a
//! binary that is copied into every sandbox.

use std::{ffi::OsString, io, path::PathBuf, time::Duration};

/// What the agent was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// Where clients connect.
    pub listen: Listen,
    /// The directory that clients see as `/workspace`.
    pub workspace: PathBuf,
    /// End if no client has said hello this long after the start, so that a server which died while
    /// it made the sandbox leaves no orphan. `None`: wait forever.
    pub exit_if_idle: Option<Duration>,
}

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Standard input is a listening stream socket, such as a vsock.
    Stdin,
    /// A Unix socket to make at this path.
    Path(PathBuf),
}

const IDLE: Duration = Duration::from_secs(60);

impl Arguments {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// An unknown option, a missing or malformed value, or neither of the two ways to listen.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> io::Result<Self> {
        let mut arguments = arguments.into_iter();
        let mut listen = None;
        let mut workspace = PathBuf::from(protocol::WORKSPACE);
        let mut exit_if_idle = Some(IDLE);
        while let Some(option) = arguments.next() {
            let mut value = || {
                let missing = || wrong(format!("{} wants a value", option.display()));
                arguments.next().ok_or_else(missing)
            };
            match option.to_str() {
                Some("--listen-stdin") => listen = Some(Listen::Stdin),
                Some("--listen-path") => listen = Some(Listen::Path(value()?.into())),
                Some("--workspace") => workspace = value()?.into(),
                Some("--exit-if-idle-ms") => {
                    let text = value()?;
                    let ms = text.to_str().and_then(|text| text.parse().ok());
                    let ms: u64 = ms.ok_or_else(|| wrong("--exit-if-idle-ms wants a number"))?;
                    exit_if_idle = (ms > 0).then(|| Duration::from_millis(ms));
                }
                _ => return Err(wrong(format!("unknown option {}", option.display()))),
            }
        }
        let listen = listen.ok_or_else(|| wrong("give --listen-stdin or --listen-path"))?;
        Ok(Self { listen, workspace, exit_if_idle })
    }
}

fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> io::Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_read() {
        let read = parse("--listen-stdin --workspace /w --exit-if-idle-ms 5").unwrap();
        assert_eq!(read.listen, Listen::Stdin);
        assert_eq!(read.workspace, PathBuf::from("/w"));
        assert_eq!(read.exit_if_idle, Some(Duration::from_millis(5)));
        let read = parse("--listen-path /s --exit-if-idle-ms 0").unwrap();
        assert_eq!(read.listen, Listen::Path("/s".into()));
        assert_eq!(read.workspace, PathBuf::from("/workspace"));
        assert_eq!(read.exit_if_idle, None);
    }

    #[test]
    fn wrong_options_are_refused() {
        for (line, why) in [
            ("", "no way to listen"),
            ("--listen-path", "no value"),
            ("--listen-stdin --exit-if-idle-ms soon", "not a number"),
            ("--listen-stdin --verbose", "unknown"),
        ] {
            assert!(parse(line).is_err(), "{why}");
        }
    }
}
