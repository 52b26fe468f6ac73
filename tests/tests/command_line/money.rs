//! An operator at a shell who looks after money, sandboxes and what happened, over the admin API alone.

use tests::{Database, World, json, team::text};

use crate::{
    admin::{lines, operator, words},
    person::Person,
};

tests::stories![
    a_customer_is_looked_after_to_the_first_statement,
    prices_are_published_from_a_file,
    a_sandbox_is_killed_and_the_trail_tells,
    a_version_of_a_template_is_published_and_deprecated,
];

/// An hour of a sandbox is 3.6 credits; the free plan comes with 300.0003 of them.
async fn a_customer_is_looked_after_to_the_first_statement(database: Database) {
    let world = World::on(database).at("2031-01-20T12:00:00Z").await;
    let owner = world.owner().await;
    let person = operator(&owner);
    let create = words("organization create acme --plan free --json", &[]);
    let acme = text(&person.gets_json(&create).await["id"]);
    let of = |line| words(line, &["--organization", &acme]);

    let grant = of("credit grant purchased 50 --key po-1 --reason order --json");
    let granted = person.gets_json(&grant).await;
    assert_eq!(granted["grant"]["left"], "50");
    // Asked for by another process, and made once all the same.
    assert_eq!(person.gets_json(&grant).await["grant"]["id"], granted["grant"]["id"]);
    let id = text(&granted["grant"]["id"]);
    let take = of("credit adjust -5 --key back --reason mistake --json");
    let take = [&take[..], &["--grant", &id]].concat();
    assert_eq!(person.gets_json(&take).await["grant"]["left"], "45");
    let balance = person.gets(&of("credit balance")).await;
    assert!(balance.contains("345.0003\n"), "{balance}");
    assert_eq!(lines(&person.gets(&of("credit grants --json")).await).len(), 2);

    owner.member(&acme, "ann@example.org").await;
    let said = person.says(&of("key create ci")).await;
    let tenant = Person::new(&owner.base(), said.text().trim());
    tenant.gets(&["sandbox", "create"]).await;
    world.settle().await;
    world.advance("1h").await;
    world.advance("2m").await;
    let sum = "usage sum --by day --from 2031-01-20 --metric compute_unit_seconds --json";
    let used = lines(&person.gets(&of(sum)).await);
    assert_eq!((&used[0]["quantity"], &used[0]["credits"]), (&json!("3600"), &json!("3.6")));
    let windows = person.gets(&of("usage windows --from 2031-01-20 --json")).await;
    assert!(!lines(&windows).is_empty());

    let set = person.gets(&of("plan set scale --reason growth")).await;
    assert!(set.contains("credit_then_invoice\n"), "{set}");
    person.gets(&of("limit set max_concurrent_sandboxes 7 --reason demo")).await;
    let terms = person.gets_json(&of("plan get --json")).await;
    assert_eq!(terms["limitOverrides"], json!({ "max_concurrent_sandboxes": 7 }));
    person.gets(&of("limit remove max_concurrent_sandboxes --reason over")).await;
    let cap = person.gets(&of("cap set 250.50 --reason agreed")).await;
    assert!(cap.starts_with("cap  250.5"), "{cap}");
    assert_eq!(person.gets_json(&of("cap remove --reason paid --json")).await, json!({}));
    let changes = lines(&person.gets(&of("plan changes --json")).await);
    assert!(changes.iter().any(|change| change["reason"] == "growth"), "{changes:?}");
    let plans = person.gets(&words("plan list", &[])).await;
    assert!(plans.contains("scale") && plans.starts_with("plan "), "{plans}");

    world.advance("12d").await;
    let statement = person.gets_json(&of("statement get 2031-01 --json")).await;
    assert_eq!(statement["usageTotal"], "0.12");
    let printed = person.gets(&of("statement get 2031-01")).await;
    assert!(printed.contains("acme") && printed.contains("0.12"), "{printed}");
    let page = person.gets(&of("statement get 2031-01 --html")).await;
    assert!(page.trim_start().to_lowercase().starts_with("<!doctype html"), "{page}");
    let listed = person.gets(&of("statement list")).await;
    assert!(listed.contains("2031-01"), "{listed}");

    let booked = lines(&person.gets(&of("journal list --json")).await);
    let first = booked[0]["seq"].to_string();
    let rest = [&of("journal list --json")[..], &["--after", &first]].concat();
    assert_eq!(lines(&person.gets(&rest).await), booked[1..]);
    let journal = person.gets(&of("journal print")).await;
    assert!(journal.contains("credit:purchased"), "{journal}");
    world.close().await;
}

async fn prices_are_published_from_a_file(database: Database) {
    let world = World::on(database).at("2031-01-20T12:00:00Z").await;
    let owner = world.owner().await;
    let person = operator(&owner);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prices.toml");
    let sheet = "name = \"2031-02\"\ncurrency = \"USD\"\ncurrencyPerCredit = \"0.04\"\n\
                 computeUnitSecondsPerCredit = 1000\nvalidFrom = 2031-02-01T00:00:00Z\n";
    std::fs::write(&file, sheet).unwrap();
    let publish = words("pricing publish --json", &[file.to_str().unwrap()]);
    let published = person.gets_json(&publish).await;
    assert_eq!(published["currencyPerCredit"], "0.04");
    assert_eq!(person.gets_json(&words("pricing get 2031-02 --json", &[])).await, published);
    let listed = person.gets(&words("pricing list", &[])).await;
    assert!(listed.lines().nth(1).is_some_and(|row| row.starts_with("2031-02 ")), "{listed}");
    std::fs::write(&file, "name = ").unwrap();
    person.says(&publish).await.ends(2, "file: ");
    std::fs::remove_file(&file).unwrap();
    person.says(&publish).await.ends(3, "reading ");
    world.close().await;
}

async fn a_sandbox_is_killed_and_the_trail_tells(database: Database) {
    let world = World::on(database).await;
    let owner = world.owner().await;
    let person = operator(&owner);
    let team = world.team("acme").await;
    let sandbox = team.starts(json!({})).await;
    let org = team.org_id.to_string();
    let listed = lines(&person.gets(&words("sandbox list --json --organization", &[&org])).await);
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(sandbox)));
    let kill = words("sandbox kill --reason abuse", &[&sandbox]);
    let shown = person.gets(&kill).await;
    assert!(shown.contains("platform_cleanup\n"), "{shown}");
    let auditor = operator(&owner.operator("auditor").await);
    auditor.says(&kill).await.ends(1, "forbidden");

    let trail = words("audit list --json --action sandbox.kill --organization", &[&org]);
    let trail = lines(&auditor.gets(&trail).await);
    assert_eq!((&trail[0]["object"], &trail[0]["actor"]), (&json!(sandbox), &json!(owner.id)));
    let own = person.gets(&words("audit list --installation", &[])).await;
    assert!(own.contains("admin_key.create"), "{own}");
    let events = words("events list --json --type crownest.sandbox --organization", &[&org]);
    let events = lines(&person.gets(&events).await);
    assert!(events.iter().all(|event| event["subject"] == json!(sandbox)), "{events:?}");
    let last = events.last().expect("it was told")["position"].to_string();
    let after = words("events list --json --after", &[&last, "--organization", &org]);
    assert_eq!(person.gets(&after).await, "");
    world.close().await;
}

/// A new version is what new sandboxes are made from, until it is deprecated.
async fn a_version_of_a_template_is_published_and_deprecated(database: Database) {
    let world = World::on(database).await;
    let (acme, owner) = (world.team("acme").await, world.owner().await);
    let person = operator(&owner);
    let made_from = async || {
        let made = acme.post("/v1/sandboxes", json!({ "template": "python" })).await.is(201);
        text(&made["sandbox"]["templateVersion"])
    };
    let first = made_from().await;
    let templates = lines(&person.gets(&words("template list --json", &[])).await);
    let python = templates.iter().find(|template| template["slug"] == "python").unwrap();
    let python = text(&python["id"]);
    world.moves("1s");
    let publish = words("template publish --json", &[&python, "9.9"]);
    let version = text(&person.gets_json(&publish).await["id"]);
    assert_eq!(made_from().await, "9.9");
    let deprecate = words("template deprecate --reason hole", &[&version]);
    let said = person.gets(&deprecate).await;
    assert!(said.contains("hole\n"), "{said}");
    assert_eq!(made_from().await, first);
    let versions = lines(&person.gets(&words("template versions --json", &[&python])).await);
    assert_eq!((&versions[0]["version"], versions.len()), (&json!("9.9"), 2));
    let shown = person.gets_json(&words("template get --json", &[&version])).await;
    assert_eq!(shown, versions[0]);
    world.close().await;
}
