//! An operator at a shell: `crownest admin`, over the admin API alone.

use tests::{
    Admin, Database, Key, Value, World, json,
    program::{self, crownest},
    serving::Installation,
    team::text,
};

use crate::person::Person;

tests::stories![
    secrets_are_alone_and_rotate,
    members_and_projects_are_looked_after,
    an_operators_list_has_all_pages,
    a_role_may_do_what_it_is_there_for,
    an_admin_key_is_in_a_variable_or_in_a_file,
];

/// Somebody at a shell with this admin key, and with no key of a tenant.
pub fn operator(key: &Key) -> Person {
    at(&key.base(), &key.secret)
}

fn at(url: &str, secret: &str) -> Person {
    let nobody = Person::new("http://127.0.0.1:9", "");
    nobody.having("CROWNEST_ADMIN_URL", url).having("CROWNEST_ADMIN_KEY", secret)
}

/// The words of a line, and those that are not known before.
pub fn words<'w>(line: &'w str, more: &[&'w str]) -> Vec<&'w str> {
    ["admin"].into_iter().chain(line.split_whitespace()).chain(more.iter().copied()).collect()
}

pub fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

async fn begin(database: Database) -> (World, Admin, Person) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let person = operator(&owner);
    (world, owner, person)
}

/// From nothing to a customer who is gone, against a server that is a process of its own.
#[test]
fn an_operators_session() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let settings = vec![("CROWNEST_DRIVER", "simulated".to_owned())];
        let installation = Installation::new(&program::folder(), folder.path(), settings);
        let mut server = installation.start().unwrap();
        let url = format!("http://{}", server.address().await.unwrap());
        let state = installation.state();
        // What the client's commands read is no setting of the server's, and does not disturb it.
        let here = [
            ("CROWNEST_STATE_DIR", state.to_str().unwrap()),
            ("CROWNEST_ADMIN_URL", "nonsense"),
            ("CROWNEST_ADMIN_KEY_FILE", "/nowhere"),
        ];
        let bootstrap = crownest(&here, &["bootstrap", "--admin", "--json"]);
        let (code, made, told) = program::done(bootstrap).await;
        assert_eq!(code, Some(0), "{told}");
        let made: Value = serde_json::from_str(&made).unwrap();
        let person = at(&url, made["adminKey"].as_str().unwrap());

        let create = words("organization create acme --plan scale --json", &[]);
        let acme = person.gets_json(&create).await;
        assert_eq!((&acme["name"], &acme["plan"]), (&json!("acme"), &json!("scale")));
        let acme = text(&acme["id"]);
        // A key is somebody's.
        let create = words("key create ci --organization", &[&acme]);
        person.says(&create).await.ends(1, "no member");
        person.gets(&words("member add ann@example.org --organization", &[&acme])).await;
        let said = person.says(&create).await;
        assert_eq!(said.code, 0, "{said:?}");
        let tenant = Person::new(&url, said.text().trim());
        tenant.gets(&["sandbox", "list"]).await;

        person.says(&words("organization suspend", &[&acme])).await.ends(2, "--reason");
        let suspend = words("organization suspend --reason unpaid", &[&acme]);
        let shown = person.gets(&suspend).await;
        assert!(shown.contains("suspended\n") && shown.contains("unpaid\n"), "{shown}");
        tenant.says(&["sandbox", "list"]).await.ends(1, "org_suspended");
        // Once more: nothing is done, and nothing is wrong.
        assert_eq!(person.gets(&suspend).await, shown);
        person.gets(&words("organization resume", &[&acme])).await;
        tenant.gets(&["sandbox", "list"]).await;

        person.gets(&words("organization close --reason left", &[&acme])).await;
        assert_ne!(tenant.says(&["sandbox", "list"]).await.code, 0);
        let listed = person.gets(&words("organization list", &[])).await;
        let row = listed.lines().find(|line| line.starts_with(&acme)).expect("it is kept");
        assert!(row.contains("closed") && row.contains("left"), "{listed}");
        let again = person.says(&words("organization resume", &[&acme])).await;
        again.ends(1, "crownest: ");
        server.stop().await.unwrap();
    });
}

async fn secrets_are_alone_and_rotate(database: Database) {
    let (world, owner, person) = begin(database).await;
    let acme = owner.organization("acme").await;
    owner.member(&acme, "ann@example.org").await;
    let create = words("key create ci --scopes sandbox:read --organization", &[&acme]);
    let said = person.says(&create).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.ends_with("This key is shown once:\n"), "{said:?}");
    let secret = said.text();
    assert!(secret.starts_with("cn_live_") && secret.lines().count() == 1, "{secret}");
    assert!(!said.stderr.contains(secret.trim()), "{said:?}");
    let old = Person::new(&owner.base(), secret.trim());
    old.gets(&["sandbox", "list"]).await;
    old.says(&["sandbox", "create"]).await.ends(1, "forbidden");

    let listed = lines(&person.gets(&words("key list --json --organization", &[&acme])).await);
    assert_eq!(listed.len(), 1);
    let id = text(&listed[0]["id"]);
    let rotate = words("key rotate --overlap 10m --json --organization", &[&acme, &id]);
    let rotated = person.gets_json(&rotate).await;
    let (new_id, secret) = (text(&rotated["apiKey"]["id"]), text(&rotated["secret"]));
    let new = Person::new(&owner.base(), &secret);
    for key in [&old, &new] {
        key.gets(&["sandbox", "list"]).await;
    }
    world.advance("10m").await;
    assert_eq!(old.says(&["sandbox", "list"]).await.code, 1);
    new.gets(&["sandbox", "list"]).await;
    let shown = person.gets(&words("key get --organization", &[&acme, &id])).await;
    assert!(shown.contains(&format!("replaced by  {new_id}\n")), "{shown}");

    person.gets(&words("key revoke --organization", &[&acme, &new_id])).await;
    assert_eq!(new.says(&["sandbox", "list"]).await.code, 1);
    // A successor with no overlap: the parser knows 0, the API does it.
    let whole = words("key create all --preset all --json --organization", &[&acme]);
    let whole = person.gets_json(&whole).await;
    let (id, secret) = (text(&whole["apiKey"]["id"]), text(&whole["secret"]));
    person.says(&words("key rotate --overlap 0 --organization", &[&acme, &id])).await;
    assert_eq!(Person::new(&owner.base(), &secret).says(&["usage"]).await.code, 1);
    world.close().await;
}

async fn members_and_projects_are_looked_after(database: Database) {
    let (world, owner, person) = begin(database).await;
    let acme = owner.organization("acme").await;
    let add = words("member add ann@example.org --role admin --json --organization", &[&acme]);
    let ann = text(&person.gets_json(&add).await["id"]);
    let listed = person.gets(&words("member list --organization", &[&acme])).await;
    assert!(listed.contains("ann@example.org") && listed.contains("admin"), "{listed}");
    let remove = words("member remove --organization", &[&acme, &ann]);
    assert!(person.gets(&remove).await.contains("removed  "));
    let poor = words("member add bob@example.org --role king --organization", &[&acme]);
    person.says(&poor).await.ends(1, "invalid_request");

    let create = words("project create website --json --organization", &[&acme]);
    let id = text(&person.gets_json(&create).await["id"]);
    let rename = words("project rename --organization", &[&acme, &id, "the shop"]);
    let shown = person.gets(&rename).await;
    assert!(shown.contains("name     the shop\n"), "{shown}");
    assert_eq!(person.gets(&words("project get --organization", &[&acme, &id])).await, shown);
    let listed = person.gets(&words("project list --organization", &[&acme])).await;
    assert!(listed.contains("the shop") && !listed.contains("website"), "{listed}");

    // A key that is restricted to it, for a member who is back.
    person.gets(&add).await;
    let make = words("key create ci --project", &[&id, "--organization", &acme, "--json"]);
    let made = person.gets_json(&[&make[..], &["--member", &ann]].concat()).await;
    assert_eq!(made["apiKey"]["projectIds"], json!([id]));
    assert_eq!(made["apiKey"]["createdByUserId"], ann);
    world.close().await;
}

/// One more than a page has.
async fn an_operators_list_has_all_pages(database: Database) {
    let (world, owner, person) = begin(database).await;
    let acme = owner.organization("acme").await;
    let mut made = Vec::new();
    for n in 0..101 {
        made.push(owner.member(&acme, &format!("m{n}@example.org")).await);
    }
    let listed = person.gets(&words("member list --json --organization", &[&acme])).await;
    let mut ids: Vec<_> = lines(&listed).iter().map(|member| text(&member["id"])).collect();
    ids.retain(|id| made.contains(id));
    // The clock stands still, so the order is that of the ids.
    made.sort();
    made.reverse();
    assert_eq!(ids, made);
    let table = person.gets(&words("member list --organization", &[&acme])).await;
    assert_eq!(table.lines().count(), listed.lines().count() + 1, "a row of headings, once");
    world.close().await;
}

async fn a_role_may_do_what_it_is_there_for(database: Database) {
    let (world, owner, person) = begin(database).await;
    let acme = owner.organization("acme").await;
    let said = person.says(&words("admin-key create eve --role auditor", &[])).await;
    assert_eq!(said.code, 0, "{said:?}");
    let auditor = at(&owner.base(), said.text().trim());
    let shown = auditor.gets(&words("organization get", &[&acme])).await;
    assert!(shown.starts_with(&format!("organization  {acme}\n")), "{shown}");
    let create = words("organization create b", &[]);
    auditor.says(&create).await.ends(1, "crownest: forbidden: ");
    let refused = auditor.says(&[&create[..], &["--json"]].concat()).await;
    let error: Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!((&error["error"]["code"], refused.code), (&json!("forbidden"), 1));
    assert_eq!(error["error"]["status"], 403);

    let keys = lines(&auditor.gets(&words("admin-key list --json", &[])).await);
    let eve = keys.iter().find(|key| key["name"] == "eve").expect("it is listed");
    assert_eq!((&eve["role"], &eve["createdByAdminKeyId"]), (&json!("auditor"), &json!(owner.id)));
    let eve = text(&eve["id"]);
    let revoked = person.gets(&words("admin-key revoke", &[&eve])).await;
    assert!(revoked.contains("revoked "), "{revoked}");
    assert_eq!(auditor.says(&words("organization list", &[])).await.code, 1);
    let king = words("admin-key create max --role king", &[]);
    person.says(&king).await.ends(1, "invalid_request");
    world.close().await;
}

async fn an_admin_key_is_in_a_variable_or_in_a_file(database: Database) {
    let (world, owner, person) = begin(database).await;
    let list = words("organization list --json", &[]);
    let keyless = person.having("CROWNEST_ADMIN_KEY", "");
    let said = keyless.says(&words("organization list", &[])).await;
    said.ends(2, "there is no key: set CROWNEST_ADMIN_KEY, or name a file with --admin-key-file");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{}\n", owner.secret)).unwrap();
    let file = file.to_str().unwrap();
    keyless.having("CROWNEST_ADMIN_KEY_FILE", file).gets(&list).await;
    // Before the noun, too, as what is about the API and not about the noun.
    let before = ["admin", "--admin-key-file", file, "organization", "list"];
    keyless.gets(&before).await;
    let nowhere = keyless.having("CROWNEST_ADMIN_KEY_FILE", "/nowhere");
    nowhere.says(&list).await.ends(2, "admin-key-file: /nowhere");

    let wrong = person.having("CROWNEST_ADMIN_KEY", "cn_admin_wrong");
    assert_eq!(wrong.says(&list).await.code, 1);
    // A tenant's key is none here, wherever it lies.
    let team = world.team("acme").await;
    let tenant = Person::with(&team).having("CROWNEST_ADMIN_URL", &owner.base());
    tenant.says(&list).await.ends(2, "there is no key");
    assert_eq!(tenant.having("CROWNEST_ADMIN_KEY", &team.secret).says(&list).await.code, 1);

    let unknown = "org_019aaaaaaaaa7aaaaaaaaaaaaaaaaaaa";
    person.says(&words("organization get", &[unknown])).await.ends(1, "crownest: not_found: ");
    person.says(&words("organization get", &["../admin-keys"])).await.ends(2, "expected an id");
    person.says(&words("organization get", &["acme"])).await.ends(2, "such as org_019a");
    let away = person.having("CROWNEST_ADMIN_URL", "example.org");
    away.says(&list).await.ends(2, "admin-url: ");
    world.close().await;
}
