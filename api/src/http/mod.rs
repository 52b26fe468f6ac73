//! The wire: parses requests, calls use cases, prints answers. poem's types end here; no rule of the
//! domain starts here.

mod admin;
mod api_keys;
mod commands;
mod context;
mod discovery;
mod envelope;
pub(crate) mod error;
mod extract;
mod files;
pub mod openapi;
pub(crate) mod operations;
mod previews;
mod projects;
mod responses;
mod sandboxes;
mod usage;
mod wire;

use std::sync::Arc;

use poem::{Endpoint, IntoEndpoint, Response};
use poem_openapi::{OpenApiService, Tags};

use crate::app::App;

/// The routes, by noun.
type Apis = (
    projects::Projects,
    usage::Usage,
    api_keys::ApiKeys,
    sandboxes::Sandboxes,
    commands::Commands,
    commands::logs::Logs,
    files::Files,
    previews::Previews,
    discovery::Discovery,
);

const fn apis() -> Apis {
    (
        projects::Projects,
        usage::Usage,
        api_keys::ApiKeys,
        sandboxes::Sandboxes,
        commands::Commands,
        commands::logs::Logs,
        files::Files,
        previews::Previews,
        discovery::Discovery,
    )
}

/// The groups of operations in the document.
#[derive(Debug, Tags)]
enum Tag {
    /// Folders of sandboxes.
    Projects,
    /// What was used, and what is left.
    Usage,
    /// Credentials.
    #[oai(rename = "API keys")]
    ApiKeys,
    /// Isolated live execution environments.
    Sandboxes,
    /// Processes in sandboxes, and what they print.
    Commands,
    /// Files in sandboxes' workspaces.
    Files,
    /// Ports of sandboxes that are reachable from outside.
    Previews,
    /// What anybody may read.
    Discovery,
}

/// The whole server as poem serves it: both APIs, which have documents and credentials of their own.
#[must_use]
pub fn endpoint(app: Arc<App>) -> impl Endpoint<Output = Response> {
    operations::check();
    let service = OpenApiService::new((apis(), admin::apis()), "crownest", "");
    envelope::Envelope::new(app, service.into_endpoint())
}
