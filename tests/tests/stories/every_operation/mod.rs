//! The matrix: each operation of the documents times each caller who must not get through. An
//! operation without a row fails, and so does a row without an operation.

mod admin;
mod document;

use api::config::Config;
use domain::scope::Scope;
use tests::{Admin, Answer, Database, Key, Team, Value, World, json, stories, team::text};

use document::{Operation, operations};

stories![every_operation_refuses_everyone_whom_it_must];

/// Who gets in.
enum Access {
    /// Everybody.
    Public,
    /// Whoever has a token in the link.
    Link,
    /// Any valid key.
    Key,
    /// Nobody with a key, but a person.
    Person,
    /// A key with this scope.
    Scope(&'static str),
}
use Access::{Link, Person, Public};

/// What a key sees that is good, but not for this.
#[derive(Clone, Copy)]
enum Sees {
    /// Nothing is there.
    Nothing,
    /// What is its own: the same answer, without anything of the other's.
    Own,
    /// It is told no.
    Forbidden,
}
use Sees::{Forbidden, Nothing, Own};

/// An operation.
struct Row {
    id: &'static str,
    access: Access,
    /// The status for whoever may.
    good: u16,
    /// A key of another organization.
    rival: Sees,
    /// A key that is restricted to another project of the organization.
    elsewhere: Sees,
    query: &'static str,
    body: Option<Value>,
}

const fn open(id: &'static str) -> Row {
    Row { id, access: Public, good: 200, rival: Own, elsewhere: Own, query: "", body: None }
}

/// An operation on a thing that lies in a project.
fn of_project(id: &'static str, scope: &'static str) -> Row {
    let access = Access::Scope(scope);
    Row { id, access, good: 200, rival: Nothing, elsewhere: Nothing, query: "", body: None }
}

/// An operation on a thing of the organization.
fn of_organization(id: &'static str, scope: &'static str) -> Row {
    Row { elsewhere: Own, ..of_project(id, scope) }
}

/// An operation on whatever the key sees.
fn of_key(id: &'static str, scope: &'static str) -> Row {
    Row { rival: Own, elsewhere: Own, ..of_project(id, scope) }
}

impl Row {
    fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    fn answers(self, good: u16) -> Self {
        Self { good, ..self }
    }

    fn query(self, query: &'static str) -> Self {
        Self { query, ..self }
    }
}

fn table() -> Vec<Row> {
    let run = json!({ "command": "true" });
    let file = json!({ "path": "new", "content": "x" });
    vec![
        open("getHealth"),
        open("getReadiness"),
        open("getOpenApi"),
        open("getApiLlmsTxt"),
        open("getAuthMd"),
        open("getApiCatalog"),
        Row { access: Access::Key, ..of_key("listProjects", "") },
        Row { elsewhere: Forbidden, ..of_key("createProject", "project:create") }
            .answers(201)
            .body(json!({ "name": "p" })),
        of_key("getUsage", "usage:read"),
        of_key("listApiKeys", "api_key:read"),
        Row { access: Person, ..of_key("createApiKey", "") }
            .answers(201)
            .body(json!({ "name": "k", "scopes": ["sandbox:read"] })),
        of_organization("getApiKey", "api_key:read"),
        of_organization("revokeApiKey", "api_key:revoke"),
        of_key("listSandboxes", "sandbox:read"),
        of_key("createSandbox", "sandbox:create").answers(201).body(json!({})),
        of_project("getSandbox", "sandbox:read"),
        of_project("killSandbox", "sandbox:kill"),
        of_project("setSandboxTtl", "sandbox:extend").body(json!({ "ttlMs": 60_000 })),
        of_project("extendSandbox", "sandbox:extend").body(json!({ "ttlMs": 60_000 })),
        of_project("runCommand", "command:run").body(run.clone()),
        of_project("runCommandDeprecated", "command:run").body(run.clone()),
        of_project("startCommandDeprecated", "command:run").answers(202).body(run),
        of_project("getCommand", "command:read"),
        of_project("cancelCommand", "command:cancel").body(json!({})),
        of_project("listCommandLogs", "command:read"),
        of_project("streamCommandLogs", "command:read"),
        of_project("createCommandLogsDownloadUrl", "command:read"),
        Row { access: Link, ..open("downloadCommandLogs") },
        of_project("listFiles", "file:read"),
        of_project("statFile", "file:read").query("?path=f"),
        of_project("readFile", "file:read").query("?path=f"),
        of_project("downloadFile", "file:read").query("?path=f"),
        of_project("writeFile", "file:write").body(file),
        of_project("deleteFile", "file:write").query("?path=f"),
        of_project("makeDirectory", "file:write").body(json!({ "path": "d" })),
        of_project("moveFile", "file:write").body(json!({ "from": "f", "to": "g" })),
        of_project("createPreview", "preview:create").answers(201).body(json!({ "port": 80 })),
        of_project("listPreviews", "preview:read"),
        of_project("getPreview", "preview:read"),
        of_project("revokePreview", "preview:revoke"),
        of_project("createFileDownloadUrl", "file:read").body(json!({ "path": "f" })),
    ]
}

/// Things of acme's to ask for, new for each operation.
struct Things {
    sandbox: String,
    command: String,
    preview: String,
    key: String,
}

impl Things {
    async fn of(acme: &Team) -> Self {
        let sandbox = acme.starts(json!({})).await;
        let command = text(&acme.runs(&sandbox, "echo x > f").await["id"]);
        let preview = format!("/v1/sandboxes/{sandbox}/previews");
        let preview = acme.post(&preview, json!({ "port": 8000 })).await.is(201);
        let preview = text(&preview["preview"]["id"]);
        Self { sandbox, command, preview, key: acme.key("usage:read").await.id }
    }

    fn fill(&self, path: &str) -> String {
        path.replace("{sandboxId}", &self.sandbox)
            .replace("{commandId}", &self.command)
            .replace("{previewId}", &self.preview)
            .replace("{apiKeyId}", &self.key)
    }

    fn shown_in(&self, answer: &Answer) -> bool {
        let shown = answer.text();
        [&self.sandbox, &self.command, &self.preview, &self.key]
            .iter()
            .any(|id| shown.contains(*id))
    }
}

/// The callers of the matrix.
struct Callers {
    acme: Team,
    nobody: Key,
    revoked: Key,
    rival: Team,
    elsewhere: Key,
    operator: Admin,
    person: Key,
}

impl Callers {
    async fn new(world: &World) -> Self {
        let (acme, rival) = (world.team("acme").await, world.team("rival").await);
        let other = acme.project("other").await;
        let elsewhere = acme.restricted_key("all", &[&other]).await;
        let revoked = acme.key("all").await;
        revoked.get("/v1/projects").await.is(200);
        acme.delete(&format!("/v1/api-keys/{}", revoked.id)).await.is(200);
        let (operator, person) = (world.owner().await, acme.person("admin").await);
        Self { nobody: world.nobody(), acme, revoked, rival, elsewhere, operator, person }
    }

    /// A key of acme's that may do everything but this.
    async fn without(&self, scope: &str) -> Key {
        let others = Scope::ALL.iter().map(|scope| scope.as_str()).filter(|other| *other != scope);
        self.acme.key(&others.collect::<Vec<_>>().join(",")).await
    }
}

/// One operation, ready to be asked for by anybody.
struct Case<'a> {
    row: &'a Row,
    operation: &'a Operation,
    things: Things,
}

impl Case<'_> {
    async fn ask(&self, key: &Key) -> Answer {
        let path = self.things.fill(&self.operation.path) + self.row.query;
        let request = key.request(self.operation.method.clone(), &path);
        let answer = key
            .send(match &self.row.body {
                Some(body) => request.json(body),
                None => request,
            })
            .await;
        self.operation.documents(&answer);
        answer
    }

    async fn is_seen(&self, key: &Key, sees: Sees) {
        let answer = self.ask(key).await;
        match sees {
            Nothing => drop(answer.refused(404, "not_found")),
            Forbidden => drop(answer.refused(403, "forbidden")),
            Own => {
                assert_eq!(answer.status, self.row.good, "{answer}");
            }
        }
    }
}

async fn every_operation_refuses_everyone_whom_it_must(database: Database) {
    let settings = |config: &mut Config| {
        config.max_concurrent_sandboxes = Some(200);
        config.dev_human_sessions = true;
    };
    let world = World::on(database).with(settings).await;
    let callers = Callers::new(&world).await;
    let (operations, table) = (operations("openapi.yaml"), table());
    for row in &table {
        assert!(operations.contains_key(row.id), "{} has a row and is no operation", row.id);
    }
    for (id, operation) in &operations {
        let row = table.iter().find(|row| row.id == id);
        let row = row.unwrap_or_else(|| panic!("{id} has no row in the matrix"));
        let case = Case { row, operation, things: Things::of(&callers.acme).await };
        walk(&case, &callers).await;
        // An organization may have ten previews at a time.
        callers.acme.kills(&case.things.sandbox).await;
    }
    world.close().await;
}

async fn walk(case: &Case<'_>, callers: &Callers) {
    let documented = case.operation.scope.as_deref();
    match case.row.access {
        Public => {
            case.is_seen(&callers.nobody, Own).await;
            // A wrong key is nobody's business here.
            case.is_seen(&callers.revoked, Own).await;
            return;
        }
        Link => {
            for key in [&callers.nobody, &callers.revoked, &callers.rival, &*callers.acme] {
                case.ask(key).await.refused(401, "unauthorized");
            }
            return;
        }
        Person => {
            refuses_strangers(case, callers).await;
            for key in [&*callers.acme, &*callers.rival, &callers.elsewhere] {
                case.is_seen(key, Forbidden).await;
            }
            case.is_seen(&callers.person, Own).await;
            return;
        }
        Access::Key => {
            assert_eq!(documented, None);
            let least = callers.acme.key("backup:read").await;
            case.is_seen(&least, Own).await;
        }
        Access::Scope(scope) => {
            assert_eq!(documented, Some(scope), "{}", case.row.id);
            let without = callers.without(scope).await;
            let error = case.ask(&without).await.refused(403, "forbidden");
            assert_eq!(error["details"]["requiredScope"], scope);
            // Who has the scope and nothing else gets through.
            let with = callers.rival.key(scope).await;
            case.is_seen(&with, case.row.rival).await;
        }
    }
    refuses_strangers(case, callers).await;
    for (key, sees) in [(&*callers.rival, case.row.rival), (&callers.elsewhere, case.row.elsewhere)]
    {
        case.is_seen(key, sees).await;
    }
    let rivals = case.ask(&callers.rival).await;
    assert!(!case.things.shown_in(&rivals), "another organization's: {rivals}");
    case.is_seen(&callers.acme, Own).await;
}

/// Who has no credential, or none that is good, gets nowhere.
async fn refuses_strangers(case: &Case<'_>, callers: &Callers) {
    case.ask(&callers.nobody).await.refused(401, "unauthorized");
    let junk = callers.nobody.with("authorization", "Bearer cn_live_junk");
    case.ask(&junk).await.refused(401, "invalid_api_key");
    case.ask(&callers.revoked).await.refused(401, "invalid_api_key");
    case.ask(&callers.operator).await.refused(401, "invalid_api_key");
}
