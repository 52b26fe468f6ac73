//! An organization in a story: its keys, and the things it does, in the words of the stories.

use std::{ops::Deref, sync::Arc};

use api::{
    app::{
        billing::Rules,
        tenants::{self, Bootstrap, Bootstrapped},
    },
    config::Config,
};
use domain::{command::Status, id::ProjectId, limits::Plan, scope::ScopeSet};
use serde_json::{Value, json};

use crate::{client::Key, world::Common};

/// An organization, and its key that may do everything.
#[derive(Debug)]
pub struct Team {
    world: Arc<Common>,
    name: String,
    plan: Plan,
    key: Key,
    /// `org_...`
    pub org_id: String,
    /// Its default project.
    pub project_id: String,
}

impl Deref for Team {
    type Target = Key;
    fn deref(&self) -> &Key {
        &self.key
    }
}

impl Team {
    pub(crate) async fn new(world: Arc<Common>, name: &str, plan: Plan) -> Self {
        let made = made(&world, bootstrap(name, plan, ScopeSet::all(), Vec::new())).await;
        Self {
            name: name.to_owned(),
            plan,
            org_id: made.organization.id.to_string(),
            project_id: made.project_id.to_string(),
            key: key(&world, &made),
            world,
        }
    }

    /// A further key with these scopes: `all`, or such as `sandbox:read,command:run`.
    pub async fn key(&self, scopes: &str) -> Key {
        self.restricted_key(scopes, &[]).await
    }

    /// A further key that sees only these projects.
    pub async fn restricted_key(&self, scopes: &str, projects: &[&str]) -> Key {
        let scopes = match scopes {
            "all" => ScopeSet::all(),
            list => list.split(',').map(|scope| scope.parse().unwrap()).collect(),
        };
        let projects: Vec<ProjectId> = projects.iter().map(|id| id.parse().unwrap()).collect();
        let wanted = bootstrap(&self.name, self.plan, scopes, projects);
        key(&self.world, &made(&self.world, wanted).await)
    }

    /// Somebody of the organization with this role, who says so as the published command line does.
    pub async fn person(&self, role: &str) -> Key {
        let keys = self.get("/v1/api-keys").await.is(200);
        let user_id = text(&keys["data"][0]["createdByUserId"]);
        self.claims(role, &user_id)
    }

    /// Whoever says to be this user of the organization, with this role.
    #[must_use]
    pub fn claims(&self, role: &str, user_id: &str) -> Key {
        let person = self.anonymous().with("x-crownest-org-id", &self.org_id);
        person.with("x-crownest-role", role).with("x-crownest-user-id", user_id)
    }

    /// A further project's id.
    pub async fn project(&self, name: &str) -> String {
        text(&self.post("/v1/projects", json!({ "name": name })).await.is(201)["project"]["id"])
    }

    /// Creates a sandbox and waits until it is ready.
    pub async fn starts(&self, body: Value) -> String {
        let id = self.creates(body).await;
        self.sees(&id, "ready").await;
        id
    }

    /// Creates a sandbox and does not wait.
    pub async fn creates(&self, body: Value) -> String {
        text(&self.post("/v1/sandboxes", body).await.is(201)["sandbox"]["id"])
    }

    /// Waits until a sandbox shows a status, and returns it.
    pub async fn sees(&self, sandbox: &str, status: &str) -> Value {
        let look = async || {
            let seen = self.sandbox(sandbox).await;
            let over = ["destroyed", "failed"].contains(&seen["status"].as_str().unwrap());
            assert!(!over || seen["status"] == status, "it will never be {status}: {seen}");
            (seen["status"] == status).then_some(seen)
        };
        self.world.until(&format!("{sandbox} with status {status}"), look).await
    }

    /// Gets a sandbox.
    pub async fn sandbox(&self, id: &str) -> Value {
        self.get(&format!("/v1/sandboxes/{id}")).await.is(200)["sandbox"].take()
    }

    /// Kills a sandbox.
    pub async fn kills(&self, id: &str) -> Value {
        self.delete(&format!("/v1/sandboxes/{id}")).await.is(200)["sandbox"].take()
    }

    /// Runs a command to its end.
    pub async fn runs(&self, sandbox: &str, line: &str) -> Value {
        self.runs_with(sandbox, json!({ "command": line })).await
    }

    /// Runs a command to its end, with more than a line.
    pub async fn runs_with(&self, sandbox: &str, body: Value) -> Value {
        let path = format!("/v1/sandboxes/{sandbox}/commands");
        self.post(&path, body).await.is(200)["command"].take()
    }

    /// Starts a command and returns its id.
    pub async fn launches(&self, sandbox: &str, line: &str) -> String {
        let body = json!({ "command": line, "background": true });
        let path = format!("/v1/sandboxes/{sandbox}/commands");
        text(&self.post(&path, body).await.is(202)["command"]["id"])
    }

    /// Launches a command and waits until it runs.
    pub async fn launches_and_sees(&self, sandbox: &str, line: &str) -> String {
        let id = self.launches(sandbox, line).await;
        self.sees_command(&id, "running").await;
        id
    }

    /// Waits until a command runs in a sandbox, and returns its id. For a run that was not answered
    /// yet: no request can tell its id.
    pub async fn sees_a_run(&self, sandbox: &str) -> String {
        let sandbox = sandbox.parse().unwrap();
        let look = async || {
            let commands = store::commands(store::Everyone::for_worker("story"));
            let active = commands.active_of(self.world.db.read(), sandbox).await.unwrap();
            let running = active.iter().find(|command| command.status == Status::Running);
            running.map(|command| command.id.to_string())
        };
        self.world.until("a running command", look).await
    }

    /// Gets a command.
    pub async fn command(&self, id: &str) -> Value {
        self.get(&format!("/v1/commands/{id}")).await.is(200)["command"].take()
    }

    /// Waits until a command has a status, and returns it.
    pub async fn sees_command(&self, id: &str, status: &str) -> Value {
        let look = async || {
            let seen = self.command(id).await;
            let active = ["queued", "starting", "running"];
            let over = !active.contains(&seen["status"].as_str().unwrap());
            assert!(!over || seen["status"] == status, "it will never be {status}: {seen}");
            (seen["status"] == status).then_some(seen)
        };
        self.world.until(&format!("{id} with status {status}"), look).await
    }

    /// Waits until something was printed, and returns all that was printed so far.
    pub async fn sees_printed(&self, command: &str, wanted: &str) -> String {
        let look = async || {
            let seen = self.printed(command).await;
            seen.contains(wanted).then_some(seen)
        };
        self.world.until(&format!("{command} printing {wanted:?}"), look).await
    }

    /// What a command printed so far, as its log says; at most 500 chunks.
    pub async fn printed(&self, command: &str) -> String {
        let logs = self.get(&format!("/v1/commands/{command}/logs?limit=500")).await.is(200);
        logs["data"].as_array().unwrap().iter().map(|chunk| text(&chunk["data"])).collect()
    }

    /// The compute unit seconds used in this month.
    pub async fn used(&self) -> i64 {
        let usage = self.get("/v1/usage").await.is(200);
        usage["computeUnitSeconds"]["used"].as_i64().unwrap()
    }

    /// The ids of the live sandboxes, newest first.
    pub async fn lists(&self) -> Vec<String> {
        ids(&self.get("/v1/sandboxes").await.is(200)["data"])
    }
}

/// A JSON string's text.
#[must_use]
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The ids of a list's items.
#[must_use]
#[track_caller]
pub fn ids(items: &Value) -> Vec<String> {
    items.as_array().unwrap().iter().map(|item| text(&item["id"])).collect()
}

fn bootstrap(name: &str, plan: Plan, scopes: ScopeSet, project_ids: Vec<ProjectId>) -> Bootstrap {
    Bootstrap {
        organization: name.to_owned(),
        plan,
        email: format!("owner@{name}.example"),
        project: None,
        scopes,
        project_ids,
        restrict_to_project: false,
        key_name: "story".to_owned(),
    }
}

async fn made(world: &Common, wanted: Bootstrap) -> Bootstrapped {
    tenants::bootstrap(&world.db, &Rules::of(&Config::default()), world.clock.now(), wanted)
        .await
        .unwrap()
}

fn key(world: &Common, made: &Bootstrapped) -> Key {
    let (id, secret) = (made.key.id.to_string(), made.secret.expose().to_owned());
    Key::new(world.http.clone(), world.address.clone(), id, secret)
}
