//! Byte streams in memory: pipes that can be cut, and ports inside a sandbox that tests serve. Knows
//! no protocol.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use tokio::{
    io::{DuplexStream, copy_bidirectional, duplex},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

const BUFFER_BYTES: usize = 64 * 1024;
const BACKLOG: usize = 16;

/// Two ends of a pipe that breaks when `cut` is cancelled, as a connection to a dead peer would.
pub(super) fn cuttable_pipe(cut: CancellationToken) -> (DuplexStream, DuplexStream) {
    let (client, mut near) = duplex(BUFFER_BYTES);
    let (mut far, server) = duplex(BUFFER_BYTES);
    tokio::spawn(async move {
        // Dropping `near` and `far` is what breaks both ends; how the copy ended says nothing.
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => {}
            () = cut.cancelled() => {}
        }
    });
    (client, server)
}

/// The ports of one sandbox that somebody listens on.
#[derive(Debug, Default)]
pub(super) struct Ports(Mutex<BTreeMap<u16, mpsc::Sender<DuplexStream>>>);

impl Ports {
    /// Listens on `port`, instead of whoever did before.
    pub fn listen(&self, port: u16) -> Listener {
        let (sender, incoming) = mpsc::channel(BACKLOG);
        lock(&self.0).insert(port, sender);
        Listener { incoming }
    }

    /// Connects to `port`; `None` when nobody listens or the backlog is full.
    pub fn dial(&self, port: u16, cut: CancellationToken) -> Option<DuplexStream> {
        let sender = lock(&self.0).get(&port).cloned()?;
        let (client, server) = cuttable_pipe(cut);
        sender.try_send(server).ok()?;
        Some(client)
    }
}

/// A port inside a sandbox, served by a test.
#[derive(Debug)]
pub struct Listener {
    incoming: mpsc::Receiver<DuplexStream>,
}

impl Listener {
    /// Waits for the next connection; `None` when the sandbox is gone or another listener took over.
    pub async fn accept(&mut self) -> Option<DuplexStream> {
        self.incoming.recv().await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}
