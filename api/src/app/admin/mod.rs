//! What operators do through the admin API. Who may call what is in its table of operations; here is
//! what each call does, in one transaction with its idempotency record, events and audit entries.

pub mod accounts;
pub mod api_keys;
pub mod books;
mod caller;
mod change;
pub mod keys;
pub mod members;
pub mod organizations;
pub mod pricing;
pub mod projects;
pub mod sandboxes;
pub mod standing;
pub mod templates;
pub mod usage;

pub use caller::AdminCaller;
pub use change::{Begun, Change, Outcome};
