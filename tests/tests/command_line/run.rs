//! `crownest run` against a server whose sandboxes and clock the story moves: every way in which it
//! can end, and that nothing is left behind.

use rustix::process::Signal;
use tests::{Database, Team, Value, World, json, team::text};

use crate::person::Person;

tests::stories![
    a_program_runs_as_if_it_ran_here,
    output_comes_before_the_end,
    a_signal_ends_the_sandbox_too,
    a_reader_that_goes_away_ends_the_sandbox_too,
    others_may_end_it,
    a_sandbox_may_go_on_living,
    programs_read_events,
];

/// Says that none of the team's sandboxes lives.
async fn nothing_is_left(team: &Team) {
    assert_eq!(team.lists().await, Vec::<String>::new());
}

async fn a_program_runs_as_if_it_ran_here(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let person = Person::with(&team);
    let said = person.says(&["run", "--", "echo", "it's", "$HOME", "a  b"]).await;
    assert_eq!((said.code, said.text().as_str()), (0, "it's $HOME a  b\n"), "{said:?}");
    assert_eq!(said.stderr, "");
    assert_eq!(person.says(&["run", "--", "exit", "7"]).await.code, 7);
    person.says(&["run", "--", "no-such-program"]).await.ends(127, "not found");
    let said = person.says(&["run", "--", "cat", "missing"]).await;
    assert_eq!((said.code, said.text().as_str()), (1, ""));
    assert!(said.stderr.starts_with("cat: missing: "), "{said:?}");

    // What is wrong with the request is no end of the program.
    world.expects_warning("a command could not be started");
    person.says(&["run", "--cwd", "nowhere", "--", "true"]).await.ends(125, "crownest: ");
    person.says(&["run", "--put", "/nowhere", "--", "true"]).await.ends(2, "is not a file");
    person
        .says(&["run", "--env", "CROWNEST_X=1", "--", "true"])
        .await
        .ends(125, "reserved_env_key");
    person.says(&["run"]).await.ends(2, "<PROGRAM>");
    nothing_is_left(&team).await;
    world.close().await;
}

/// The program waits for a clock that stands still until its first words were read.
async fn output_comes_before_the_end(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let sandbox = team.starts(json!({})).await;
    let id = team.launches(&sandbox, "echo first && sleep 10 && echo second").await;
    let mut logs = Person::with(&team).starts(&["command", "logs", &id]);
    assert_eq!(logs.line().await, "first");
    assert_eq!(team.command(&id).await["status"], "running");
    world.advance("10s").await;
    let said = logs.ends().await;
    assert_eq!((said.code, said.text().as_str()), (0, "second\n"), "{said:?}");
    world.close().await;
}

async fn a_signal_ends_the_sandbox_too(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let running = Person::with(&team).starts(&["run", "--", "sleep", "infinity"]);
        world.until_n_run(1).await;
        running.signal(signal);
        running.ends().await.ends(code, "crownest: interrupted");
        nothing_is_left(&team).await;
    }
    world.close().await;
}

async fn a_reader_that_goes_away_ends_the_sandbox_too(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let mut running = Person::with(&team).starts(&["run", "--", "yes"]);
    assert_eq!(running.line().await, "y");
    running.goes_unread();
    let said = running.ends().await;
    assert_eq!((said.code, said.stderr.as_str()), (141, ""));
    nothing_is_left(&team).await;

    // One that only stops to read does not keep a signal from being heard.
    let mut running = Person::with(&team).starts(&["run", "--", "yes"]);
    assert_eq!(running.line().await, "y");
    running.signal(Signal::TERM);
    assert_eq!(running.ends().await.code, 143);
    nothing_is_left(&team).await;
    world.close().await;
}

async fn others_may_end_it(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let person = Person::with(&team);

    let running = person.starts(&["run", "--timeout", "5s", "--", "sleep", "infinity"]);
    world.until_n_run(1).await;
    let [sandbox] = &team.lists().await[..] else { panic!("one sandbox was made") };
    // A program that could not end it leaves it to its own end.
    assert_eq!(team.sandbox(sandbox).await["ttlMs"], 305_000);
    world.advance("6s").await;
    running.ends().await.ends(124, "ended by its timeout");

    let running = person.starts(&["run", "--", "sleep", "infinity"]);
    world.until_n_run(1).await;
    let [sandbox] = &team.lists().await[..] else { panic!("one sandbox was made") };
    let command = team.sees_a_run(sandbox).await;
    team.post(&format!("/v1/commands/{command}/cancel"), json!({})).await.is(200);
    running.ends().await.ends(143, "canceled");

    let running = person.starts(&["run", "--", "sleep", "infinity"]);
    world.until_n_run(1).await;
    let [sandbox] = &team.lists().await[..] else { panic!("one sandbox was made") };
    team.kills(sandbox).await;
    running.ends().await.ends(137, "the sandbox ended");
    nothing_is_left(&team).await;
    world.close().await;
}

async fn a_sandbox_may_go_on_living(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let person = Person::with(&team);
    let said = person.says(&["run", "--keep", "--", "touch", "a"]).await;
    let [sandbox] = &team.lists().await[..] else { panic!("one sandbox was kept") };
    said.ends(0, &format!("crownest: sandbox {sandbox} is kept\n"));
    let said = person.says(&["run", "--sandbox", sandbox, "--", "test", "-e", "a"]).await;
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "it is the same sandbox");

    // The sandbox is not its own to end; the program is.
    let running = person.starts(&["run", "--sandbox", sandbox, "--", "sleep", "infinity"]);
    world.until_n_run(1).await;
    let command = team.sees_a_run(sandbox).await;
    running.signal(Signal::INT);
    running.ends().await.ends(130, "interrupted");
    assert_eq!(team.command(&command).await["status"], "canceled");
    assert_eq!(&team.lists().await, std::slice::from_ref(sandbox));
    let both = ["run", "--sandbox", sandbox, "--ttl", "5m", "--", "true"];
    person.says(&both).await.ends(2, "cannot be used with");
    world.close().await;
}

async fn programs_read_events(database: Database) {
    let world = World::on(database).await;
    let team = world.team("acme").await;
    let said = Person::with(&team).says(&["run", "--json", "--", "echo", "hi"]).await;
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let events: Vec<Value> =
        said.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let types: Vec<_> = events.iter().map(|event| text(&event["type"])).collect();
    assert_eq!(types, ["sandbox", "log", "terminal"]);
    assert_eq!((&events[1]["stream"], &events[1]["data"]), (&json!("stdout"), &json!("hi\n")));
    assert_eq!(events[2]["command"]["exitCode"], 0);
    world.close().await;
}
