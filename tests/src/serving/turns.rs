//! Servers of one installation, one after the other, behind a door that clients wait at. When one dies is the
//! story's to choose: no time and no chance here.

use std::process::ExitStatus;

use tokio::sync::watch;

use super::{Client, Door, Installation, Server};

/// One server at a time, or none.
#[derive(Debug)]
pub struct Turns {
    /// What they are started with.
    pub installation: Installation,
    server: Option<Server>,
    door: watch::Sender<Door>,
}

impl Turns {
    /// No server yet.
    #[must_use]
    pub fn of(installation: Installation) -> Self {
        Self { installation, server: None, door: watch::Sender::new(Door::default()) }
    }

    /// A client of whichever server is there.
    #[must_use]
    pub fn client(&self, secret: &str) -> Client {
        Client::new(self.door.subscribe(), secret)
    }

    /// Starts the next server and waits until it serves.
    pub async fn start(&mut self) {
        let mut server = self.installation.start().unwrap();
        let address = server.address().await.unwrap();
        self.server = Some(server);
        self.door.send_modify(|door| door.url = Some(format!("http://{address}")));
    }

    /// Starts a server that nobody waits for.
    pub fn start_blindly(&mut self) {
        self.server = Some(self.installation.start().unwrap());
    }

    /// Whether a server was started that nobody has ended.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.server.is_some()
    }

    /// The process of the server that is there.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.as_ref().and_then(Server::pid).unwrap()
    }

    /// Kills the server in the middle of whatever it does, and waits until it is dead.
    pub async fn kill(&mut self) {
        self.server.take().unwrap().kill().await.unwrap();
        self.close_door();
    }

    /// Ends the server in good order.
    pub async fn stop(&mut self) -> ExitStatus {
        let status = self.server.take().unwrap().stop().await.unwrap();
        self.close_door();
        status
    }

    /// Kills the server if there is one, where nothing can be awaited.
    pub fn kill_now(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill_now();
        }
    }

    fn close_door(&self) {
        self.door.send_modify(|door| {
            door.epoch += 1;
            door.url = None;
        });
    }

    /// The last lines of what the servers logged.
    #[must_use]
    pub fn last_words(&self, n: usize) -> String {
        let log = std::fs::read_to_string(self.installation.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(n)..].join("\n")
    }
}
