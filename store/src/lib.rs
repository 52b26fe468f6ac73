//! Every query of the platform, for SQLite and PostgreSQL from one text. Tables of tenants are
//! reachable only through a [`Reach`]. Decides nothing and opens no transactions of its own: callers
//! bring a connection or a [`Tx`].

mod db;
mod error;
mod last_use;
mod notify;
mod reach;
mod time;

pub mod admin_keys;
pub mod audit;
pub mod billing;
pub mod commands;
pub mod idempotency;
pub mod meters;
pub mod outbox;
pub mod previews;
pub mod sandboxes;
pub mod signing_keys;
pub mod templates;
mod tenants;
#[cfg(feature = "testing")]
pub mod testing;
pub mod usage;
pub mod vitals;

pub use audit::audit;
pub use billing::billing;
pub use commands::commands;
pub use db::{Backend, Connections, Db, Options, Tx};
pub use error::{Error, Result};
pub use migrations::rows::billing as rows;
pub use notify::{Listener, Signal, listen, notify};
pub use outbox::outbox;
pub use previews::previews;
pub use reach::{Everyone, Page, PageRequest, Reach, Scope};
pub use sandboxes::{SandboxFilter, sandboxes};
pub use sea_orm::ConnectionTrait;
pub use tenants::{api_keys, organizations, projects, users};
pub use time::truncate;
pub use usage::usage;
pub use vitals::vitals;
