//! What is special about the simulated driver: its clock and its script of faults. What it has in
//! common with the other drivers is in the contract.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::DateTime;
use domain::{
    egress::EgressPolicy,
    id::{SandboxId, TemplateVersionId},
};
use drivers::{
    BoxedStream, Driver, ErrorKind, Limits, Spec, Template, Verb,
    simulated::{Simulated, SimulatedClock},
};
use hyper_util::rt::TokioIo;
use protocol::{
    CancelMode, CancelRequest, Cause, Exit, HelloRequest, StartRequest, WatchRequest,
    guest_client::GuestClient, watch_event::Event,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::{Channel, Endpoint};

fn spec() -> Spec {
    let version_id = TemplateVersionId::generate(DateTime::UNIX_EPOCH);
    Spec {
        template: Template { slug: "base".to_owned(), version_id },
        env: BTreeMap::new(),
        limits: Limits { cpu_milli: 1000, memory_mib: 256, disk_mib: 1, n_pids: 64 },
        egress: EgressPolicy::allow_all(),
    }
}

fn new_id() -> SandboxId {
    SandboxId::generate(DateTime::UNIX_EPOCH)
}

async fn client(stream: BoxedStream) -> GuestClient<Channel> {
    let stream = Arc::new(tokio::sync::Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_| {
        let stream = Arc::clone(&stream);
        async move { stream.lock().await.take().map(TokioIo::new).ok_or("used already") }
    });
    let endpoint = Endpoint::from_static("http://guest");
    GuestClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

struct Sandbox {
    driver: Simulated,
    id: SandboxId,
    guest: GuestClient<Channel>,
}

impl Sandbox {
    async fn new() -> Self {
        let driver = Simulated::new();
        let id = new_id();
        driver.ensure(id, &spec()).await.unwrap();
        let guest = client(driver.connect(id).await.unwrap()).await;
        Self { driver, id, guest }
    }

    fn clock(&self) -> &SimulatedClock {
        self.driver.clock()
    }

    async fn start(&mut self, id: &str, line: &str, timeout_ms: u64, grace_ms: u64) {
        let request = StartRequest {
            command_id: id.to_owned(),
            command_line: line.to_owned(),
            timeout_ms,
            grace_ms,
            ..StartRequest::default()
        };
        self.guest.start(request).await.unwrap();
    }

    /// Follows a command to its end: what it printed, each piece with its second, and its exit.
    async fn end_of(&mut self, id: &str) -> (Vec<(i64, String)>, Exit) {
        let request = WatchRequest { command_id: id.to_owned(), after_seq: 0 };
        let mut events = self.guest.watch(request).await.unwrap().into_inner();
        let mut output = Vec::new();
        loop {
            match events.message().await.unwrap().unwrap().event.unwrap() {
                Event::Output(piece) => {
                    output.push((piece.at_unix_micros / 1_000_000, piece.data));
                }
                Event::Exit(exit) => return (output, exit),
            }
        }
    }
}

#[tokio::test]
async fn commands_live_by_the_clock_however_it_jumps() {
    let mut sandbox = Sandbox::new().await;
    sandbox.start("a", "echo one; sleep 1.5; echo two; sleep 10; exit 3", 0, 0).await;
    sandbox.clock().advance(Duration::from_secs(3600));
    let (output, exit) = sandbox.end_of("a").await;
    assert_eq!(output, [(0, "one\n".to_owned()), (1, "two\n".to_owned())]);
    assert_eq!((exit.cause(), exit.exit_code), (Cause::Exited, 3));
    assert_eq!(exit.finished_at_unix_micros, 11_500_000);
}

#[tokio::test]
async fn a_timeout_and_its_grace_run_on_the_clock() {
    for (line, finished_at, signal, printed) in [
        ("sleep 1; echo in time; sleep 9", 5, "SIGTERM", 1),
        ("trap '' TERM; sleep 9; echo ignored; sleep 9", 12, "SIGKILL", 1),
        ("trap '' TERM; sleep 6", 6, "SIGTERM", 0),
        ("yes", 5, "SIGTERM", 256),
    ] {
        let mut sandbox = Sandbox::new().await;
        sandbox.start("a", line, 5_000, 7_000).await;
        sandbox.clock().advance(Duration::from_secs(60));
        let (output, exit) = sandbox.end_of("a").await;
        assert_eq!(exit.cause(), Cause::TimedOut, "{line}");
        assert_eq!(exit.finished_at_unix_micros, finished_at * 1_000_000, "{line}");
        assert_eq!(exit.signal, signal, "{line}");
        assert_eq!(output.len(), printed, "{line}");
    }
}

#[tokio::test]
async fn a_command_that_ended_before_the_cancel_came_has_exited() {
    let mut sandbox = Sandbox::new().await;
    sandbox.start("a", "sleep 1", 0, 0).await;
    sandbox.clock().advance(Duration::from_secs(2));
    let mode = CancelMode::Graceful.into();
    let cancel = CancelRequest { command_id: "a".to_owned(), mode, grace_ms: 0 };
    sandbox.guest.cancel(cancel).await.unwrap();
    assert_eq!(sandbox.end_of("a").await.1.cause(), Cause::Exited);
}

#[tokio::test]
async fn the_script_of_faults_is_followed_once_each() {
    let driver = Simulated::new();
    let id = new_id();
    driver.fail_next(Verb::Ensure, ErrorKind::NoCapacity);
    let error = driver.ensure(id, &spec()).await.unwrap_err();
    assert_eq!((error.kind, error.verb), (ErrorKind::NoCapacity, Verb::Ensure));
    assert_eq!(driver.running(), []);

    let before = driver.hang_next(Verb::Ensure);
    let spec = spec();
    {
        let ensure = driver.ensure(id, &spec);
        tokio::pin!(ensure);
        assert!(futures_util::poll!(&mut ensure).is_pending());
        assert_eq!(driver.running(), [], "it hangs before its effect");
        before.release();
        ensure.await.unwrap();
    }
    let _after = driver.hang_next_after(Verb::Remove);
    {
        let remove = driver.remove(id);
        tokio::pin!(remove);
        assert!(futures_util::poll!(&mut remove).is_pending());
        assert_eq!(driver.running(), [], "it hangs after its effect");
    }
    driver.remove(id).await.unwrap();
    assert_eq!(driver.n_calls(Verb::Ensure), 2);
    assert_eq!(driver.n_calls(Verb::Remove), 2);
    assert_eq!(driver.calls()[0].id, Some(id));
}

#[tokio::test]
async fn a_crash_takes_everything_with_it() {
    let mut sandbox = Sandbox::new().await;
    sandbox.start("a", "touch /workspace/x; sleep 1", 0, 0).await;
    let watch = WatchRequest { command_id: "a".to_owned(), after_seq: 0 };
    let mut events = sandbox.guest.watch(watch).await.unwrap().into_inner();

    assert!(sandbox.driver.crash(sandbox.id));
    assert!(!sandbox.driver.crash(sandbox.id), "it is gone already");
    assert!(events.message().await.is_err(), "the watcher's connection breaks without an exit");
    assert_eq!(sandbox.driver.observe(sandbox.id).await.unwrap(), None);
    let error = sandbox.driver.connect(sandbox.id).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Gone);
}

#[tokio::test]
async fn dropped_connections_leave_the_sandbox_running() {
    let mut sandbox = Sandbox::new().await;
    sandbox.start("a", "sleep 1; echo still here", 0, 0).await;
    sandbox.driver.drop_connections(sandbox.id);
    assert!(sandbox.guest.hello(HelloRequest {}).await.is_err());
    sandbox.guest = client(sandbox.driver.connect(sandbox.id).await.unwrap()).await;
    sandbox.clock().advance(Duration::from_secs(1));
    assert_eq!(sandbox.end_of("a").await.0, [(1, "still here\n".to_owned())]);
}

#[tokio::test]
async fn a_test_can_serve_a_port_inside() {
    use protocol::{ConnectChunk, connect_chunk::Part};
    let mut sandbox = Sandbox::new().await;
    let mut listener = sandbox.driver.listen(sandbox.id, 8000).unwrap();
    let served = tokio::spawn(async move {
        let mut socket = listener.accept().await.unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        socket.write_all(text.to_uppercase().as_bytes()).await.unwrap();
    });
    let parts =
        [Part::Port(8000), Part::Data(b"hello".to_vec().into()), Part::Data(Vec::new().into())];
    let chunks = parts.map(|part| ConnectChunk { part: Some(part) });
    let dialed = sandbox.guest.dial(futures_util::stream::iter(chunks)).await.unwrap();
    let mut chunks = dialed.into_inner();
    let mut answer = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        let Some(Part::Data(data)) = chunk.part else { panic!("only data comes back") };
        answer.extend(data);
    }
    assert_eq!(answer, b"HELLO");
    served.await.unwrap();

    let refused = futures_util::stream::iter([ConnectChunk { part: Some(Part::Port(8001)) }]);
    let status = sandbox.guest.dial(refused).await.unwrap_err();
    assert_eq!(protocol::Reason::of(&status), Some(protocol::Reason::ConnectionRefused));
}
