//! What commands print: pages, the live stream byte for byte, and links to the whole.

use domain::limits::Plan;
use tests::{Database, Team, World, events::Event, json, stories, team::text};

stories![
    pages_of_a_log_add_up,
    a_log_can_be_read_while_the_command_runs,
    bad_positions_are_refused,
    a_stream_follows_a_command_to_its_end,
    a_stream_is_the_contract_s_byte_for_byte,
    a_stream_can_be_resumed,
    a_stream_survives_any_text,
    a_silent_stream_has_heartbeats,
    a_stream_ends_with_the_sandbox,
    two_readers_see_the_same,
    a_very_long_output_is_cut_at_the_front_and_at_the_back,
    a_link_opens_the_whole_log_for_a_while,
    a_link_opens_nothing_else,
    logs_are_kept_for_a_time,
    each_plan_keeps_logs_for_its_own_time,
];

const THIRTY: &str = "echo 1; echo 2; echo 3; echo 4; echo 5; echo 6; echo 7; echo 8; echo 9; \
    echo 10; echo 11; echo 12; echo 13; echo 14; echo 15; echo 16; echo 17; echo 18; echo 19; \
    echo 20; echo 21; echo 22; echo 23; echo 24; echo 25; echo 26; echo 27; echo 28; echo 29; echo 30";

/// Acceptance 45.
async fn pages_of_a_log_add_up(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let run = acme.runs(&sandbox, THIRTY).await;
    let id = run["id"].as_str().unwrap();
    let (mut after, mut seqs, mut printed) = (0, Vec::new(), String::new());
    loop {
        let path = format!("/v1/commands/{id}/logs?limit=7&afterSeq={after}");
        let page = acme.get(&path).await.is(200);
        for chunk in page["data"].as_array().unwrap() {
            assert_eq!((&chunk["commandId"], &chunk["stream"]), (&run["id"], &json!("stdout")));
            assert_eq!(chunk["createdAt"], world.stamp("0s"));
            seqs.push(chunk["seq"].as_u64().unwrap());
            printed += chunk["data"].as_str().unwrap();
        }
        after = page["nextSeq"].as_u64().unwrap();
        assert_eq!(seqs.last(), Some(&after), "nextSeq is the last one's");
        if page["hasMore"] == false {
            break;
        }
    }
    assert_eq!(seqs, (1..=30).collect::<Vec<_>>());
    assert_eq!(printed, text(&run["stdout"]));
    let beyond = acme.get(&format!("/v1/commands/{id}/logs?afterSeq={after}")).await.is(200);
    assert_eq!((&beyond["data"], &beyond["hasMore"]), (&json!([]), &json!(false)));
    assert_eq!(beyond["nextSeq"].as_u64(), Some(after), "an empty page repeats the position");
    world.close().await;
}

async fn a_log_can_be_read_while_the_command_runs(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let id = acme.launches_and_sees(&sandbox, "echo a; echo b >&2; sleep 1; echo c").await;
    assert_eq!(acme.sees_printed(&id, "b\n").await, "a\nb\n");
    world.moves("1s");
    acme.sees_command(&id, "exited").await;
    let logs = acme.get(&format!("/v1/commands/{id}/logs")).await.is(200);
    let streams: Vec<_> = logs["data"].as_array().unwrap().iter().map(|c| &c["stream"]).collect();
    assert_eq!(streams, ["stdout", "stderr", "stdout"], "one order for both streams");
    assert_eq!(logs["data"][2]["createdAt"], world.stamp("0s"));
    world.close().await;
}

async fn bad_positions_are_refused(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let run = acme.runs(&sandbox, "echo a").await;
    let id = run["id"].as_str().unwrap();
    for (query, field) in [
        ("logs?limit=0", "limit"),
        ("logs?limit=501", "limit"),
        ("logs?afterSeq=-1", "afterSeq"),
        ("logs?afterSeq=x", "afterSeq"),
        ("stream?afterSeq=-1", "afterSeq"),
        ("stream?afterSeq=1.5", "afterSeq"),
    ] {
        let error = acme.get(&format!("/v1/commands/{id}/{query}")).await;
        assert_eq!(error.refused(400, "invalid_request")["details"]["field"], field, "{query}");
    }
    // A limit on a stream is accepted and means nothing.
    let path = format!("/v1/commands/{id}/stream?limit=1");
    assert_eq!(acme.stream(&path).await.rest().await.len(), 2);
    world.close().await;
}

/// Acceptance 46.
async fn a_stream_follows_a_command_to_its_end(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let line = "echo 1; sleep 1; echo 2 >&2; sleep 1; echo 3; exit 5";
    let id = acme.launches_and_sees(&sandbox, line).await;
    let mut stream = acme.stream(&format!("/v1/commands/{id}/stream")).await;
    for seq in 1..=3 {
        let event = stream.next_of_note().await.unwrap();
        assert_eq!((event.kind(), event.seq()), ("log", seq));
        assert_eq!(event.data["data"], format!("{seq}\n"), "it comes before the next is printed");
        world.moves("1s");
    }
    let end = stream.next_of_note().await.unwrap();
    assert_eq!(end.kind(), "terminal");
    assert_eq!(end.data["command"], acme.command(&id).await);
    assert_eq!(end.data["command"]["exitCode"], 5);
    assert_eq!(stream.next().await, None, "nothing follows the end");
    world.close().await;
}

/// Contract 10.7. Of a command that is over, so that no heartbeat is among it.
async fn a_stream_is_the_contract_s_byte_for_byte(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let run = acme.runs(&sandbox, "echo ready; echo oh >&2").await;
    let id = run["id"].as_str().unwrap();
    let mut stream = acme.stream(&format!("/v1/commands/{id}/stream")).await;
    let wanted = "id: 1\nevent: log\ndata: {\"type\":\"log\",\"seq\":1,\"stream\":\"stdout\",\
        \"data\":\"ready\\n\",\"createdAt\":\"2031-03-10T12:00:00.000Z\"}\n\n";
    assert_eq!(stream.next().await.unwrap().frame, wanted);
    let wanted = "id: 2\nevent: log\ndata: {\"type\":\"log\",\"seq\":2,\"stream\":\"stderr\",\
        \"data\":\"oh\\n\",\"createdAt\":\"2031-03-10T12:00:00.000Z\"}\n\n";
    assert_eq!(stream.next().await.unwrap().frame, wanted);
    let end = stream.next().await.unwrap();
    assert!(end.frame.starts_with("event: terminal\ndata: {\"type\":\"terminal\","), "{end:?}");
    assert_eq!(end.frame.matches('\n').count(), 3);
    assert_eq!(end.data["createdAt"], world.stamp("0s"));
    assert_eq!(stream.next().await, None);
    world.close().await;
}

async fn events_after(team: &Team, command: &str, seq: u64) -> Vec<Event> {
    let path = format!("/v1/commands/{command}/stream?afterSeq={seq}");
    team.stream(&path).await.rest().await
}

/// Acceptance 47.
async fn a_stream_can_be_resumed(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let run = acme.runs(&sandbox, THIRTY).await;
    let id = run["id"].as_str().unwrap();
    for after in [0, 1, 29, 30, 31, 9000] {
        let events = events_after(&acme, id, after).await;
        let (end, logs) = events.split_last().unwrap();
        assert_eq!(end.kind(), "terminal");
        let seqs: Vec<_> = logs.iter().map(Event::seq).collect();
        assert_eq!(seqs, (after + 1..=30).collect::<Vec<_>>(), "after {after}");
    }
    world.close().await;
}

/// Acceptance 48.
async fn a_stream_survives_any_text(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    // U+2028, U+0085, an emoji, a byte that is no character, quotes, a NUL, carriage returns.
    let line = r#"printf 'a\342\200\250b\302\205c\360\237\230\200d\377e"\\f\000g\r\nh\n\n'"#;
    let run = acme.runs(&sandbox, line).await;
    let id = run["id"].as_str().unwrap();
    let events = events_after(&acme, id, 0).await;
    let streamed: String = events.iter().filter_map(|event| event.data["data"].as_str()).collect();
    let before_nul = "a\u{2028}b\u{85}c\u{1f600}d\u{fffd}e\"\\f";
    assert!(streamed.starts_with(before_nul), "{streamed:?}");
    assert!(streamed.ends_with("g\r\nh\n\n"), "{streamed:?}");
    assert_eq!(acme.printed(id).await, streamed);
    assert_eq!(run["stdout"], streamed);
    world.close().await;
}

async fn a_silent_stream_has_heartbeats(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let id = acme.launches_and_sees(&sandbox, "sleep 5; echo done").await;
    let mut stream = acme.stream(&format!("/v1/commands/{id}/stream")).await;
    for _ in 0..2 {
        let beat = stream.next().await.unwrap();
        let wanted = "event: heartbeat\ndata: {\"type\":\"heartbeat\",\
            \"createdAt\":\"2031-03-10T12:00:00.000Z\"}\n\n";
        assert_eq!(beat.frame, wanted);
    }
    world.moves("5s");
    let events = stream.rest().await;
    let kinds: Vec<_> = events.iter().map(Event::kind).collect();
    assert_eq!(kinds, ["log", "terminal"]);
    world.close().await;
}

async fn a_stream_ends_with_the_sandbox(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let id = acme.launches_and_sees(&sandbox, "echo a; sleep infinity").await;
    let mut stream = acme.stream(&format!("/v1/commands/{id}/stream")).await;
    assert_eq!(stream.next_of_note().await.unwrap().kind(), "log");
    acme.kills(&sandbox).await;
    let end = stream.next_of_note().await.unwrap();
    assert_eq!(end.kind(), "terminal");
    assert_eq!(end.data["command"]["status"], "killed");
    assert_eq!(stream.next().await, None);
    world.close().await;
}

async fn two_readers_see_the_same(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let id = acme.launches_and_sees(&sandbox, "echo 1; sleep 1; echo 2; sleep 1; echo 3").await;
    let path = format!("/v1/commands/{id}/stream");
    let (mut one, mut two) = (acme.stream(&path).await, acme.stream(&path).await);
    // The first one leaves early, which is normal, and ends nothing for the other.
    assert_eq!(one.next_of_note().await.unwrap().seq(), 1);
    drop(one);
    world.moves("1s");
    let mut three = acme.stream(&path).await;
    world.moves("1s");
    let (two, three) = tokio::join!(two.rest(), three.rest());
    assert_eq!(two.iter().map(Event::seq).collect::<Vec<_>>(), [1, 2, 3, 0]);
    assert_eq!(two, three);
    world.close().await;
}

/// 20 MiB: the record keeps the first MiB, the log the last 16.
async fn a_very_long_output_is_cut_at_the_front_and_at_the_back(database: Database) {
    const MIB: usize = 1 << 20;
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let line = format!("echo first; yes {}; echo last; echo err >&2", 10 * MIB);
    let run = acme.runs(&sandbox, &line).await;
    let stdout = run["stdout"].as_str().unwrap();
    assert_eq!((run["status"].as_str(), stdout.len()), (Some("exited"), MIB));
    assert!(stdout.starts_with("first\ny\ny\n"));
    assert_eq!(run["stdoutTruncated"], true);
    assert_eq!((&run["stderr"], run.get("stderrTruncated")), (&json!("err\n"), None));

    let id = run["id"].as_str().unwrap();
    let logs = format!("/v1/commands/{id}/logs");
    let page = acme.get(&logs).await.is(200);
    let first = page["data"][0]["seq"].as_u64().unwrap();
    assert!(first > 1, "the oldest gave way");
    // Reading from the start gives what there is; resuming at what gave way is told so.
    let resumed = acme.get(&format!("{logs}?afterSeq={}", first - 2)).await;
    resumed.refused(409, "stream_gap");
    let stream = acme.get(&format!("/v1/commands/{id}/stream?afterSeq=1")).await;
    stream.refused(409, "stream_gap");
    acme.get(&format!("{logs}?afterSeq={}", first - 1)).await.is(200);

    let link = acme.post_nothing(&format!("{logs}/download-url")).await.is(200);
    let text = world.nobody().get(link["url"].as_str().unwrap()).await.text();
    assert!(text.len() <= 16 * MIB && text.len() > 15 * MIB, "{}", text.len());
    assert!(text.ends_with("y\nlast\nerr\n"));
    world.close().await;
}

/// Acceptance 51.
async fn a_link_opens_the_whole_log_for_a_while(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let run = acme.runs(&sandbox, THIRTY).await;
    let id = run["id"].as_str().unwrap();
    let link = acme.post_nothing(&format!("/v1/commands/{id}/logs/download-url")).await.is(200);
    assert_eq!((&link["method"], &link["expiresAt"]), (&json!("GET"), &json!(world.stamp("15m"))));
    let url = link["url"].as_str().unwrap();
    assert!(url.starts_with(&acme.base()), "an absolute URL under which the server was reached");
    let nobody = world.nobody();
    let opened = nobody.get(url).await;
    assert!(opened.header("content-type").starts_with("text/plain"), "{opened}");
    assert_eq!(opened.text(), text(&run["stdout"]));
    acme.kills(&sandbox).await;
    world.advance("14m59s").await;
    assert_eq!(nobody.get(url).await.text(), text(&run["stdout"]), "it outlives the sandbox");
    world.advance("1s").await;
    nobody.get(url).await.refused(401, "unauthorized");
    world.close().await;
}

async fn a_link_opens_nothing_else(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let (one, two) = (acme.runs(&sandbox, "echo 1").await, acme.runs(&sandbox, "echo 2").await);
    let id = |run: &tests::Value| text(&run["id"]);
    let url = async |run: &tests::Value| {
        let path = format!("/v1/commands/{}/logs/download-url", id(run));
        text(&acme.post_nothing(&path).await.is(200)["url"])
    };
    let (of_one, of_two) = (url(&one).await, url(&two).await);
    let token = of_one.split_once("token=").unwrap().1.to_owned();
    let nobody = world.nobody();
    let elsewhere = of_two.split_once("token=").unwrap().0.to_owned() + "token=" + &token;
    let path = format!("/v1/commands/{}/logs/download", id(&one));
    // Each part of the token: its time, its organization, its key, its signature.
    let parts: Vec<_> = token.split('.').collect();
    let tampered = (0..parts.len()).map(|at| {
        let mut parts: Vec<String> = parts.iter().map(|&part| part.to_owned()).collect();
        // The first character: the last one of a signature has bits that say nothing.
        let other = if parts[at].starts_with('1') { "2" } else { "1" };
        parts[at].replace_range(..1, other);
        format!("{path}?token={}", parts.join("."))
    });
    for (url, why) in tampered.map(|url| (url, "tampered with")).chain([
        (elsewhere, "another command's"),
        (path.clone(), "no token"),
        (format!("{path}?token="), "an empty token"),
        (format!("{path}?token=x.y.z"), "junk"),
        (format!("{path}?token={}", "9".repeat(5000)), "long junk"),
    ]) {
        let answer = nobody.get(&url).await;
        assert_eq!(answer.status, 401, "{why}: {answer}");
    }
    // A token is no credential.
    let bearer = nobody.with("authorization", &format!("Bearer {token}"));
    bearer.get(&format!("/v1/commands/{}", id(&one))).await.refused(401, "invalid_api_key");
    assert_eq!(nobody.get(&of_one).await.text(), "1\n");
    world.close().await;
}

/// The record of a command and its kept output stay when its log is dropped.
async fn logs_are_kept_for_a_time(database: Database) {
    let world = World::on(database).with(|config| config.log_retention_days = Some(7)).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let run = acme.runs(&sandbox, "echo a; echo b").await;
    let id = run["id"].as_str().unwrap();
    world.advance("6d23h").await;
    world.keeps_house().await;
    assert_eq!(acme.printed(id).await, "a\nb\n");
    world.advance("1h1s").await;
    world.keeps_house().await;
    assert_eq!(acme.printed(id).await, "");
    assert_eq!(acme.command(id).await, run);
    let resumed = acme.get(&format!("/v1/commands/{id}/logs?afterSeq=1")).await;
    resumed.refused(409, "stream_gap");
    world.close().await;
}

/// Without a setting the plan says for how long: 7 days on the free one, 30 on builder.
async fn each_plan_keeps_logs_for_its_own_time(database: Database) {
    let world = World::on(database).await;
    let small = world.team_on("small", Plan::Free).await;
    let large = world.team_on("large", Plan::Builder).await;
    let mut ids = Vec::new();
    for team in [&small, &large] {
        let sandbox = team.starts(json!({})).await;
        ids.push(text(&team.runs(&sandbox, "echo a").await["id"]).to_owned());
    }
    let printed = async || {
        world.keeps_house().await;
        [small.printed(&ids[0]).await, large.printed(&ids[1]).await]
    };
    world.advance("6d23h").await;
    assert_eq!(printed().await, ["a\n", "a\n"]);
    world.advance("1h1s").await;
    assert_eq!(printed().await, ["", "a\n"]);
    world.advance("22d23h").await;
    assert_eq!(printed().await, ["", "a\n"]);
    world.advance("1h").await;
    assert_eq!(printed().await, ["", ""]);
    world.close().await;
}
