//! Checks what clients were told: nothing is lost, nothing is doubled, and a retry after all those
//! servers gets the first answer, byte for byte.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use store::Db;
use tests::serving::Client;

use crate::{books, journal::Promises};

/// Checks that there is exactly one sandbox and one command for each key.
pub async fn are_kept(client: &Client, db: &Db, promises: &Promises) {
    let promised: BTreeSet<_> = promises.creates.iter().map(|create| &create.sandbox).collect();
    assert_eq!(promised.len(), promises.creates.len(), "two creates got the same sandbox");
    let listed = list(client).await;
    let ids: BTreeSet<_> = listed.iter().map(id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>(), promised, "sandboxes listed and promised");
    for sandbox in &listed {
        let killed = promises.killed.contains(&id(sandbox));
        let status = sandbox["status"].as_str().unwrap();
        let wanted: &[&str] = if killed { &["destroyed"] } else { &["running", "idle", "ready"] };
        assert!(wanted.contains(&status), "{wanted:?} wanted: {sandbox}");
    }
    let commands: BTreeSet<_> = promises.commands.iter().map(|command| &command.id).collect();
    assert_eq!(commands.len(), promises.commands.len(), "two requests got the same command");
    for (table, n) in [("sandboxes", promised.len()), ("commands", commands.len())] {
        assert_eq!(books::count(db, table).await, n, "{table} made and promised");
    }
}

/// Every sandbox of the organization, whatever became of it.
async fn list(client: &Client) -> Vec<Value> {
    let mut sandboxes: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/sandboxes?include=historical&limit=7{cursor}");
        let page = client.get(&path).await;
        sandboxes.extend(page["data"].as_array().unwrap().iter().cloned());
        let Some(next) = page["nextCursor"].as_str() else { return sandboxes };
        cursor = format!("&cursor={next}");
    }
}

fn id(resource: &Value) -> String {
    resource["id"].as_str().unwrap().to_owned()
}

/// Sends everything that was ever answered once more.
pub async fn are_repeated(client: &Client, promises: &Promises) {
    for create in &promises.creates {
        let key = &create.key;
        let body = json!({ "template": "base", "ttlMs": 3_600_000, "metadata": { "key": key } });
        let again = client.insist(Method::POST, "/v1/sandboxes", Some(key), Some(&body)).await;
        assert_eq!(again, create.answer, "{key}");
    }
    for command in &promises.commands {
        let path = format!("/v1/sandboxes/{}/commands", command.sandbox);
        let body = json!({ "command": command.line, "background": command.background });
        let key = Some(command.key.as_str());
        let again = client.insist(Method::POST, &path, key, Some(&body)).await;
        assert_eq!(again, command.answer, "{}", command.key);
    }
}
