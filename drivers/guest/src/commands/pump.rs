//! Reads a command's two pipes into its record, in order of arrival, no faster than the record has
//! room. Decides when output has ended; knows nothing of how the process does.

use std::{io, os::fd::AsFd as _, time::Duration};

use protocol::Stream as Origin;
use rustix::io::ioctl_fionread;
use tokio::{
    net::unix::pipe::Receiver,
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{record::Record, text::Decoder};

/// How long processes in the background may hold up the end of a command that has exited.
const LINGER: Duration = Duration::from_millis(250);
const BUFFER: usize = 64 << 10;

/// One of the two pipes.
struct Pipe {
    origin: Origin,
    /// `None` once it has ended.
    receiver: Option<Receiver>,
    decoder: Decoder,
    /// What was in the pipe when the command exited and has not been read yet: it may be the
    /// command's own, so output has not ended before it is read.
    n_owed: u64,
}

/// Reads until the output has ended. `exited` is told when the main process has.
pub async fn pump(
    record: &Record,
    stdout: Receiver,
    stderr: Receiver,
    mut exited: oneshot::Receiver<()>,
) {
    let mut first = Pipe::new(Origin::Stdout, stdout);
    let mut second = Pipe::new(Origin::Stderr, stderr);
    let mut buffer = vec![0; BUFFER];
    let mut deadline = None;
    while first.is_open() || second.is_open() {
        record.has_room().await;
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if is_late && first.n_owed == 0 && second.n_owed == 0 {
            break;
        }
        tokio::select! {
            biased;
            _ = &mut exited, if deadline.is_none() => {
                deadline = Some(Instant::now() + LINGER);
                first.owe();
                second.owe();
            }
            () = wait(deadline), if !is_late => {}
            () = first.readable(), if first.is_open() => first.read(&mut buffer, record),
            () = second.readable(), if second.is_open() => second.read(&mut buffer, record),
        }
        // The other pipe has its turn, so that a busy one does not keep it waiting.
        std::mem::swap(&mut first, &mut second);
    }
    first.close(record);
    second.close(record);
}

async fn wait(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Pipe {
    fn new(origin: Origin, receiver: Receiver) -> Self {
        Self { origin, receiver: Some(receiver), decoder: Decoder::default(), n_owed: 0 }
    }

    fn is_open(&self) -> bool {
        self.receiver.is_some()
    }

    fn owe(&mut self) {
        let receiver = self.receiver.as_ref();
        self.n_owed = receiver.and_then(|it| ioctl_fionread(it.as_fd()).ok()).unwrap_or(0);
    }

    async fn readable(&self) {
        if let Some(receiver) = &self.receiver {
            // An error shows again when reading.
            let _ = receiver.readable().await;
        }
    }

    fn read(&mut self, buffer: &mut [u8], record: &Record) {
        let Some(receiver) = &self.receiver else { return };
        match receiver.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => self.end(record),
            Ok(n) => {
                let bytes = buffer.get(..n).unwrap_or_default();
                self.n_owed = self.n_owed.saturating_sub(bytes.len() as u64);
                let mut text = String::with_capacity(n);
                self.decoder.decode(bytes, &mut text);
                record.push(self.origin, &text);
            }
        }
    }

    fn end(&mut self, record: &Record) {
        self.receiver = None;
        self.n_owed = 0;
        let mut text = String::new();
        self.decoder.finish(&mut text);
        record.push(self.origin, &text);
    }

    /// Ends the output though a process in the background still has the pipe. What that prints later
    /// is read and thrown away, so that it neither blocks nor dies of a broken pipe.
    fn close(mut self, record: &Record) {
        let Some(receiver) = self.receiver.take() else { return };
        self.end(record);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                if receiver.readable().await.is_err() {
                    return;
                }
                match receiver.try_read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        });
    }
}
