//! What the code in a sandbox reaches under the policy that a sandbox has when nobody chose one.

use std::time::Duration;

use crate::{
    bill,
    host::Traces,
    network::internet::{HOST, Internet, METADATA, PRIVATE, SITE, is_inside},
    stage::{Beginning, Images, Stage},
    wait::until,
};

/// A port at which everybody out there serves.
const PORT: u16 = 8080;
/// How long a connection may take that must come about, and one that must not.
const LONG: Duration = Duration::from_secs(10);
const SHORTLY: Duration = Duration::from_secs(1);

/// Connects to each of its arguments, and prints what that answers, or a word for why it does not.
const ASK: &str = r#"
import socket, sys
for to in sys.argv[1:]:
    host, port = to.split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=20) as stream:
            print(to, stream.recv(64).decode(), flush=True)
    except OSError as error:
        print(to, type(error).__name__, error.errno, flush=True)
"#;

/// Answers everybody.
const SERVE: &str = r#"
import socket
listener = socket.create_server(("0.0.0.0", 8080))
print("serving", flush=True)
while True:
    stream, peer = listener.accept()
    stream.sendall(b"hello")
    stream.close()
"#;

/// What the guest's kernel says of a packet that the rules refused: there is no way there.
const REFUSED: &str = "OSError 113";

#[tokio::test]
async fn a_sandbox_reaches_the_internet_and_nothing_near() {
    let test = "egress::a_sandbox_reaches_the_internet_and_nothing_near";
    if !is_inside(test) {
        return;
    }
    let around = Internet::make();
    let stage = Stage::set(Images::Built, Beginning::Boot).await;
    let (one, other) = (stage.creates("python-node").await, stage.creates("python-node").await);
    let traces = [&one, &other].map(|id| Traces::of(&stage.servers.installation.state(), id));
    let [here, there] = [0, 1].map(|n| traces[n].address());
    for (sandbox, name, program) in
        [(&one, "ask.py", ASK), (&other, "ask.py", ASK), (&other, "serve.py", SERVE)]
    {
        stage.writes(sandbox, name, program).await;
    }
    let serving = stage.begins(&other, "exec python3 serve.py").await;
    let served = async || stage.log_of(&serving).await.0.contains("serving").then_some(());
    until("a sandbox serves", served).await;
    let asks = async |sandbox: &str, to: &str| {
        stage.prints(sandbox, &format!("python3 ask.py {to}")).await
    };

    let site = format!("{SITE}:{PORT}");
    assert_eq!(asks(&one, &site).await, format!("{site} {HOST}\n"), "as the host");
    // The end of its network that is the host's, and its gateway.
    let own_end = std::net::Ipv4Addr::from_bits(here.to_bits() ^ 1).to_string();
    let near = METADATA.into_iter().chain([PRIVATE, HOST, &own_end]);
    let near: Vec<_> = near.map(|address| format!("{address}:{PORT}")).collect();
    for to in &near {
        let told = around.outside.connect(to, LONG);
        assert!(told.is_ok(), "{to} is there, for the host: {told:?}");
    }
    let own = "127.0.0.1:8080";
    assert_eq!(asks(&other, own).await, format!("{own} hello\n"), "the other one serves");
    let mut never = near;
    never.extend([format!("{there}:{PORT}"), format!("100.96.0.1:{PORT}")]);
    let told = asks(&one, &never.join(" ")).await;
    let wanted: String = never.iter().map(|to| format!("{to} {REFUSED}\n")).collect();
    assert_eq!(told, wanted);
    let told = around.outside.connect(&format!("{there}:{PORT}"), SHORTLY);
    assert!(told.is_err(), "nor does the host get in: {told:?}");
    // All that time there was a way.
    assert_eq!(asks(&one, &site).await, format!("{site} {HOST}\n"));

    let mut used = 0;
    for (sandbox, traces) in [&one, &other].into_iter().zip(&traces) {
        stage.kills(sandbox).await;
        traces.vanish().await;
        used += bill::of(&stage, sandbox).await;
    }
    stage.close(used, &["driver limitation"]).await;
}
