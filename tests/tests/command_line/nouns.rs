//! Commands that ask the API one thing each: what they print, and how they end.

use tests::{Database, World, json, team::text};

use crate::person::Person;

tests::stories![
    a_sandbox_from_its_making_to_its_end,
    a_list_has_all_pages,
    files_have_any_name,
    commands_are_shown_and_canceled,
    usage_is_shown,
    a_key_is_in_a_variable_or_in_a_file,
    what_the_api_refuses_is_told_with_its_code,
    a_server_that_is_away_is_told,
];

async fn a_sandbox_from_its_making_to_its_end(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let person = Person::with(&team);

    let words = ["sandbox", "create", "--template", "python", "--ttl", "30m", "--json"];
    let made = person.gets_json(&[&words[..], &["--metadata", "branch=a=b"]].concat()).await;
    let id = text(&made["id"]);
    assert_eq!((&made["ttlMs"], &made["templateSlug"]), (&json!(1_800_000), &json!("python")));
    assert_eq!(made["metadata"], json!({ "branch": "a=b" }));

    let other = text(&person.gets_json(&["sandbox", "create", "--json"]).await["id"]);
    let listed = person.gets(&["sandbox", "list", "--metadata", "branch=a=b"]).await;
    assert!(listed.contains(&id) && !listed.contains(&other), "{listed}");
    assert!(listed.lines().next().unwrap().starts_with("sandbox "), "{listed}");

    let longer = person.gets_json(&["sandbox", "ttl", &id, "45m", "--json"]).await;
    assert_eq!(longer["expiresAt"], world.stamp("45m"));
    let shown = person.gets(&["sandbox", "get", &id]).await;
    assert!(shown.starts_with(&format!("sandbox   {id}\n")), "{shown}");

    let killed = person.gets(&["sandbox", "kill", &id, &other]).await;
    assert_eq!(killed, format!("{id} is gone (user_killed)\n{other} is gone (user_killed)\n"));
    assert_eq!(person.gets(&["sandbox", "list", "--json"]).await, "");
    assert_eq!(person.gets(&["sandbox", "list", "--json", "--all"]).await.lines().count(), 2);
    world.close().await;
}

/// One more than a page has.
async fn a_list_has_all_pages(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let mut made = Vec::new();
    for _ in 0..51 {
        let id = team.creates(json!({})).await;
        team.kills(&id).await;
        made.push(id);
    }
    // The clock stands still, so the order is that of the ids.
    made.sort();
    made.reverse();
    let listed = Person::with(&team).gets(&["sandbox", "list", "--all", "--json"]).await;
    let ids = listed.lines().map(|line| {
        text(&serde_json::from_str::<tests::Value>(line).expect("a line is a sandbox")["id"])
    });
    assert_eq!(ids.collect::<Vec<_>>(), made);
    world.close().await;
}

async fn files_have_any_name(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let person = Person::with(&team);
    let sandbox = team.starts(json!({})).await;
    let folder = tempfile::tempdir().unwrap();
    let every: Vec<u8> = (0..=255).collect();
    for name in ["a b", "it's", "\"q\"", "two\nlines", "$(id)", "-rf", "é", "a&b=c%2F+d", "#?"] {
        let local = folder.path().join(name);
        std::fs::write(&local, &every).unwrap();
        let local = local.to_str().unwrap();
        let put = person.gets_json(&["files", "put", "--json", &sandbox, local]).await;
        assert_eq!(put["path"], format!("/workspace/{name}"));
        let listed = person.gets_json(&["files", "ls", "--json", &sandbox]).await;
        assert_eq!((&listed["name"], &listed["sizeBytes"]), (&json!(name), &json!(256)));
        let path = format!("/workspace/{name}");
        let printed = person.says(&["files", "cat", &sandbox, &path]).await;
        assert_eq!((printed.code, &printed.stdout), (0, &every), "{name:?}");
        let (from, to) = (path.as_str(), format!("sub {name}/x"));
        let parent = format!("sub {name}");
        person.gets(&["files", "mkdir", &sandbox, "--", &parent]).await;
        person.gets(&["files", "mv", &sandbox, "--", from, &to]).await;
        let back = tempfile::tempdir().unwrap();
        let target = back.path().join(name);
        let words = ["files", "get", "--json", &sandbox, "--", &to, target.to_str().unwrap()];
        assert_eq!(person.gets_json(&words).await["sizeBytes"], 256);
        assert_eq!(std::fs::read(&target).unwrap(), every, "{name:?}");
        person.gets(&["files", "rm", &sandbox, "--", &to, &parent]).await;
    }
    assert_eq!(person.gets(&["files", "ls", "--json", &sandbox]).await, "");

    // A download that is refused leaves what was there, and nothing beside it.
    let local = folder.path().join("kept").join("file");
    std::fs::create_dir(local.parent().unwrap()).unwrap();
    std::fs::write(&local, "before").unwrap();
    let words = ["files", "get", &sandbox, "missing", local.to_str().unwrap()];
    person.says(&words).await.ends(1, "file_not_found");
    assert_eq!(std::fs::read_to_string(&local).unwrap(), "before");
    assert_eq!(std::fs::read_dir(local.parent().unwrap()).unwrap().count(), 1);
    let words = ["files", "put", "--no-overwrite", &sandbox, local.to_str().unwrap()];
    person.gets(&words).await;
    person.says(&words).await.ends(1, "file_already_exists");
    world.close().await;
}

async fn commands_are_shown_and_canceled(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let person = Person::with(&team);
    let sandbox = team.starts(json!({})).await;
    let id = team.launches_and_sees(&sandbox, "sleep infinity").await;
    let shown = person.gets(&["command", "get", &id]).await;
    assert!(shown.contains("running") && shown.contains("sleep infinity"), "{shown}");
    let canceled = person.gets_json(&["command", "cancel", "--force", "--json", &id]).await;
    assert_eq!(canceled["terminationSignal"], "SIGKILL");
    let printed = team.launches(&sandbox, "echo out && cat missing").await;
    team.sees_command(&printed, "exited").await;
    let said = person.says(&["command", "logs", &printed]).await;
    assert_eq!((said.code, said.text().as_str()), (0, "out\n"));
    assert!(said.stderr.starts_with("cat: missing: "), "{said:?}");
    world.close().await;
}

async fn usage_is_shown(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let sandbox = team.starts(json!({})).await;
    world.advance("60s").await;
    team.kills(&sandbox).await;
    let person = Person::with(&team);
    let usage = person.gets_json(&["usage", "--json"]).await;
    assert_eq!(usage["computeUnitSeconds"]["used"], team.used().await);
    let table = person.gets(&["usage"]).await;
    let used = format!("used              {} compute unit seconds\n", team.used().await);
    assert!(table.contains(&used) && table.contains("active sandboxes  0 of "), "{table}");
    world.close().await;
}

async fn a_key_is_in_a_variable_or_in_a_file(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let file_name = file.to_str().unwrap();
    std::fs::write(&file, format!("{}\n", team.secret)).unwrap();

    let keyless = Person::with(&team).having("CROWNEST_API_KEY", "");
    keyless.says(&["usage"]).await.ends(2, "there is no key");
    keyless.gets(&["usage", "--key-file", file_name]).await;
    keyless.having("CROWNEST_BEARER_TOKEN", &team.secret).gets(&["usage"]).await;
    // A file that was named goes before what happens to be in a variable.
    let other = Person::with(&team).having("CROWNEST_API_KEY", "cn_live_wrong");
    other.says(&["usage"]).await.ends(1, "invalid_api_key");
    other.gets(&["usage", "--key-file", file_name]).await;
    std::fs::write(&file, "").unwrap();
    other.says(&["usage", "--key-file", file_name]).await.ends(2, "is empty");
    other.says(&["usage", "--key-file", "/nowhere"]).await.ends(2, "key-file: /nowhere");
    world.close().await;
}

async fn what_the_api_refuses_is_told_with_its_code(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let person = Person::with(&team);
    let unknown = "sbx_019aaaaaaaaa7aaaaaaaaaaaaaaaaaaa";
    let refused = person.says(&["sandbox", "get", unknown]).await;
    refused.ends(1, "crownest: not_found: ");
    assert!(refused.stderr.contains("(request req_") && refused.stdout.is_empty(), "{refused:?}");
    let refused = person.says(&["sandbox", "get", unknown, "--json"]).await;
    let error: tests::Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!((&error["error"]["code"], refused.code), (&json!("not_found"), 1));
    assert_eq!(error["error"]["status"], 404);

    person.says(&["sandbox", "get", "../projects"]).await.ends(2, "expected an id");
    person.says(&["sandbox", "ttl", unknown, "10"]).await.ends(2, "such as 90s");
    person.says(&["usage", "--api-url", "example.org"]).await.ends(2, "api-url: ");
    let poor = Person::with(&team.key("sandbox:read").await);
    poor.says(&["sandbox", "create"]).await.ends(1, "forbidden");
    poor.says(&["run", "--", "true"]).await.ends(125, "forbidden");
    person.says(&["run", "--sandbox", unknown, "--", "true"]).await.ends(125, "not_found");
    world.close().await;
}

async fn a_server_that_is_away_is_told(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let person = Person::new(&url, &team.secret);
    let said = person.says(&["usage"]).await;
    said.ends(3, &format!("GET {url}/v1/usage"));
    assert!(!said.stderr.contains(&team.secret), "{said:?}");
    person.says(&["run", "--", "true"]).await.ends(125, "POST");
    world.close().await;
}
