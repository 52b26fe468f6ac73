//! The driver trait: a handful of verbs that can be repeated safely. What a driver isolates with is
//! its own business; what happens inside a sandbox is the guest protocol's.

use std::{error::Error, fmt};

use async_trait::async_trait;
use domain::id::SandboxId;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::spec::{Limitation, Observed, Spec};

/// A byte stream to the guest agent.
pub trait GuestStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> GuestStream for S {}

/// A byte stream to the guest agent, whatever carries it.
pub type BoxedStream = Box<dyn GuestStream>;

/// Makes isolated sandboxes and opens byte streams into them.
///
/// Every verb may be repeated and may be called from several tasks and processes at once. Every verb
/// ends by itself within a bounded time. A sandbox outlives the process that made it: a new process
/// with the same configuration sees it in [`Driver::list`].
#[async_trait]
pub trait Driver: fmt::Debug + Send + Sync {
    /// The driver's name in configuration and logs, such as `local`.
    fn name(&self) -> &'static str;

    /// Tells whether this host can run sandboxes at all (`Err` says what is missing), and what it
    /// cannot enforce for them (empty: everything is enforced).
    async fn check(&self) -> Result<Vec<Limitation>, DriverError>;

    /// Makes the sandbox exist and run, and returns when its agent answers. Asked twice, does it
    /// once: of one that runs, the spec is not looked at. One that has died is made anew, without
    /// anything of before. After an error nothing of the sandbox is left: no process, no directory.
    /// [`ErrorKind::Unsupported`] for a template that this host does not have.
    async fn ensure(&self, id: SandboxId, spec: &Spec) -> Result<Observed, DriverError>;

    /// Makes the sandbox and everything in it gone before it returns. Unknown means gone already.
    /// Of one that died by itself, it removes what the host still holds.
    async fn remove(&self, id: SandboxId) -> Result<(), DriverError>;

    /// Looks at one sandbox; `None` when it does not run here.
    async fn observe(&self, id: SandboxId) -> Result<Option<Observed>, DriverError>;

    /// Lists every sandbox that runs here, sorted by id.
    async fn list(&self) -> Result<Vec<Observed>, DriverError>;

    /// Opens a byte stream to the agent inside. [`ErrorKind::Gone`] when the sandbox does not run.
    async fn connect(&self, id: SandboxId) -> Result<BoxedStream, DriverError>;

    /// Ends what this process keeps for sandboxes to come, and makes no more of it. Sandboxes that run do so
    /// on; whatever this leaves, [`Driver::check`] of the next process ends.
    async fn close(&self) {}

    /// What can write sandboxes down, if this driver can.
    fn as_suspend(&self) -> Option<&dyn Suspend> {
        None
    }
}

/// Writes sandboxes down, such that they take no memory and no processor, and has them go on later. A
/// suspended sandbox neither runs nor is gone: [`Driver::observe`] and [`Driver::list`] do not know it,
/// [`Driver::ensure`] resumes it, [`Driver::remove`] removes it. It outlives the process that suspended it.
#[async_trait]
pub trait Suspend: Send + Sync {
    /// Writes it down with its memory, processes and files, and lets go of all else. Asked again, does no
    /// more. After an error it runs on, or is gone where it could not.
    /// [`ErrorKind::Gone`] for one that neither runs nor is suspended.
    async fn suspend(&self, id: SandboxId) -> Result<(), DriverError>;

    /// Has it go on where it was, and returns when its agent answers. One that runs is left as it is.
    /// After an error it is suspended as before, or gone if it had gone on already and did not answer;
    /// nothing of it runs. [`ErrorKind::Gone`] for one that neither runs nor is suspended.
    async fn resume(&self, id: SandboxId) -> Result<Observed, DriverError>;

    /// Lists every sandbox that is suspended here, sorted by id.
    async fn suspended(&self) -> Result<Vec<SandboxId>, DriverError>;
}

/// The verb that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// [`Driver::check`]
    Check,
    /// [`Driver::ensure`]
    Ensure,
    /// [`Driver::remove`]
    Remove,
    /// [`Driver::observe`]
    Observe,
    /// [`Driver::list`]
    List,
    /// [`Driver::connect`]
    Connect,
    /// [`Suspend::suspend`]
    Suspend,
    /// [`Suspend::resume`]
    Resume,
    /// [`Suspend::suspended`]
    Suspended,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 9] = [
        Self::Check,
        Self::Ensure,
        Self::Remove,
        Self::Observe,
        Self::List,
        Self::Connect,
        Self::Suspend,
        Self::Resume,
        Self::Suspended,
    ];

    /// The verb as metrics and traces name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Ensure => "ensure",
            Self::Remove => "remove",
            Self::Observe => "observe",
            Self::List => "list",
            Self::Connect => "connect",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Suspended => "suspended",
        }
    }
}

/// What an error means to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The sandbox does not run here.
    Gone,
    /// The host has no room (memory, processes, disk) right now.
    NoCapacity,
    /// The host lacks something the driver or the template needs; an operator must act.
    Unsupported,
    /// The sandbox did not come up or did not answer in time.
    TimedOut,
    /// Anything else that went wrong on the host.
    Host,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Gone, Self::NoCapacity, Self::Unsupported, Self::TimedOut, Self::Host];

    /// The kind as metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::NoCapacity => "no_capacity",
            Self::Unsupported => "unsupported",
            Self::TimedOut => "timed_out",
            Self::Host => "host",
        }
    }

    /// Whether the same call may succeed a moment later without anybody acting.
    #[must_use]
    pub const fn retryable(self) -> bool {
        match self {
            Self::NoCapacity | Self::TimedOut | Self::Host => true,
            Self::Gone | Self::Unsupported => false,
        }
    }
}

/// A verb that failed. Its text is for logs and operators, never for tenants.
#[derive(Debug, thiserror::Error)]
#[error("{verb:?} failed ({kind:?}): {source}")]
pub struct DriverError {
    /// What it means.
    pub kind: ErrorKind,
    /// What was asked.
    pub verb: Verb,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

impl DriverError {
    /// Builds an error from a text or another error.
    pub fn new(
        kind: ErrorKind,
        verb: Verb,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { kind, verb, source: source.into() }
    }
}
