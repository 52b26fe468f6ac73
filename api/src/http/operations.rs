//! The table of the public API's operations: the scope that each needs and the errors that it documents.
//! The key check and the generated document both read it; an operation without a row does not start.
//! The admin API's table is in `admin/operations.rs`; what reads one reads both.

use std::{collections::HashMap, sync::LazyLock};

use poem::{
    PathPattern, Request,
    http::{HeaderValue, Method},
};
use poem_openapi::{OpenApi, registry::MetaParamIn};

use domain::{admin::Role, scope::Scope};

use super::admin;

/// One operation.
#[derive(Debug)]
pub struct Operation {
    /// Its id in the document.
    pub id: &'static str,
    /// What a key needs for it.
    pub needs: Needs,
    /// The error statuses that it can answer with.
    pub errors: &'static [u16],
    /// For a deprecated alias: the end of its path, and what stands there in its successor's.
    pub successor: Option<(&'static str, &'static str)>,
}

/// What a key needs for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// To be valid, if one is asked for at all.
    Nothing,
    /// A tenant's key: a scope.
    Scope(Scope),
    /// An operator's key: one of these roles.
    Role(&'static [Role]),
}

/// Operations without any error of their own.
pub(super) const NONE: &[u16] = &[];
const PROBE: &[u16] = &[503];
/// Reading what a key sees.
pub(super) const READ: &[u16] = &[400, 401, 403, 404, 429, 500, 503];
/// Reading something that may be no longer there.
const READ_LOG: &[u16] = &[400, 401, 403, 404, 409, 429, 500, 503];
/// Changing without a body.
pub(super) const CHANGE: &[u16] = &[400, 401, 403, 404, 409, 429, 500, 503];
/// Changing by a body.
pub(super) const WRITE: &[u16] = &[400, 401, 403, 404, 409, 413, 415, 429, 500, 503];
/// Making what only people can make.
const MAKE: &[u16] = &[400, 401, 403, 413, 415, 429, 500, 503];
/// The same in a live sandbox.
const LIVE_READ: &[u16] = &[400, 401, 403, 404, 410, 429, 500, 503];
const LIVE_READ_BOUNDED: &[u16] = &[400, 401, 403, 404, 410, 413, 429, 500, 503];
const LIVE_CHANGE: &[u16] = &[400, 401, 403, 404, 409, 410, 429, 500, 503];
const LIVE_WRITE: &[u16] = &[400, 401, 403, 404, 409, 410, 413, 415, 429, 500, 503];

const fn row(id: &'static str, scope: Option<Scope>, errors: &'static [u16]) -> Operation {
    Operation { id, needs: needs(scope), errors, successor: None }
}

const fn alias(
    id: &'static str,
    scope: Option<Scope>,
    errors: &'static [u16],
    end: &'static str,
    new_end: &'static str,
) -> Operation {
    Operation { id, needs: needs(scope), errors, successor: Some((end, new_end)) }
}

const fn needs(scope: Option<Scope>) -> Needs {
    match scope {
        None => Needs::Nothing,
        Some(scope) => Needs::Scope(scope),
    }
}

/// Every operation.
pub const OPERATIONS: &[Operation] = &[
    row("getHealth", None, NONE),
    row("getReadiness", None, PROBE),
    row("getOpenApi", None, NONE),
    row("getApiLlmsTxt", None, NONE),
    row("getAuthMd", None, NONE),
    row("getApiCatalog", None, NONE),
    row("listProjects", None, READ),
    row("createProject", Some(Scope::ProjectCreate), WRITE),
    row("getUsage", Some(Scope::UsageRead), READ),
    row("listApiKeys", Some(Scope::ApiKeyRead), READ),
    row("createApiKey", None, MAKE),
    row("getApiKey", Some(Scope::ApiKeyRead), READ),
    row("revokeApiKey", Some(Scope::ApiKeyRevoke), READ),
    row("listSandboxes", Some(Scope::SandboxRead), READ),
    row("createSandbox", Some(Scope::SandboxCreate), WRITE),
    row("getSandbox", Some(Scope::SandboxRead), READ),
    row("killSandbox", Some(Scope::SandboxKill), CHANGE),
    row("setSandboxTtl", Some(Scope::SandboxExtend), LIVE_WRITE),
    alias("extendSandbox", Some(Scope::SandboxExtend), LIVE_WRITE, "/extend", "/ttl"),
    row("runCommand", Some(Scope::CommandRun), LIVE_WRITE),
    alias("runCommandDeprecated", Some(Scope::CommandRun), LIVE_WRITE, "/run", ""),
    alias("startCommandDeprecated", Some(Scope::CommandRun), LIVE_WRITE, "/start", ""),
    row("getCommand", Some(Scope::CommandRead), READ),
    row("cancelCommand", Some(Scope::CommandCancel), WRITE),
    row("listCommandLogs", Some(Scope::CommandRead), READ_LOG),
    row("streamCommandLogs", Some(Scope::CommandRead), READ_LOG),
    row("createCommandLogsDownloadUrl", Some(Scope::CommandRead), READ),
    row("downloadCommandLogs", None, READ),
    row("listFiles", Some(Scope::FileRead), LIVE_READ_BOUNDED),
    row("statFile", Some(Scope::FileRead), LIVE_READ),
    row("readFile", Some(Scope::FileRead), LIVE_READ_BOUNDED),
    row("writeFile", Some(Scope::FileWrite), LIVE_WRITE),
    row("deleteFile", Some(Scope::FileWrite), LIVE_CHANGE),
    row("makeDirectory", Some(Scope::FileWrite), LIVE_WRITE),
    row("moveFile", Some(Scope::FileWrite), LIVE_WRITE),
    row("createPreview", Some(Scope::PreviewCreate), LIVE_WRITE),
    row("listPreviews", Some(Scope::PreviewRead), READ),
    row("getPreview", Some(Scope::PreviewRead), READ),
    row("revokePreview", Some(Scope::PreviewRevoke), READ),
    row("createFileDownloadUrl", Some(Scope::FileRead), LIVE_WRITE),
    row("downloadFile", Some(Scope::FileRead), LIVE_READ),
];

/// The row of an operation.
#[must_use]
pub fn by_id(id: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().chain(admin::OPERATIONS).find(|operation| operation.id == id)
}

/// The operation that a routed request asks for.
///
/// # Panics
/// For a request that was not routed; `all_known` has seen that each route has a row.
#[must_use]
pub fn of(request: &Request) -> &'static Operation {
    let pattern = request.data::<PathPattern>().expect("handlers run behind the router");
    let found = ROUTES.get(&*pattern.0).and_then(|route| {
        route.rows.iter().find(|(method, _)| method == request.method()).map(|(_, row)| *row)
    });
    found.expect("the routes come from the same description")
}

/// The query parameters that the routed operation knows.
///
/// # Panics
/// As [`of`].
pub fn query_parameters(request: &Request) -> impl Iterator<Item = &'static str> {
    let id = of(request).id;
    let known = ROUTES.values().flat_map(|route| &route.known);
    known.filter(move |(operation, _)| *operation == id).map(|(_, name)| name.as_str())
}

/// A path with its operations.
struct Route {
    /// As the document spells it.
    path: String,
    rows: Vec<(Method, &'static Operation)>,
    /// Which operation knows which query parameter.
    known: Vec<(&'static str, String)>,
}

/// The routes by path as poem spells it.
static ROUTES: LazyLock<HashMap<String, Route>> = LazyLock::new(|| {
    let apis = super::Apis::meta().into_iter().chain(admin::Apis::meta());
    let routes = apis.flat_map(|api| api.paths).map(|path| {
        let rows = path.operations.iter().map(|operation| {
            let id = operation.operation_id.unwrap_or_default();
            let row = by_id(id).unwrap_or_else(|| panic!("operation {id:?} has no row"));
            (operation.method.clone(), row)
        });
        let rows = rows.collect();
        let known = path.operations.iter().flat_map(|operation| {
            let id = operation.operation_id.unwrap_or_default();
            let queries = operation.params.iter().filter(|p| p.in_type == MetaParamIn::Query);
            queries.map(move |parameter| (id, parameter.name.clone()))
        });
        let known = known.collect();
        (pattern(&path.path), Route { path: path.path, rows, known })
    });
    routes.collect()
});

/// The document's spelling of a path that poem has matched.
#[must_use]
pub fn path(pattern: &PathPattern) -> Option<&'static str> {
    ROUTES.get(&*pattern.0).map(|route| route.path.as_str())
}

/// Reads the whole description, so that a missing row is found at start and not by a request.
pub fn check() {
    LazyLock::force(&ROUTES);
}

/// poem numbers the parameters: `/a/{x}/b/{y}` is `/a/:param0/b/:param1` there.
fn pattern(path: &str) -> String {
    let mut n = 0;
    let parts = path.split('/').map(|part| {
        if !part.starts_with('{') {
            return part.to_owned();
        }
        n += 1;
        format!(":param{}", n - 1)
    });
    parts.collect::<Vec<_>>().join("/")
}

/// The methods that a path takes, for the `Allow` header; `None` for a path that is none of ours.
#[must_use]
pub fn allowed(path: &str) -> Option<HeaderValue> {
    let matches = |route: &&Route| {
        let (ours, theirs) = (route.path.split('/'), path.split('/'));
        ours.clone().count() == theirs.clone().count()
            && ours.zip(theirs).all(|(ours, theirs)| {
                ours == theirs || (ours.starts_with('{') && !theirs.is_empty())
            })
    };
    // Paths of the same form do not overlap, so the first match is the only one.
    let route = ROUTES.values().find(matches)?;
    let mut names: Vec<&str> = route.rows.iter().map(|(method, _)| method.as_str()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.sort_unstable();
    HeaderValue::from_str(&names.join(", ")).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_has_a_row_and_every_row_an_operation() {
        for (apis, table) in
            [(super::super::Apis::meta(), OPERATIONS), (admin::Apis::meta(), admin::OPERATIONS)]
        {
            let operations = apis.into_iter().flat_map(|api| api.paths);
            let ids = operations.flat_map(|path| path.operations).map(|o| o.operation_id);
            let ids: BTreeSet<_> = ids.map(|id| id.expect("every operation has an id")).collect();
            let rows: BTreeSet<_> = table.iter().map(|operation| operation.id).collect();
            assert_eq!(ids, rows);
        }
        // They are looked up by id alone.
        let rows = || OPERATIONS.iter().chain(admin::OPERATIONS).map(|operation| operation.id);
        assert_eq!(rows().collect::<BTreeSet<_>>().len(), rows().count(), "no id twice");
    }

    #[test]
    fn patterns_and_methods() {
        assert_eq!(pattern("/v1/a/{id}/b/{x}"), "/v1/a/:param0/b/:param1");
        let allowed = |path| allowed(path).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(allowed("/v1/sandboxes").as_deref(), Some("GET, HEAD, OPTIONS, POST"));
        assert_eq!(allowed("/v1/sandboxes/x/ttl").as_deref(), Some("OPTIONS, POST"));
        assert_eq!(allowed("/v1/sandboxes/"), None);
        assert_eq!(allowed("/v1/nope"), None);
    }
}
