//! The admin API: what operators do to an installation, and what is told of it.

mod api_keys;
mod credit;
mod customer;
mod feeds;
mod keys;
mod members;
mod organizations;
mod plans;
mod pricing;
mod sandboxes;
mod standing;
mod statements;
mod templates;
mod usage;

use api::app::audit;
use store::audit::{AuditFilter, Chain};
use tests::{Value, World};

/// A chain of the audit trail as it is exported.
pub(super) async fn trail(world: &World, chain: impl Into<Chain>) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut print = |line: &str| {
        lines.push(line.parse::<Value>().unwrap());
        Ok(())
    };
    let filter = AuditFilter::default();
    audit::export(world.db().read(), chain, &filter, &mut print).await.unwrap();
    lines
}

/// What a trail says was done, by whom and with what outcome.
fn acts(trail: &[Value]) -> Vec<[&str; 3]> {
    let word = |line: &'static str| line;
    let names = ["action", "actor", "outcome"].map(word);
    trail.iter().map(|line| names.map(|name| line[name].as_str().unwrap())).collect()
}
