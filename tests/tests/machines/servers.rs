//! A server that is killed while its machines run.

use crate::{
    bill,
    host::{self, Traces},
    stage::{Beginning, Images, Stage},
    wait::until,
};

/// Counts until it is told to stop; the number is nowhere but in the memory of the process.
const COUNTING: &str = "n=0; until [ -e stop ]; do n=$((n+1)); echo $n; sleep 0.1; done; echo over";

/// The next server finds the machine as it was, and everything that its command has printed meanwhile. What
/// the dead one was about to prepare goes away.
#[tokio::test]
async fn a_machine_outlives_its_server() {
    let mut stage = Stage::set(Images::Built, Beginning::Usual).await;
    let sandbox = stage.creates("base").await;
    let traces = Traces::of(&stage.servers.installation.state(), &sandbox);
    let command = stage.begins(&sandbox, COUNTING).await;
    let mut counted = counts_past(&stage, &command, 5).await;
    let preparing = stage.servers.installation.state().join("warm/sandboxes");
    // The first one as a rule while it prepares a machine for others, the next when books have begun.
    for server in ["first", "next"] {
        stage.servers.kill().await;
        let n_left = host::names(&preparing).len();
        println!("the {server} server is killed; it was preparing {n_left} machines");
        traces.go_on();
        stage.servers.start().await;
        assert_eq!(stage.sees(&sandbox).await["status"], "running");
        traces.go_on();
        assert_eq!(stage.started().await, [0.0; 3], "this server has started nothing");
        assert!(host::names(&preparing).is_empty(), "what it was preparing is gone");
        counted = counts_past(&stage, &command, counted + 20).await;
        // For the next server to go on with.
        let booked = async || bill::windows(&stage, &sandbox).await.pop();
        until("a window of a machine that runs is booked", booked).await;
    }
    stage.writes(&sandbox, "stop", "").await;
    let exited = stage.command_is(&command, "exited").await;
    let (printed, numbers) = stage.log_of(&command).await;
    let lines: Vec<_> = printed.lines().collect();
    let (over, numbered) = lines.split_last().unwrap();
    assert_eq!((exited["exitCode"].as_i64(), *over), (Some(0), "over"));
    let whole: Vec<_> = (1..=numbered.len()).map(|n| n.to_string()).collect();
    assert_eq!(numbered, whole, "nothing is missing and nothing came twice");
    assert!(numbered.len() >= counted, "{} after {counted}", numbered.len());
    assert_eq!(exited["stdout"], printed, "as its record has it");
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");

    stage.kills(&sandbox).await;
    traces.vanish().await;
    let used = bill::of(&stage, &sandbox).await;
    stage.close(used, &["driver limitation"]).await;
}

/// Waits until a command has counted past a number, and returns where it is.
async fn counts_past(stage: &Stage, command: &str, number: usize) -> usize {
    let counted = async || {
        let n_lines = stage.log_of(command).await.0.lines().count();
        (n_lines > number).then_some(n_lines)
    };
    until(&format!("{command} counts past {number}"), counted).await.0
}
