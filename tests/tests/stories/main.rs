//! The stories: what clients, operators and bad luck do to a real server, told on both databases.
//! One binary, because each would link the whole server anew.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod access;
mod admin;
mod audit;
mod billing;
mod commands;
mod crashes;
mod errors;
mod events;
mod every_operation;
mod failures;
mod files;
mod human_sessions;
mod idempotency;
mod keys;
mod ledger_export;
mod lifetime;
mod limits;
mod lists;
mod logs;
mod observability;
mod operator;
mod previews;
mod sandboxes;
mod usage;
