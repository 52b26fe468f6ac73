//! The wire of the admin API, a second service under `/admin/v1` with its own document and its own
//! credentials. Extractors, envelope and answers are those of the public API, but bodies are
//! [`StrictBody`](super::extract::StrictBody)s, and amounts are strings.
//!
//! A new operation is a method here, a row in [`OPERATIONS`], and a row in the matrix of
//! `tests/tests/stories/every_operation`; `make openapi` writes the document.

mod api_keys;
mod billing;
mod discovery;
mod feeds;
mod keys;
mod members;
mod operations;
mod organizations;
mod projects;
mod sandboxes;
mod templates;

use poem_openapi::Tags;

pub use operations::OPERATIONS;

/// The routes, by noun.
pub type Apis = (
    organizations::Organizations,
    members::Members,
    projects::Projects,
    api_keys::ApiKeys,
    billing::Apis,
    sandboxes::Sandboxes,
    templates::Templates,
    feeds::Feeds,
    keys::AdminKeys,
    discovery::Discovery,
);

/// The routes of the admin API.
#[must_use]
pub const fn apis() -> Apis {
    (
        organizations::Organizations,
        members::Members,
        projects::Projects,
        api_keys::ApiKeys,
        billing::apis(),
        sandboxes::Sandboxes,
        templates::Templates,
        feeds::Feeds,
        keys::AdminKeys,
        discovery::Discovery,
    )
}

/// The groups of operations in the document.
#[derive(Debug, Tags)]
enum Tag {
    /// Customers.
    Organizations,
    /// The people in them.
    Members,
    /// Their folders of sandboxes.
    Projects,
    /// Their credentials.
    #[oai(rename = "API keys")]
    ApiKeys,
    /// Operators' own credentials.
    #[oai(rename = "Admin keys")]
    AdminKeys,
    /// What customers may do, and on what terms.
    Plans,
    /// What customers have and owe.
    Credit,
    /// What was booked.
    Ledger,
    /// What things cost.
    Pricing,
    /// What was used.
    Usage,
    /// What customers are asked to pay.
    Statements,
    /// What customers run.
    Sandboxes,
    /// What sandboxes are made from.
    Templates,
    /// What happened.
    Feeds,
    /// What anybody may read.
    Discovery,
}
