//! Commands: running them, their environment and time, and ending them.

use futures_util::future::join_all;
use tests::{Database, World, json, stories, tables::holding};

stories![
    a_run_answers_when_the_command_has_ended,
    a_start_answers_at_once,
    the_old_routes_do_the_same_and_say_that_they_are_old,
    a_command_has_an_environment_and_a_directory,
    an_environment_is_never_shown_again,
    a_command_is_killed_at_its_timeout,
    only_a_run_has_a_timeout_by_default,
    a_running_command_can_be_canceled,
    a_queued_command_can_be_canceled,
    a_command_that_is_over_cannot_be_canceled,
    a_run_ends_with_its_sandbox,
    commands_that_come_with_a_kill_end_with_it,
    commands_run_beside_each_other,
    collecting_is_for_runs,
    a_client_can_ask_for_the_right_to_read_beforehand,
];

/// Acceptance 37.
async fn a_run_answers_when_the_command_has_ended(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let run = acme.runs(&sandbox, "echo out; echo err >&2; exit 3").await;
    assert!(run["id"].as_str().unwrap().starts_with("cmd_"));
    assert_eq!(run["sandboxId"], sandbox.as_str());
    assert_eq!(run["command"], "echo out; echo err >&2; exit 3");
    assert_eq!((&run["cwd"], &run["env"]), (&json!("/workspace"), &json!({})));
    assert_eq!((run["status"].as_str(), run["exitCode"].as_i64()), (Some("exited"), Some(3)));
    assert_eq!((&run["stdout"], &run["stderr"]), (&json!("out\n"), &json!("err\n")));
    assert_eq!(run["durationMs"], 0, "the clock stood still");
    assert_eq!(run["finishedAt"], world.stamp("0s"));
    for absent in
        ["stdoutTruncated", "cancelMode", "canceledAt", "terminationSignal", "killedReason"]
    {
        assert!(run.get(absent).is_none(), "{absent} is left out: {run}");
    }
    assert_eq!(acme.command(run["id"].as_str().unwrap()).await, run);
    world.close().await;
}

/// Acceptance 40 and 50.
async fn a_start_answers_at_once(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let body = json!({ "command": "sleep 2; echo done", "background": true });
    let started = acme.post(&format!("/v1/sandboxes/{sandbox}/commands"), body).await.is(202);
    let started = &started["command"];
    assert!(matches!(started["status"].as_str(), Some("queued" | "starting" | "running")));
    for absent in ["exitCode", "stdout", "stderr", "finishedAt", "durationMs"] {
        assert!(started.get(absent).is_none(), "{absent} is left out: {started}");
    }
    let id = started["id"].as_str().unwrap();
    let running = acme.sees_command(id, "running").await;
    assert_eq!(running["startedAt"], world.stamp("0s"));
    world.moves("2s");
    let ended = acme.sees_command(id, "exited").await;
    assert_eq!((ended["exitCode"].as_i64(), ended["stdout"].as_str()), (Some(0), Some("done\n")));
    assert_eq!(ended["durationMs"], 2000);
    world.close().await;
}

async fn the_old_routes_do_the_same_and_say_that_they_are_old(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let body = json!({ "command": "echo hi" });
    for (end, status) in [("/run", 200), ("/start", 202)] {
        let answer =
            acme.post(&format!("/v1/sandboxes/{sandbox}/commands{end}"), body.clone()).await;
        assert_eq!(answer.status, status, "{answer}");
        assert_eq!(answer.header("deprecation"), "@1783641600");
        assert_eq!(answer.header("sunset"), "Sat, 10 Jul 2027 23:59:59 GMT");
        let successor = format!("</v1/sandboxes/{sandbox}/commands>; rel=\"successor-version\"");
        assert_eq!(answer.header("link"), successor);
        let id = answer.json()["command"]["id"].as_str().unwrap().to_owned();
        assert_eq!(acme.sees_command(&id, "exited").await["stdout"], "hi\n");
    }
    let canonical = acme.post(&format!("/v1/sandboxes/{sandbox}/commands"), body).await;
    assert_eq!(canonical.header("deprecation"), "");
    world.close().await;
}

/// Acceptance 38.
async fn a_command_has_an_environment_and_a_directory(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "mkdir sub; touch file").await;
    for cwd in ["/workspace/sub", "sub", "sub/../sub/."] {
        let body =
            json!({ "command": "pwd; echo $A-$B", "cwd": cwd, "env": { "A": "1", "B": "x y" } });
        let run = acme.runs_with(&sandbox, body).await;
        assert_eq!(run["stdout"], "/workspace/sub\n1-x y\n");
        assert_eq!(run["cwd"], "/workspace/sub");
    }
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    for (more, status, code) in [
        (json!({ "cwd": "missing" }), 404, "file_not_found"),
        (json!({ "cwd": "file" }), 400, "path_not_directory"),
        (json!({ "cwd": "/etc" }), 400, "path_outside_workspace"),
        (json!({ "cwd": "../.." }), 400, "path_outside_workspace"),
        (json!({ "env": { "CROWNEST_SANDBOX_ID": "x" } }), 400, "reserved_env_key"),
        (json!({ "env": { "CROWNEST": "x" } }), 400, "reserved_env_key"),
    ] {
        let mut body = json!({ "command": "touch /workspace/never" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        acme.post(&path, body.clone()).await.refused(status, code);
        body["background"] = json!(true);
        acme.post(&path, body).await.refused(status, code);
    }
    assert_eq!(acme.runs(&sandbox, "test -e never").await["exitCode"], 1);
    // Nothing of one command's is there in the next one.
    acme.runs_with(&sandbox, json!({ "command": "cd sub; export X=1", "env": { "A": "1" } })).await;
    assert_eq!(acme.runs(&sandbox, "pwd; echo $X$A").await["stdout"], "/workspace\n\n");
    world.close().await;
}

/// Values of variables are often secrets: they are handed in, and nothing keeps them.
async fn an_environment_is_never_shown_again(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let secret = "s3cr3t-value";
    let body = json!({ "command": "true plain-word", "env": { "TOKEN": secret } });
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let run = acme.idempotent("k").post(&path, body).await;
    assert!(!run.text().contains(secret), "{run}");
    let id = run.is(200)["command"]["id"].as_str().unwrap().to_owned();
    assert!(!acme.get(&format!("/v1/commands/{id}")).await.text().contains(secret));
    for (text, wanted) in [
        (secret, vec![]),
        ("TOKEN", vec![]),
        // The search itself works:
        ("plain-word", vec!["commands.command_line", "idempotency_records.body"]),
    ] {
        let mut columns = holding(world.db(), text).await;
        columns.sort();
        assert_eq!(columns, wanted, "the columns that hold {text:?}");
    }
    world.close().await;
}

/// Acceptance 39: the process group is asked to end, and killed when it does not.
async fn a_command_is_killed_at_its_timeout(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    for (line, signal, ms) in [
        ("echo so far; sleep 30; echo never", "SIGTERM", 1000),
        ("trap '' TERM; echo so far; sleep 30; echo never", "SIGKILL", 6000),
    ] {
        let run = acme.post(&path, json!({ "command": line, "timeoutMs": 1000 }));
        let time = async {
            acme.sees_a_run(&sandbox).await;
            world.moves("10s");
        };
        let (run, ()) = tokio::join!(run, time);
        let run = run.is(200)["command"].take();
        assert_eq!(run["status"], "timed_out", "{run}");
        assert_eq!(run["terminationSignal"], signal);
        assert_eq!(run["durationMs"], ms, "{line}");
        assert_eq!(run["stdout"], "so far\n");
        assert!(run.get("exitCode").is_none());
    }
    world.close().await;
}

async fn only_a_run_has_a_timeout_by_default(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let background = acme.launches_and_sees(&sandbox, "sleep 1800; echo done").await;
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let run = acme.post(&path, json!({ "command": "sleep 100" }));
    let time = async {
        world.until_n_run(2).await;
        world.moves("90s");
    };
    let (run, ()) = tokio::join!(run, time);
    let run = run.is(200)["command"].take();
    assert_eq!((&run["status"], &run["durationMs"]), (&json!("timed_out"), &json!(60_000)));
    world.moves("30m");
    assert_eq!(acme.sees_command(&background, "exited").await["stdout"], "done\n");
    world.close().await;
}

/// Acceptance 44.
async fn a_running_command_can_be_canceled(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let cancel = |id: &str| format!("/v1/commands/{id}/cancel");
    for (body, mode, signal) in [
        (json!({}), "graceful", "SIGTERM"),
        (json!({ "mode": "graceful" }), "graceful", "SIGTERM"),
        (json!({ "mode": "force" }), "force", "SIGKILL"),
    ] {
        let id = acme.launches_and_sees(&sandbox, "echo begun; sleep infinity").await;
        acme.sees_printed(&id, "begun").await;
        world.moves("1s");
        let canceled = acme.post(&cancel(&id), body).await.is(200)["command"].take();
        assert_eq!(canceled["status"], "canceled");
        assert_eq!(canceled["cancelMode"], mode);
        assert_eq!(canceled["terminationSignal"], signal);
        assert_eq!(canceled["canceledAt"], world.stamp("0s"));
        assert_eq!(canceled["stdout"], "begun\n");
        assert!(canceled.get("exitCode").is_none());
        let events = acme.stream(&format!("/v1/commands/{id}/stream")).await.rest().await;
        assert_eq!(events.last().unwrap().data["command"]["status"], "canceled");
    }
    let id = acme.launches_and_sees(&sandbox, "sleep infinity").await;
    let body = json!({ "mode": "gentle" });
    let error = acme.post(&cancel(&id), body).await.refused(400, "invalid_request");
    assert_eq!(error["details"]["field"], "mode");

    // One that does not listen gets five seconds.
    let deaf = acme.launches_and_sees(&sandbox, "trap '' TERM; echo deaf; sleep infinity").await;
    acme.sees_printed(&deaf, "deaf").await;
    let asked_at = world.now();
    let (path, nothing) = (cancel(&deaf), json!({}));
    let canceling = acme.post(&path, nothing);
    let time = async {
        let over = async || {
            world.moves("1s");
            (acme.command(&deaf).await["status"] == "canceled").then_some(())
        };
        world.until("the end of the deaf", over).await;
    };
    let (canceled, ()) = tokio::join!(canceling, time);
    let canceled = canceled.is(200)["command"].take();
    assert_eq!(canceled["terminationSignal"], "SIGKILL");
    let finished = tests::at(canceled["finishedAt"].as_str().unwrap());
    assert!(finished - asked_at >= tests::span("5s"), "{canceled}");
    world.close().await;
}

async fn a_queued_command_can_be_canceled(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let hang = world.driver.hang_next(drivers::Verb::Ensure);
    let sandbox = acme.creates(json!({})).await;
    let id = acme.launches(&sandbox, "touch never").await;
    let canceled = acme.post(&format!("/v1/commands/{id}/cancel"), json!({})).await.is(200);
    assert_eq!(canceled["command"]["status"], "canceled");
    assert!(canceled["command"].get("startedAt").is_none());
    hang.release();
    assert_eq!(acme.runs(&sandbox, "test -e never").await["exitCode"], 1);
    assert_eq!(acme.command(&id).await, canceled["command"]);
    world.close().await;
}

async fn a_command_that_is_over_cannot_be_canceled(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let run = acme.runs(&sandbox, "exit 4").await;
    let path = format!("/v1/commands/{}/cancel", run["id"].as_str().unwrap());
    assert_eq!(acme.post(&path, json!({})).await.is(200)["command"], run);
    acme.kills(&sandbox).await;
    assert_eq!(acme.post(&path, json!({ "mode": "force" })).await.is(200)["command"], run);
    world.close().await;
}

/// Acceptance 49.
async fn a_run_ends_with_its_sandbox(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let run = acme.post(&path, json!({ "command": "echo begun; sleep infinity" }));
    let kill = async {
        let id = acme.sees_a_run(&sandbox).await;
        acme.sees_printed(&id, "begun").await;
        world.moves("5s");
        acme.kills(&sandbox).await
    };
    let (run, _) = tokio::join!(run, kill);
    let run = run.is(200)["command"].take();
    assert_eq!(run["status"], "killed");
    assert_eq!(run["killedReason"], "sandbox_destroyed");
    assert_eq!(run["finishedAt"], world.stamp("0s"));
    assert_eq!(run["stdout"], "begun\n");
    assert!(run.get("exitCode").is_none());
    assert_eq!(acme.command(run["id"].as_str().unwrap()).await, run, "it outlives its sandbox");
    world.close().await;
}

/// Whichever is first: a command is refused, or it is ended with its sandbox. None stays active.
async fn commands_that_come_with_a_kill_end_with_it(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    for _ in 0..4 {
        let sandbox = acme.starts(json!({})).await;
        let path = format!("/v1/sandboxes/{sandbox}/commands");
        let body =
            |n: usize| json!({ "command": "sleep infinity", "background": n.is_multiple_of(2) });
        let commands = join_all((0..12).map(|n| acme.post(&path, body(n))));
        let (commands, _) = tokio::join!(commands, acme.kills(&sandbox));
        for command in commands {
            match command.status {
                410 => drop(command.refused(410, "sandbox_destroyed")),
                200 => assert_eq!(command.json()["command"]["status"], "killed", "{command}"),
                _ => {
                    let id = command.is(202)["command"]["id"].take();
                    acme.sees_command(id.as_str().unwrap(), "killed").await;
                }
            }
        }
    }
    world.close().await;
}

async fn commands_run_beside_each_other(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let server = acme.launches_and_sees(&sandbox, "sleep infinity").await;
    let lines: Vec<_> = (0..16).map(|n| format!("echo {n}; echo {n} > f{n}")).collect();
    let runs = join_all(lines.iter().map(|line| acme.runs(&sandbox, line))).await;
    for (n, run) in runs.iter().enumerate() {
        assert_eq!(run["stdout"], format!("{n}\n"), "each gets its own output");
    }
    assert_eq!(acme.command(&server).await["status"], "running");
    let files = acme.get(&format!("/v1/sandboxes/{sandbox}/files")).await.is(200);
    assert_eq!(files["data"].as_array().unwrap().len(), 16);
    world.close().await;
}

/// Acceptance 43.
async fn collecting_is_for_runs(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let of = |end: &str| format!("/v1/sandboxes/{sandbox}/commands{end}");
    let collect = json!({ "command": "touch a", "collect": [{ "path": "a" }] });
    let mut background = collect.clone();
    background["background"] = json!(true);
    acme.post(&of(""), background).await.refused(400, "invalid_request");
    acme.post(&of("/start"), collect.clone()).await.refused(400, "invalid_request");
    let on = json!({ "command": "touch a", "collectOn": "always" });
    acme.post(&of("/start"), on).await.refused(400, "invalid_request");
    let without = acme.key("command:run").await;
    without.post(&of(""), collect).await.refused(403, "forbidden");
    assert_eq!(acme.runs(&sandbox, "test -e a").await["exitCode"], 1, "nothing ran");
    world.close().await;
}

async fn a_client_can_ask_for_the_right_to_read_beforehand(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let runner = acme.key("command:run").await;
    let path = format!("/v1/sandboxes/{sandbox}/commands");
    let body = json!({ "command": "touch a", "_crownestRequireCommandRead": true });
    runner.post(&path, body.clone()).await.refused(403, "forbidden");
    assert_eq!(acme.runs(&sandbox, "test -e a").await["exitCode"], 1, "nothing ran");
    acme.post(&path, body).await.is(200);
    runner.post(&path, json!({ "command": "true" })).await.is(200);
    world.close().await;
}
