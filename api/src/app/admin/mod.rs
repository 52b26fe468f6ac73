//! What operators do through the admin API. Who may call what is in its table of operations; here is
//! what each call does, in one transaction with its idempotency record, events and audit entries.

mod caller;
mod change;
pub mod keys;
pub mod organizations;

pub use caller::AdminCaller;
pub use change::{Begun, Change, Outcome};
