//! The matrix of the admin API: each operation times each role, and each credential that is none. A
//! route without a row fails, and so does a row without a route.

use std::collections::BTreeMap;

use tests::{Admin, Answer, Database, Key, Team, Value, World, json, stories, team::text};

use super::document::{Operation, operations};

stories![every_admin_operation_refuses_everyone_whom_it_must];

const ROLES: [&str; 4] = ["owner", "billing", "support", "auditor"];

/// An operation.
struct Row {
    id: &'static str,
    /// Who may; nobody named = anybody, without a key.
    roles: &'static [&'static str],
    /// The status for whoever may.
    good: u16,
    query: &'static str,
    body: Option<Value>,
}

const fn row(id: &'static str, roles: &'static [&'static str]) -> Row {
    Row { id, roles, good: 200, query: "", body: None }
}

impl Row {
    fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    fn query(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    fn creates(self, body: Value) -> Self {
        Self { good: 201, ..self.body(body) }
    }
}

fn table() -> Vec<Row> {
    let (anybody, support): (&[_], &[_]) = (&ROLES, &["owner", "support"]);
    let (owners, auditors): (&[_], &[_]) = (&["owner"], &["owner", "auditor"]);
    let suspenders: &[_] = &["owner", "billing", "support"];
    let reason = json!({ "reason": "r" });
    let money: &[_] = &["owner", "billing"];
    let bought = json!({ "kind": "purchased", "credits": "1", "key": "k", "reason": "r" });
    vec![
        row("getAdminOpenApi", &[]),
        row("listOrganizations", anybody),
        row("createOrganization", support).creates(json!({ "name": "<new>" })),
        row("getOrganization", anybody),
        row("suspendOrganization", suspenders).body(reason.clone()),
        row("resumeOrganization", suspenders),
        row("closeOrganization", owners).body(reason),
        row("listMembers", anybody),
        row("addMember", support).creates(json!({ "email": "new@x.test", "role": "member" })),
        row("removeMember", support),
        row("listOrganizationProjects", anybody),
        row("createOrganizationProject", support).creates(json!({ "name": "p" })),
        row("getOrganizationProject", anybody),
        row("renameOrganizationProject", support).body(json!({ "name": "q" })),
        row("listOrganizationApiKeys", anybody),
        row("createOrganizationApiKey", support).creates(json!({ "name": "k", "preset": "all" })),
        row("getOrganizationApiKey", anybody),
        row("rotateOrganizationApiKey", support).creates(json!({})),
        row("revokeOrganizationApiKey", support),
        row("listAdminKeys", auditors),
        row("createAdminKey", owners).creates(json!({ "name": "k", "role": "auditor" })),
        row("getAdminKey", auditors),
        row("revokeAdminKey", owners),
        row("listPlans", anybody),
        row("getPlan", anybody),
        row("getOrganizationPlan", anybody),
        row("setOrganizationPlan", money).body(json!({ "plan": "scale", "reason": "r" })),
        row("setLimitOverride", money).body(json!({ "value": 1, "reason": "r" })),
        row("removeLimitOverride", money).query("?reason=r"),
        row("listTermsChanges", anybody),
        row("getBalance", anybody),
        row("listCreditGrants", anybody),
        row("grantCredit", money).creates(bought),
        row("adjustCredit", money).creates(json!({ "credits": "1", "key": "k", "reason": "r" })),
        row("getSpendCap", anybody),
        row("setSpendCap", money).body(json!({ "cap": "1", "reason": "r" })),
        row("removeSpendCap", money).query("?reason=r"),
        row("listTransactions", anybody),
        row("getJournal", anybody),
        row("listStatements", anybody),
        row("getStatement", anybody),
        row("listPricingVersions", anybody),
        row("getPricingVersion", anybody),
        row("publishPricingVersion", money).creates(json!({
            "name": "<new>",
            "currency": "USD",
            "computeUnitSecondsPerCredit": 1000,
            "currencyPerCredit": "0.04",
            "validFrom": "<later>",
        })),
        row("getUsageOverTime", anybody).query("?bucket=day&from=2031-03-01T00:00:00Z"),
        row("listUsageWindows", anybody).query("?from=2031-03-01T00:00:00Z"),
        // Whoever may gets as far as hearing that there is no such window.
        Row { good: 400, ..row("correctUsage", money) }.body(json!({
            "sandboxId": format!("sbx_{}", "0".repeat(32)),
            "metric": "compute_unit_seconds",
            "start": "2031-03-01T00:00:00Z",
            "quantity": "1",
            "reason": "r",
        })),
        row("listAllSandboxes", anybody),
        row("getAnySandbox", anybody),
        row("killAnySandbox", support).body(json!({ "reason": "r" })),
        row("listTemplates", anybody),
        row("listTemplateVersions", anybody),
        row("publishTemplateVersion", owners).creates(json!({ "version": "<new>" })),
        row("getTemplateVersion", anybody),
        row("deprecateTemplateVersion", owners).body(json!({ "reason": "r" })),
        row("listAuditEntries", anybody),
        row("listInstallationAuditEntries", auditors),
        row("listEvents", anybody),
    ]
}

/// Things to ask for. Only those that the path names: keys are dear to make.
struct Things {
    name: String,
    /// An instant to come, later than that of all others.
    later: String,
    ids: BTreeMap<&'static str, String>,
}

impl Things {
    async fn new(owner: &Admin, acme: &Team, path: &str, n: usize) -> Self {
        let mut ids = BTreeMap::new();
        if path.contains("{organizationId}") {
            let organization = owner.organization(&format!("things-{n}")).await;
            ids.insert("userId", owner.member(&organization, "one@x.test").await);
            if path.contains("{projectId}") {
                let projects = format!("/admin/v1/organizations/{organization}/projects");
                let made = owner.post(&projects, json!({ "name": "p" })).await.is(201);
                ids.insert("projectId", text(&made["project"]["id"]));
            }
            if path.contains("{apiKeyId}") {
                let (key, _) = owner.api_key(&organization, json!({ "preset": "all" })).await;
                ids.insert("apiKeyId", key);
            }
            ids.insert("organizationId", organization);
        }
        if path.contains("{template") {
            let templates = owner.get("/admin/v1/templates").await.is(200);
            let template = text(&templates["data"][0]["id"]);
            let versions = format!("/admin/v1/templates/{template}/versions");
            let body = json!({ "version": format!("things-{n}") });
            let made = owner.post(&versions, body).await.is(201);
            ids.insert("templateVersionId", text(&made["templateVersion"]["id"]));
            ids.insert("templateId", template);
        }
        if path.contains("{adminKeyId}") {
            ids.insert("adminKeyId", owner.operator("auditor").await.id);
        }
        if path.contains("{sandboxId}") {
            ids.insert("sandboxId", acme.creates(json!({})).await);
        }
        let given = [
            ("plan", "scale"),
            ("limitName", "max_concurrent_sandboxes"),
            ("period", "2031-03"),
            ("name", "2026-07"),
        ];
        ids.extend(given.map(|(name, value)| (name, value.to_owned())));
        let (name, later) = (format!("new-{n}"), format!("{}-01-01T00:00:00.000Z", 2032 + n));
        Self { name, later, ids }
    }

    fn path(&self, path: &str) -> String {
        let filled = self
            .ids
            .iter()
            .fold(path.to_owned(), |path, (name, id)| path.replace(&format!("{{{name}}}"), id));
        assert!(!filled.contains('{'), "the matrix has nothing to ask for: {filled}");
        filled
    }

    fn body(&self, body: &Value) -> Value {
        let body = body.to_string().replace("<new>", &self.name);
        body.replace("<later>", &self.later).parse().unwrap()
    }
}

struct Case<'a> {
    row: &'a Row,
    operation: &'a Operation,
    owner: &'a Admin,
    acme: &'a Team,
    /// For requests that change nothing.
    things: Things,
}

impl Case<'_> {
    async fn ask(&self, key: &Key) -> Answer {
        self.ask_with(&self.things, key, "", |_| ()).await
    }

    /// Asks as somebody who may, for things of their own.
    async fn ask_well(&self, key: &Key, n: usize) -> Answer {
        let things = Things::new(self.owner, self.acme, &self.operation.path, n).await;
        self.ask_with(&things, key, "", |_| ()).await
    }

    async fn ask_with(
        &self,
        things: &Things,
        key: &Key,
        query: &str,
        change: impl Fn(&mut Value),
    ) -> Answer {
        let both = [self.row.query, query].into_iter().filter(|part| !part.is_empty());
        let both = both.collect::<Vec<_>>().join("&").replace("&?", "&");
        let path = things.path(&self.operation.path) + &both;
        let request = key.request(self.operation.method.clone(), &path);
        let request = match &self.row.body {
            None => request,
            Some(body) => {
                let mut body = things.body(body);
                change(&mut body);
                request.json(&body)
            }
        };
        let answer = key.send(request).await;
        self.operation.documents(&answer);
        answer
    }
}

async fn every_admin_operation_refuses_everyone_whom_it_must(database: Database) {
    let world =
        World::on(database).with(|config| config.max_concurrent_sandboxes = Some(500)).await;
    let owner = world.owner().await;
    let acme = world.team("acme").await;
    let mut keys = Vec::new();
    for role in ROLES {
        keys.push((role, owner.operator(role).await));
    }
    let revoked = owner.operator("owner").await;
    revoked.get("/admin/v1/organizations").await.is(200);
    owner.delete(&format!("/admin/v1/admin-keys/{}", revoked.id)).await.is(200);

    let (operations, table) = (operations("openapi.admin.yaml"), table());
    for row in &table {
        assert!(operations.contains_key(row.id), "{} has a row and is no operation", row.id);
    }
    let mut numbers = 0..;
    let mut number = || numbers.next().unwrap();
    for (id, operation) in &operations {
        let row = table.iter().find(|row| row.id == id);
        let row = row.unwrap_or_else(|| panic!("{id} has no row in the matrix"));
        let things = Things::new(&owner, &acme, &operation.path, number()).await;
        let case = Case { row, operation, owner: &owner, acme: &acme, things };
        let nobody = world.nobody();
        if row.roles.is_empty() {
            case.ask(&nobody).await.is(row.good);
            continue;
        }
        assert_eq!(operation.roles, row.roles, "{id}");
        case.ask(&nobody).await.refused(401, "unauthorized");
        for (token, why) in [
            ("cn_admin_junk", "junk"),
            (&*revoked.secret, "revoked"),
            (&*acme.secret, "a tenant's"),
        ] {
            let key = nobody.with("authorization", &format!("Bearer {token}"));
            let answer = case.ask(&key).await;
            assert_eq!(answer.status, 401, "{why}: {answer}");
            answer.refused(401, "invalid_api_key");
        }
        // The other way to send a tenant's key opens nothing either.
        let aside = nobody.with("x-api-key", &owner.secret);
        case.ask(&aside).await.refused(401, "unauthorized");
        for (role, key) in &keys {
            if row.roles.contains(role) {
                let answer = case.ask_well(key, number()).await;
                assert_eq!(answer.status, row.good, "{role}: {answer}");
            } else {
                let error = case.ask(key).await.refused(403, "forbidden");
                assert_eq!(error["details"]["requiredRoles"], json!(row.roles), "{role}");
            }
        }
        takes_nothing_unknown(&case).await;
    }
    world.close().await;
}

/// What the operation does not know is refused by its name, and not passed over.
async fn takes_nothing_unknown(case: &Case<'_>) {
    let (owner, things) = (case.owner, &case.things);
    let answer = case.ask_with(things, owner, "?surprise=1", |_| ()).await;
    let error = answer.refused(400, "invalid_request");
    assert_eq!(error["details"]["field"], "surprise");
    if case.row.body.is_none() {
        return;
    }
    let surprise = |body: &mut Value| body["surprise"] = json!(1);
    let answer = case.ask_with(things, owner, "", surprise).await;
    let error = answer.refused(400, "invalid_request");
    assert_eq!(error["details"]["field"], "surprise");
    assert_eq!(text(&error["message"]), "surprise is no field of this request");
}
