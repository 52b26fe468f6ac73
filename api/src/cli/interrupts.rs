//! Signals that ask a command to end, for commands that have something to clean up before they do.
//! Once this listens, a signal ends nothing by itself.

use std::future::Future;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// Added to a signal's number, as shells do.
const BY_SIGNAL: u8 = 128;

/// Hears the signals that ask to end.
#[derive(Debug)]
pub(super) struct Interrupts {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
    /// The exit code of one that came while work was not to be cut.
    heard: Option<u8>,
}

impl Interrupts {
    /// Listens from now on.
    pub fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            heard: None,
        })
    }

    /// Waits for a signal and returns the exit code that tells of it.
    pub async fn next(&mut self) -> u8 {
        BY_SIGNAL
            + tokio::select! {
                _ = self.hangup.recv() => 1,
                _ = self.interrupt.recv() => 2,
                _ = self.terminate.recv() => 15,
            }
    }

    /// Does work that a signal cuts.
    pub async fn cut<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        if let Some(code) = self.heard {
            return Err(Failure::Interrupted(code));
        }
        tokio::select! {
            biased;
            code = self.next() => Err(Failure::Interrupted(code)),
            done = work => done,
        }
    }

    /// Does work that must come to an end, such as a request whose answer says what to clean up. A
    /// signal is remembered until then; only a second one cuts it.
    pub async fn finish<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::pin!(work);
        loop {
            let code = tokio::select! {
                biased;
                done = &mut work => return done,
                code = self.next() => code,
            };
            if self.heard.replace(code).is_some() {
                return Err(Failure::Interrupted(code));
            }
        }
    }
}
