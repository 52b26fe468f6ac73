//! Machines of one server, from an installation without an image to the accident that ends one: what the API
//! shows of each, what its meter has measured, and what the host has of it.

use std::{collections::BTreeSet, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    bill,
    host::{self, Traces},
    stage::{self, Beginning, Images, Stage},
    wait::until,
};

#[tokio::test]
async fn machines_are_what_the_api_and_the_meter_say() {
    let stage = Stage::set(Images::None, Beginning::Usual).await;
    a_template_needs_an_image(&stage).await;
    let version = imports(&stage, "python-node").await;

    let first = stage.creates("python-node").await;
    assert_eq!(stage.sees(&first).await["templateVersionId"], version);
    assert_eq!(stage.started().await, [0.0, 0.0, 1.0], "nothing else was there to begin with");
    works(&stage, &first).await;
    let mut used = is_killed(&stage, &first).await;
    is_prepared(&stage).await;

    // One after the other, for the meters to differ.
    let mut several = Vec::new();
    for _ in 0..3 {
        several.push(stage.creates("python-node").await);
    }
    assert_eq!(stage.started().await, [3.0, 0.0, 1.0], "with what the first one left");
    let [one, other, last] = [0, 1, 2].map(|n| &*several[n]);
    are_apart(&stage, &[one, other, last]).await;
    used += crashes(&stage, other).await;
    for left in [one, last] {
        assert_eq!(stage.prints(left, "cat own").await, left, "the others do not notice");
        used += is_killed(&stage, left).await;
    }
    let warnings =
        ["driver limitation", "a sandbox failed to start", "a sandbox stopped by itself"];
    stage.close(used, &warnings).await;
}

/// A new installation knows its templates, and nothing to make them from: a sandbox fails, and says why to
/// the operator. It costs nothing.
async fn a_template_needs_an_image(stage: &Stage) {
    let sandbox = stage.accepts("python-node").await;
    has_failed(stage, &sandbox).await;
    let known = stage.knows(&sandbox).await;
    let why = known["failure"].as_str().unwrap();
    assert!(why.contains("crownest template import"), "{why}");
    assert_eq!(known["readyAt"], Value::Null, "{known}");
    assert_eq!(bill::windows(stage, &sandbox).await, []);
}

/// Does what the operator is told to do, and returns the version that new sandboxes have from then on.
async fn imports(stage: &Stage, template: &str) -> String {
    let image = stage::built().join(template);
    let arguments = ["template", "import", template, image.to_str().unwrap()];
    stage.servers.installation.tells(&arguments).await.unwrap();
    let listed = stage.servers.installation.tells(&["template", "list", "--json"]).await.unwrap();
    let mut versions = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let here = versions.find(|one| one["template"] == template && one["here"] == "yes").unwrap();
    here["templateVersionId"].as_str().unwrap().to_owned()
}

/// Programs and files, as far as the API shows them.
async fn works(stage: &Stage, sandbox: &str) {
    for (line, wanted) in [
        ("python3 -c 'print(sum(range(10)))'", "45\n"),
        ("node -e 'console.log([1, 2, 3].map(n => n * n).join())'", "1,4,9\n"),
        ("echo $CROWNEST_SANDBOX_ID", &format!("{sandbox}\n")),
    ] {
        assert_eq!(stage.prints(sandbox, line).await, wanted, "{line}");
    }
    assert_eq!(stage.sees(sandbox).await["status"], "idle", "nothing runs any more");
    stage.writes(sandbox, "a.py", "open('made', 'w').write('by a program')\n").await;
    stage.prints(sandbox, "python3 a.py").await;
    assert_eq!(stage.reads(sandbox, "made").await, "by a program");
    let names = [("a.py".to_owned(), 40), ("made".to_owned(), 12)];
    assert_eq!(stage.lists(sandbox).await, names);

    let command = stage.begins(sandbox, "exec sleep 1000").await;
    stage.command_is(&command, "running").await;
    assert_eq!(stage.sees(sandbox).await["status"], "running");
    let sleeping = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done 2>/dev/null \
                    | grep -c '^sleep 100[0]' || true";
    assert_eq!(stage.prints(sandbox, sleeping).await, "1\n");
    let path = format!("/v1/commands/{command}/cancel");
    let canceled = stage.client.insist(Method::POST, &path, None, Some(&json!({}))).await.is(200);
    let canceled = &canceled["command"];
    for (field, wanted) in
        [("status", "canceled"), ("cancelMode", "graceful"), ("terminationSignal", "SIGTERM")]
    {
        assert_eq!(canceled[field], wanted, "{canceled}");
    }
    assert_eq!(stage.prints(sandbox, sleeping).await, "0\n", "it is over inside, too");
    assert_eq!(stage.sees(sandbox).await["status"], "idle");
}

/// Ends a sandbox in which a command runs, and returns the seconds that its life is billed for.
async fn is_killed(stage: &Stage, sandbox: &str) -> i64 {
    let traces = Traces::of(&stage.servers.installation.state(), sandbox);
    let command = stage.begins(sandbox, "exec sleep 1000").await;
    stage.command_is(&command, "running").await;
    let killed = stage.kills(sandbox).await;
    assert_eq!(killed["status"], "destroyed", "{killed}");
    assert_eq!(killed["destroyedReason"], "user_killed", "{killed}");
    assert_eq!(stage.sees(sandbox).await, killed, "as it was answered");
    assert_eq!(stage.knows(sandbox).await["endedAt"], killed["destroyedAt"]);
    let ended = stage.command(&command).await;
    assert_eq!(
        (&ended["status"], &ended["killedReason"]),
        (&json!("killed"), &json!("sandbox_destroyed"))
    );
    traces.vanish().await;
    bill::of(stage, sandbox).await
}

/// Waits until there is what further machines begin with, and nothing of its making.
async fn is_prepared(stage: &Stage) {
    let warm = stage.servers.installation.state().join("warm");
    let prepared = async || {
        let golden = host::names(&warm.join("golden"));
        let is_whole = golden.iter().any(|name| !name.ends_with(".new"));
        (is_whole && host::names(&warm.join("sandboxes")).is_empty()).then_some(())
    };
    let (_, took) = until("a machine is prepared for others to begin with", prepared).await;
    println!("waited {took:.1?} for a machine that others begin with");
}

/// Each has files of its own, in a machine of its own.
async fn are_apart(stage: &Stage, sandboxes: &[&str]) {
    let mut boots = BTreeSet::new();
    for sandbox in sandboxes {
        assert_eq!(stage.lists(sandbox).await, [], "as empty as one that has booted");
        stage.writes(sandbox, "own", sandbox).await;
        let boot =
            stage.prints(sandbox, "cat /proc/sys/kernel/random/boot_id /etc/machine-id").await;
        boots.extend(boot.lines().map(str::to_owned));
    }
    assert_eq!(boots.len(), 2 * sandboxes.len(), "each knows itself as another: {boots:?}");
    for sandbox in sandboxes {
        assert_eq!(stage.prints(sandbox, "ls; cat own").await, format!("own\n{sandbox}"));
        // One VMM for each, among other things.
        Traces::of(&stage.servers.installation.state(), sandbox);
    }
}

/// A VMM that is killed: the API tells it, and no second is billed after the last one in which it was known to
/// live. Returns those that are.
async fn crashes(stage: &Stage, sandbox: &str) -> i64 {
    let traces = Traces::of(&stage.servers.installation.state(), sandbox);
    let command = stage.begins(sandbox, "exec sleep 1000").await;
    stage.command_is(&command, "running").await;
    let before = now();
    traces.crash();
    let took = has_failed(stage, sandbox).await;
    println!("the API showed that a VMM was killed after {took:.1?}");
    let known = stage.knows(sandbox).await;
    assert_eq!(known["endReason"], Value::Null, "nobody wanted it: {known}");
    let ended = bill::instant(&known["endedAt"]);
    let lost = (before - ended).num_milliseconds();
    // The server looks twice a second, and a look takes its time in an emulated host.
    println!("{lost} ms of its life are nobody's");
    assert!((-1000..4000).contains(&lost), "{lost} ms of its life are nobody's: {known}");
    let told = stage.command(&command).await;
    assert_eq!(
        (&told["status"], &told["killedReason"]),
        (&json!("killed"), &json!("sandbox_destroyed"))
    );
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let body = json!({ "command": "true" });
    let late = stage.client.insist(Method::POST, &path, None, Some(&body)).await;
    assert_eq!(late.is(410)["error"]["code"], "sandbox_destroyed");
    traces.vanish().await;
    bill::of(stage, sandbox).await
}

/// Waits until the API shows that a sandbox has failed, and says how long that took.
async fn has_failed(stage: &Stage, sandbox: &str) -> Duration {
    let failed = async || (stage.sees(sandbox).await["status"] == "failed").then_some(());
    until(&format!("{sandbox} has failed"), failed).await.1
}

#[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::Utc::now()
}
