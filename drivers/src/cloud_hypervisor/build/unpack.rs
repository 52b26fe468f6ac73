//! Unpacks what kernels and modules are compressed with, which the content itself tells, by the host's
//! programs. Bounded in time and size.

use std::{io, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::timeout,
};

use super::{MAX_FILE, Result, unfit};

/// How long unpacking may take; a kernel takes a second.
const DEADLINE: Duration = Duration::from_secs(120);

/// A way of compressing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Lz4,
    Xz,
    Zstd,
}

impl Packing {
    const ALL: [Self; 4] = [Self::Gzip, Self::Lz4, Self::Xz, Self::Zstd];

    /// How the content tells that it is packed.
    pub fn of(content: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|packing| content.starts_with(packing.beginning()))
    }

    const fn beginning(self) -> &'static [u8] {
        match self {
            Self::Gzip => &[0x1F, 0x8B, 8],
            // The one of old, which kernels are packed with.
            Self::Lz4 => &[0x02, 0x21, 0x4C, 0x18],
            Self::Xz => &[0xFD, b'7', b'z', b'X', b'Z', 0],
            Self::Zstd => &[0x28, 0xB5, 0x2F, 0xFD],
        }
    }

    /// The program that unpacks it, and the package that has the program.
    const fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Gzip => ("gzip", "gzip"),
            Self::Lz4 => ("lz4", "lz4"),
            Self::Xz => ("xz", "xz-utils"),
            Self::Zstd => ("zstd", "zstd"),
        }
    }

    /// Unpacks the content.
    pub async fn unpack(self, content: &[u8]) -> Result<Vec<u8>> {
        let (program, package) = self.program();
        match timeout(DEADLINE, filter(program, content)).await {
            Ok(Ok(unpacked)) => Ok(unpacked),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                unfit(format!("there is no {program}; install the package {package}"))
            }
            Ok(Err(error)) => unfit(format!("it cannot be unpacked: {program}: {error}")),
            Err(_) => unfit(format!("{program} does not end")),
        }
    }
}

async fn filter(program: &str, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut command = Command::new(program);
    command.args(["-d", "-c"]).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let absent = || io::Error::other("it has no standard streams");
    let mut stdin = child.stdin.take().ok_or_else(absent)?;
    let stdout = child.stdout.take().ok_or_else(absent)?;
    let stderr = child.stderr.take().ok_or_else(absent)?;
    let feed = async move {
        match stdin.write_all(content).await {
            // It says itself what it does not like.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    };
    let (mut unpacked, mut complaint) = (Vec::new(), String::new());
    let (mut stdout, mut stderr) = (stdout.take(MAX_FILE + 1), stderr.take(1_000));
    let drain = async {
        let read = stdout.read_to_end(&mut unpacked).await;
        // What it would go on to write has no reader, so that it ends.
        drop(stdout);
        read
    };
    let (fed, drained, complained) =
        tokio::join!(feed, drain, stderr.read_to_string(&mut complaint));
    if u64::try_from(unpacked.len()).is_ok_and(|length| length > MAX_FILE) {
        return Err(io::Error::other("it is too large"));
    }
    let status = child.wait().await?;
    if !status.success() {
        return Err(io::Error::other(format!("{} ({status})", complaint.trim())));
    }
    fed.and(drained).and(complained)?;
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_packed_is_unpacked() {
        // `echo hello | PROGRAM -c`, in the order of the list; lz4 with -l.
        let packed: [&[u8]; 4] = [
            b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbH\xcd\xc9\xc9\xe7\x02\x00 0:6\x06\x00\x00\x00",
            b"\x02!L\x18\x07\x00\x00\x00`hello\n",
            b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\x01\x00\x05hello\n\
              \x00\x00\x00\xa5`\x97\xf1\x94\xf6\xfd\xe0\x00\x01\x1e\x06\xc1/\xa4\x1d\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ",
            b"(\xb5/\xfd\x04X1\x00\x00hello\nS\x88\xbd\x91",
        ];
        for (packing, content) in Packing::ALL.into_iter().zip(packed) {
            assert_eq!(Packing::of(content), Some(packing));
            assert_eq!(packing.unpack(content).await.unwrap(), b"hello\n", "{packing:?}");
            let cut = packing.unpack(&content[..content.len() - 2]).await;
            assert!(cut.is_err(), "{packing:?} takes a part for the whole");
        }
        assert_eq!(Packing::of(b"\x7fELF"), None);
    }

    #[tokio::test]
    async fn a_program_that_says_no_is_heard() {
        let text = Packing::Gzip.unpack(b"no").await.unwrap_err().to_string();
        assert!(text.contains("gzip") && text.contains("not in gzip format"), "{text}");
    }
}
