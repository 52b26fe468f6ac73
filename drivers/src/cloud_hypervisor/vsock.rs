//! The Unix sockets that stand for a machine's vsock: streams to a port inside, and the knock of a
//! machine that has come up. Whoever answers may be a VMM that was taken over: nothing is believed, and
//! every wait has an end.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, net::UnixListener as StdListener},
    path::{Path, PathBuf},
    time::Duration,
};

use protocol::READY_PORT;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use super::convert::VSOCK;
use crate::jail::{
    failure::{Doing, Failure, Result},
    sockets,
};

/// A port inside answers within this.
const DEADLINE: Duration = Duration::from_secs(5);
/// `OK` and the number of a port of the host's.
const MAX_ANSWER: usize = 32;

/// Opens a stream to a port inside. The directory is the one that the VMM writes to.
#[tracing::instrument(name = "vsock", level = "debug", skip_all, fields(what = port))]
pub async fn connect(directory: &Path, port: u32) -> Result<UnixStream> {
    let connecting = async {
        let mut stream = UnixStream::from_std(sockets::connect(directory, VSOCK)?)?;
        stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
        let answer = line(&mut stream).await?;
        if answer.starts_with("OK ") {
            return Ok(stream);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("it says {answer:?}")))
    };
    let connected = timeout(DEADLINE, connecting).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    connected.doing(&format!("reach port {port} inside by way of"), directory)
}

/// Reads a line and not one byte of what comes after it.
async fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while line.len() < MAX_ANSWER {
        match stream.read_u8().await? {
            b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
            byte => line.push(byte),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the answer has no end"))
}

/// Where a machine knocks.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Must be there before the machine starts.
    pub fn make(directory: &Path) -> Result<Self> {
        let name = format!("{VSOCK}_{READY_PORT}");
        let make = || {
            let listener: StdListener = sockets::listen(directory, &name)?;
            // The directory is the VMM's own; nobody else gets at what is in it.
            let mode = std::fs::Permissions::from_mode(0o666);
            std::fs::set_permissions(directory.join(&name), mode)?;
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        };
        let listener = make().doing("listen in", directory)?;
        Ok(Self { listener, path: directory.join(name) })
    }

    /// Waits for the knock. Nobody listens after that, so a machine that starts anew powers off.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn knock(self) -> Result<()> {
        let knocked = self.listener.accept().await;
        knocked.map(drop).map_err(|error| Failure::host(format!("nobody knocks: {error}")))?;
        fs::remove_file(&self.path).doing("remove", &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What whoever answers says, and what a caller gets of it.
    #[tokio::test]
    async fn only_an_ok_opens_a_stream_and_nothing_of_it_is_lost() {
        for (says, wanted) in [
            ("OK 1073741824\nfirst", Some("first")),
            ("OK 7\n\nline\n", Some("\nline\n")),
            ("NO 7\nfirst", None),
            ("OK", None),
            ("", None),
            ("OK 12345678901234567890123456789012345\nfirst", None),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let listener = sockets::listen(folder.path(), VSOCK).unwrap();
            listener.set_nonblocking(true).unwrap();
            let listener = UnixListener::from_std(listener).unwrap();
            let answering = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert_eq!(line(&mut stream).await.unwrap(), "CONNECT 1024");
                stream.write_all(says.as_bytes()).await.unwrap();
            };
            let (connected, ()) = tokio::join!(connect(folder.path(), 1024), answering);
            let Some(wanted) = wanted else {
                connected.unwrap_err();
                continue;
            };
            let mut rest = String::new();
            connected.unwrap().read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, wanted, "{says:?}");
        }
    }
}
