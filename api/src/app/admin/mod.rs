//! What operators do through the admin API. Who may call what is in its table of operations; here is
//! what each call does, in one transaction with its idempotency record, events and audit entries.

pub mod api_keys;
mod caller;
mod change;
pub mod keys;
pub mod members;
pub mod organizations;
pub mod projects;
pub mod standing;

pub use caller::AdminCaller;
pub use change::{Begun, Change, Outcome};
