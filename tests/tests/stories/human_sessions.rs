//! People without a key, as the published command line knows them: three headers, believed on a
//! developer's own machine and nowhere else. Keys never make keys.

use domain::id::OrganizationId;
use reqwest::Method;
use store::audit::AuditFilter;
use tests::{
    Database, Key, Value, World, json, stories,
    team::{ids, text},
};

stories![
    the_command_line_makes_a_key_that_works_at_once,
    a_person_lists_the_keys_of_the_organization,
    keys_never_make_keys,
    nobody_is_taken_at_their_word_unless_it_is_switched_on,
    who_says_something_else_is_nobody,
    what_came_from_elsewhere_is_refused,
    a_page_in_a_browser_gets_no_permission,
    a_key_that_makes_no_sense_is_refused_by_field,
    a_person_of_a_suspended_organization_is_told_so,
    nobody_is_more_than_they_are,
];

/// The scopes that the published command line asks for: sandboxes and what is in them.
fn usual_scopes() -> Value {
    json!([
        "sandbox:create",
        "sandbox:read",
        "sandbox:kill",
        "sandbox:extend",
        "command:run",
        "command:read",
        "command:cancel",
        "code:run",
        "file:read",
        "file:write",
        "artifact:create",
        "artifact:read",
        "artifact:delete",
        "preview:create",
        "preview:read",
        "preview:revoke",
        "workspace_run:create",
        "workspace_run:read",
        "workspace_run:cancel",
    ])
}

async fn developing(database: Database) -> World {
    World::on(database).with(|config| config.dev_human_sessions = true).await
}

/// Acceptance 16: `keys create --name X --json` takes `secret` from the answer. The headers besides the
/// three are those that Node's `fetch` adds.
async fn the_command_line_makes_a_key_that_works_at_once(database: Database) {
    let world = developing(database).await;
    let acme = world.team("acme").await;
    let person = acme.person("owner").await;
    let node = [
        ("accept", "*/*"),
        ("accept-language", "*"),
        ("sec-fetch-mode", "cors"),
        ("user-agent", "node"),
    ];
    let command_line = node.iter().fold(person, |key, (name, value)| key.with(name, value));
    let wanted = json!({ "name": "X", "scopes": usual_scopes() });
    let made = command_line.post("/v1/api-keys", wanted).await.is(201);
    let (key, secret) = (&made["apiKey"], made["secret"].as_str().unwrap());
    assert_eq!(key["name"], "X");
    assert_eq!(key["prefix"], &secret[..18]);
    assert_eq!(key["last4"], &secret[secret.len() - 4..]);
    assert_eq!(key["scopes"], usual_scopes());
    assert_eq!(key["orgId"], acme.org_id.as_str());
    assert_eq!(key["createdAt"], world.stamp("0s"));
    assert!(key.get("projectIds").is_none() && key.get("secret").is_none());

    let bearer = world.nobody().with("authorization", &format!("Bearer {secret}"));
    let sandbox = bearer.post("/v1/sandboxes", json!({})).await.is(201);
    assert_eq!(sandbox["sandbox"]["orgId"], acme.org_id.as_str());
    bearer.get("/v1/usage").await.refused(403, "forbidden");

    let mut lines = Vec::new();
    let mut print = |line: &str| {
        lines.push(line.parse::<Value>().unwrap());
        Ok(())
    };
    let filter = AuditFilter::default();
    let org: OrganizationId = acme.org_id.parse().unwrap();
    api::app::audit::export(world.db().read(), org, &filter, &mut print).await.unwrap();
    let told = lines.iter().find(|line| line["object"] == key["id"]).unwrap();
    assert_eq!(told["action"], "key.create");
    assert_eq!(told["actor"], key["createdByUserId"]);
    assert_eq!(told["origin"], "127.0.0.1");
    assert_eq!(told["details"]["prefix"], key["prefix"]);
    assert!(!told.to_string().contains(&secret[19..]), "the trail holds no secret");
    assert!(!world.logged().contains(&secret[19..]), "the log holds none");
    world.close().await;
}

async fn a_person_lists_the_keys_of_the_organization(database: Database) {
    let world = developing(database).await;
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    let person = acme.person("admin").await;
    let theirs = acme.project("theirs").await;
    let wanted = json!({ "name": "r", "scopes": ["sandbox:read"], "projectIds": [theirs, theirs] });
    world.moves("1s");
    let made = person.post("/v1/api-keys", wanted).await.is(201);
    assert_eq!(made["apiKey"]["projectIds"], json!([theirs]));
    let list = person.get("/v1/api-keys").await.is(200);
    assert_eq!(list["data"][0], made["apiKey"]);
    assert_eq!(list, acme.get("/v1/api-keys").await.is(200), "as a key sees it");
    assert_eq!(
        ids(&rival.get("/v1/api-keys").await.is(200)["data"]),
        std::slice::from_ref(&rival.id)
    );
    // Everything else takes a key.
    for path in ["/v1/projects".to_owned(), format!("/v1/api-keys/{}", acme.id)] {
        person.get(&path).await.refused(401, "unauthorized");
    }
    world.close().await;
}

/// Whoever presents a key is that key, whatever the other headers say: known, and not allowed.
async fn keys_never_make_keys(database: Database) {
    let world = developing(database).await;
    let acme = world.team("acme").await;
    let wanted = json!({ "name": "more", "scopes": ["sandbox:read"] });
    let revoked = acme.key("all").await;
    acme.delete(&format!("/v1/api-keys/{}", revoked.id)).await.is(200);
    let person = acme.person("owner").await;
    let bearer = |secret: &str| format!("Bearer {secret}");
    for (caller, status, code, why) in [
        ((*acme).clone(), 403, "forbidden", "a key that may do everything"),
        (world.nobody().with("x-api-key", &acme.secret), 403, "forbidden", "the other header"),
        (person.with("authorization", &bearer(&acme.secret)), 403, "forbidden", "a person's key"),
        (person.with("authorization", &bearer(&revoked.secret)), 401, "invalid_api_key", "revoked"),
        (person.with("authorization", "Bearer cn_live_x"), 401, "invalid_api_key", "junk"),
        (world.nobody(), 401, "unauthorized", "nobody"),
    ] {
        let answer = caller.post("/v1/api-keys", wanted.clone()).await;
        assert_eq!(answer.status, status, "{why}: {answer}");
        answer.refused(status, code);
    }
    let keys = acme.get("/v1/api-keys").await.is(200);
    assert_eq!(keys["data"].as_array().unwrap().len(), 2, "none was made: {keys}");
    world.close().await;
}

async fn nobody_is_taken_at_their_word_unless_it_is_switched_on(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let person = acme.person("owner").await;
    let wanted = json!({ "name": "x", "scopes": ["sandbox:read"] });
    person.post("/v1/api-keys", wanted.clone()).await.refused(401, "unauthorized");
    person.get("/v1/api-keys").await.refused(401, "unauthorized");
    acme.post("/v1/api-keys", wanted).await.refused(403, "forbidden");
    world.close().await;
}

async fn who_says_something_else_is_nobody(database: Database) {
    let world = developing(database).await;
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    let (ours, theirs) = (acme.person("owner").await, rival.person("owner").await);
    let said = |key: &Key, name: &str| {
        let built = key.request(Method::GET, "/").build().unwrap();
        built.headers()[name].to_str().unwrap().to_owned()
    };
    let (org, user) = (acme.org_id.as_str(), said(&ours, "x-crownest-user-id"));
    let (stranger, unknown) = (said(&theirs, "x-crownest-user-id"), format!("org_{:032x}", 7));
    for (org, role, user, status, code) in [
        (Some(org), Some("member"), Some(&user), 403, "forbidden"),
        (Some(org), None, Some(&user), 401, "unauthorized"),
        (Some(org), Some("owner"), None, 401, "unauthorized"),
        (None, Some("owner"), Some(&user), 401, "unauthorized"),
        (Some(org), Some("owner"), Some(&stranger), 401, "unauthorized"),
        (Some(unknown.as_str()), Some("owner"), Some(&user), 401, "unauthorized"),
        (Some("acme"), Some("owner"), Some(&user), 401, "unauthorized"),
    ] {
        let headers = [
            ("x-crownest-org-id", org),
            ("x-crownest-role", role),
            ("x-crownest-user-id", user.map(String::as_str)),
        ];
        let claims = headers.iter().filter_map(|(name, value)| Some((name, (*value)?)));
        let person = claims.fold(world.nobody(), |key, (name, value)| key.with(name, value));
        person.get("/v1/api-keys").await.refused(status, code);
        let wanted = json!({ "name": "x", "scopes": ["sandbox:read"] });
        person.post("/v1/api-keys", wanted).await.refused(status, code);
    }
    world.close().await;
}

/// Every request of a test comes from loopback, and so does every one through a proxy on this host: what
/// a proxy or a browser adds gives it away.
async fn what_came_from_elsewhere_is_refused(database: Database) {
    let world = developing(database).await;
    let acme = world.team("acme").await;
    let person = acme.person("owner").await;
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-for", "192.0.2.7"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("via", "1.1 proxy"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        // A page whose own name was made to mean 127.0.0.1 needs nobody's permission.
        ("host", "evil.example:8787"),
    ] {
        let suspect = person.with(name, value);
        let wanted = json!({ "name": "x", "scopes": ["sandbox:read"] });
        let answer = suspect.post("/v1/api-keys", wanted).await;
        assert_eq!(answer.status, 401, "{name}: {value}: {answer}");
        answer.refused(401, "unauthorized");
        suspect.get("/v1/api-keys").await.refused(401, "unauthorized");
    }
    let keys = acme.get("/v1/api-keys").await.is(200);
    assert_eq!(keys["data"].as_array().unwrap().len(), 1, "none was made: {keys}");
    world.close().await;
}

/// The three headers make a browser ask first whether a page of another origin may send them.
async fn a_page_in_a_browser_gets_no_permission(database: Database) {
    let world = developing(database).await;
    let acme = world.team("acme").await;
    let page = world.nobody().with("origin", "https://evil.example");
    let asks = page.with("access-control-request-method", "POST");
    let asks = asks.with("access-control-request-headers", "x-crownest-org-id,x-crownest-role");
    let person = acme.person("owner").await.with("origin", "https://evil.example");
    for answer in [
        asks.send(asks.request(Method::OPTIONS, "/v1/api-keys")).await,
        person.get("/v1/api-keys").await,
        acme.with("origin", "https://evil.example").get("/v1/api-keys").await,
    ] {
        let names = answer.headers.keys().map(|name| name.as_str());
        let granted: Vec<_> = names.filter(|name| name.starts_with("access-control-")).collect();
        assert!(granted.is_empty(), "{granted:?}: {answer}");
    }
    world.close().await;
}

async fn a_key_that_makes_no_sense_is_refused_by_field(database: Database) {
    let world = developing(database).await;
    let (acme, rival) = (world.team("acme").await, world.team("rival").await);
    let person = acme.person("owner").await;
    let scopes = json!(["sandbox:read"]);
    for (body, field) in [
        (json!({ "scopes": scopes }), "name"),
        (json!({ "name": " ", "scopes": scopes }), "name"),
        (json!({ "name": "x" }), "scopes"),
        (json!({ "name": "x", "scopes": [] }), "scopes"),
        (json!({ "name": "x", "scopes": ["sandbox:fly"] }), "scopes"),
        (json!({ "name": "x", "scopes": scopes, "projectIds": [] }), "projectIds"),
        (json!({ "name": "x", "scopes": scopes, "projectIds": ["prj_1"] }), "projectIds"),
        (json!({ "name": "x", "scopes": scopes, "projectIds": [rival.project_id] }), "projectIds"),
    ] {
        let answer = person.post("/v1/api-keys", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {answer}");
        let error = answer.refused(400, "invalid_request");
        let told = error["details"]["field"].as_str().unwrap_or_default();
        assert!(told.starts_with(field), "{body}: {error}");
    }
    let keys = acme.get("/v1/api-keys").await.is(200);
    assert_eq!(keys["data"].as_array().unwrap().len(), 1, "none was made: {keys}");
    world.close().await;
}

async fn a_person_of_a_suspended_organization_is_told_so(database: Database) {
    let world = developing(database).await;
    let acme = world.team("acme").await;
    let person = acme.person("owner").await;
    let suspend = format!("/admin/v1/organizations/{}/suspend", acme.org_id);
    world.owner().await.post(&suspend, json!({ "reason": "unpaid" })).await.is(200);
    person.get("/v1/api-keys").await.refused(403, "org_suspended");
    let wanted = json!({ "name": "x", "scopes": ["sandbox:read"] });
    person.post("/v1/api-keys", wanted).await.refused(403, "org_suspended");
    world.close().await;
}

/// What somebody says of their role can make them less than they are and not more; who was removed is
/// nobody.
async fn nobody_is_more_than_they_are(database: Database) {
    let world = developing(database).await;
    let acme = world.team("acme").await;
    let owner = world.owner().await;
    let bob = owner.member(&acme.org_id, "bob@acme.test").await;
    let person = acme.claims("owner", &bob);
    let wanted = json!({ "name": "x", "scopes": ["sandbox:read"] });
    person.get("/v1/api-keys").await.refused(403, "forbidden");
    person.post("/v1/api-keys", wanted.clone()).await.refused(403, "forbidden");
    let ann = json!({ "email": "ann@acme.test", "role": "admin" });
    let members = format!("/admin/v1/organizations/{}/members", acme.org_id);
    let ann = text(&owner.post(&members, ann).await.is(201)["member"]["id"]);
    let person = acme.claims("owner", &ann);
    let made = person.post("/v1/api-keys", wanted.clone()).await.is(201);
    assert_eq!(made["apiKey"]["createdByUserId"], ann.as_str());
    owner.delete(&format!("{members}/{ann}")).await.is(200);
    person.get("/v1/api-keys").await.refused(401, "unauthorized");
    person.post("/v1/api-keys", wanted).await.refused(401, "unauthorized");
    world.close().await;
}
