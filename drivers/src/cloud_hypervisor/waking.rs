//! Speaking to machines that may just have been woken. Such a one may take connections before its devices hear
//! that it was, and then drops them; those are made again. Whatever else is wrong is told as it is. What is
//! said is others' matter, and may be said twice.

use std::time::Duration;

use protocol::MACHINE_PORT;
use tokio::time::{Instant, timeout};

use super::{machine::Machine, vsock};
use crate::{
    guest::{Guest, GuestError, GuestErrorKind, MachineControl},
    jail::{
        failure::{Failure, Result},
        hold::silent,
    },
};

/// Between two tries.
const RETRY: Duration = Duration::from_millis(10);
/// What was asked for just as a machine woke may never be answered.
const CONNECT: Duration = Duration::from_secs(2);
/// No try begins later than this.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why something could not be said.
#[derive(Debug)]
pub(super) enum Unsaid {
    /// There was no connection, or there is none any more.
    Lost(Failure),
    Failed(Failure),
}

impl From<Failure> for Unsaid {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<GuestError> for Unsaid {
    fn from(error: GuestError) -> Self {
        match error.kind {
            GuestErrorKind::Gone => Self::Lost(silent(error)),
            GuestErrorKind::Refused(_)
            | GuestErrorKind::TimedOut
            | GuestErrorKind::Protocol
            | GuestErrorKind::Source => Self::Failed(silent(error)),
        }
    }
}

impl Machine {
    /// Opens a connection to the first process of a machine.
    pub async fn control(&self) -> std::result::Result<MachineControl, Unsaid> {
        let run = self.run();
        let connecting = timeout(CONNECT, vsock::connect(&run, MACHINE_PORT)).await;
        let late = |_| Failure::timed_out("the machine takes no connection");
        let stream = connecting.map_err(late).and_then(|made| made).map_err(Unsaid::Lost)?;
        Ok(MachineControl::over(Box::new(stream)).await?)
    }

    /// Waits until the agent answers.
    pub async fn hello(&self) -> Result<()> {
        lastingly(move || async move {
            let stream = self.connect().await.map_err(Unsaid::Lost)?;
            Guest::over(Box::new(stream)).await?.hello().await?;
            Ok(())
        })
        .await
    }
}

/// Says something again over another connection for as long as connections are lost.
pub(super) async fn lastingly<T, Said>(say: impl Fn() -> Said) -> Result<T>
where
    Said: Future<Output = std::result::Result<T, Unsaid>>,
{
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        match say().await {
            Ok(said) => return Ok(said),
            Err(Unsaid::Lost(_)) if Instant::now() < give_up_at => tokio::time::sleep(RETRY).await,
            Err(Unsaid::Lost(failure) | Unsaid::Failed(failure)) => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn only_what_was_lost_is_said_again() {
        let n_said = Cell::new(0);
        let say = |until: u32, last: fn() -> std::result::Result<(), Unsaid>| {
            n_said.set(0);
            let n_said = &n_said;
            lastingly(move || async move {
                n_said.set(n_said.get() + 1);
                if n_said.get() < until { Err(Unsaid::Lost(Failure::host("lost"))) } else { last() }
            })
        };
        say(3, || Ok(())).await.unwrap();
        assert_eq!(n_said.get(), 3);
        // A machine that cannot begin says why once; the second time it would only say that it has.
        let failed = say(2, || Err(Unsaid::Failed(Failure::host("no card")))).await.unwrap_err();
        assert_eq!((failed.to_string().contains("no card"), n_said.get()), (true, 2));
    }
}
