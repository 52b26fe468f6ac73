//! The typed client of the guest protocol: commands, files and ports inside a sandbox, the same for
//! every driver. Puts a deadline on everything that waits for the agent; retries nothing and stores
//! nothing, both are the caller's.

mod commands;
mod error;
mod files;
mod machine;
mod port;
mod transport;
mod types;

use std::{future::Future, time::Duration};

use domain::id::SandboxId;
use protocol::{HelloRequest, PROTOCOL_VERSION, guest_client::GuestClient};
use tokio::time::timeout;
use tonic::{Response, Status, transport::Channel};

pub use self::{
    commands::WatchStream,
    error::{GuestError, GuestErrorKind},
    files::ByteStream,
    machine::{Begin, Card, MachineControl},
    types::{
        CancelMode, Existing, Exit, ExitCause, FileKind, FileStat, Hello, Output, OutputStream,
        Parents, RememberedCommand, StartCommand, Started, TerminationSignal, WatchItem,
        WriteOptions,
    },
};
pub use protocol::Reason;

use crate::driver::{BoxedStream, Driver};

/// A stream to the agent must be open within this time.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// The first question is answered within this time, or the sandbox is not well.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// Every other question with one answer is answered within this time.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Each message of an upload or a download follows the one before within this time.
pub const IDLE_DEADLINE: Duration = Duration::from_secs(30);
/// A file that is read into memory is there within this time.
pub const WHOLE_DEADLINE: Duration = Duration::from_secs(60);

/// A connection to the agent of one sandbox. Cheap to clone; all clones share the connection, and
/// once it is lost every call answers [`GuestErrorKind::Gone`].
#[derive(Debug, Clone)]
pub struct Guest {
    client: GuestClient<Channel>,
}

impl Guest {
    /// Speaks over a stream that a driver has opened.
    ///
    /// # Errors
    /// `Gone` or `TimedOut`.
    #[tracing::instrument(name = "speak", level = "debug", skip_all)]
    pub async fn over(stream: BoxedStream) -> Result<Self, GuestError> {
        Ok(Self { client: transport::client(stream).await? })
    }

    /// Opens a stream through the driver and speaks over it.
    ///
    /// # Errors
    /// `Gone` when the sandbox does not run or cannot be reached, `TimedOut`.
    pub async fn connect(driver: &dyn Driver, id: SandboxId) -> Result<Self, GuestError> {
        let opened = timeout(CONNECT_DEADLINE, driver.connect(id)).await;
        Self::over(opened.map_err(|_| GuestError::timed_out())??).await
    }

    /// Asks whether the agent is up, and speaks this version of the protocol.
    ///
    /// # Errors
    /// `Protocol` when it speaks another version.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn hello(&self) -> Result<Hello, GuestError> {
        let mut client = self.client.clone();
        let answer = within(HELLO_DEADLINE, client.hello(HelloRequest {})).await?;
        if answer.protocol_version != PROTOCOL_VERSION {
            let version = answer.protocol_version;
            return Err(GuestError::protocol(format!("the agent speaks version {version}")));
        }
        Ok(Hello { boot_id: answer.boot_id })
    }
}

/// Waits for an answer no longer than this.
async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, GuestError> {
    match timeout(deadline, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(GuestError::timed_out()),
    }
}
