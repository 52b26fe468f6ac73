//! Exported spans, of the program itself and as a collector gets them: a request's trace holds what was
//! done for it, at once and later; and nothing that is exported, logged or counted holds a secret.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value as Any,
    trace::v1::{Span, span::SpanKind},
};
use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::program;
use tokio::{
    process::{Child, Command},
    time::Instant,
};
use tonic::{Request, Response, Status, transport::Server, transport::server::TcpIncoming};

const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
/// What nobody but the sandbox may learn.
const ENV_VALUE: &str = "env-value-that-is-secret";
const IN_COMMAND: &str = "word-of-a-command";
const IN_FILE: &str = "words-in-a-file";

/// The other side of the wire: takes what a collector takes and forgets nothing.
#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let collector = Self::default();
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = incoming.local_addr().unwrap();
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        (collector, address)
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.iter().cloned()).collect()
    }

    fn everything(&self) -> String {
        format!("{:?}", self.0.lock().unwrap())
    }
}

/// A folder with a server's state, and what it is started with.
struct Stage {
    folder: PathBuf,
    settings: Vec<(&'static str, String)>,
}

impl Stage {
    fn new(name: &str, settings: Vec<(&'static str, String)>) -> Self {
        let folder = std::env::temp_dir().join(format!("crownest-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder, settings }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program::folder().join("crownest"));
        for name in program::settings_around() {
            command.env_remove(name);
        }
        command.env("CROWNEST_STATE_DIR", self.folder.join("state"));
        command.env("CROWNEST_DRIVER", "simulated");
        command.env("CROWNEST_LISTEN", "127.0.0.1:0");
        command.env("CROWNEST_LISTEN_FILE", self.listen_file());
        command.envs(self.settings.iter().map(|(name, value)| (*name, value)));
        command.args(arguments).kill_on_drop(true).stdin(Stdio::null());
        command
    }

    fn listen_file(&self) -> PathBuf {
        self.folder.join("listen")
    }

    /// A key of a new organization.
    async fn key(&self) -> String {
        let made = ["bootstrap", "--organization", "acme", "--scopes", "all", "--json"];
        let made = self.command(&made).output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        made["apiKey"].as_str().unwrap_or_else(|| panic!("no key in {made}")).to_owned()
    }

    async fn serve(&self) -> (Child, String) {
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let server = self.command(&["serve"]).stderr(log).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(self.listen_file()).unwrap_or_default();
            if text.parse::<SocketAddr>().is_ok() {
                return (server, format!("http://{text}"));
            }
            assert!(Instant::now() < deadline, "it does not come up: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What is left is in the folder for what is temporary.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Ends it as an operator does, and waits until it has.
async fn stop(mut server: Child) {
    let pid = i32::try_from(server.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let ended = tokio::time::timeout(PATIENCE, server.wait()).await.expect("it ends");
    assert!(ended.unwrap().success());
}

struct Api {
    http: Client,
    base: String,
    key: String,
}

impl Api {
    async fn send(&self, method: reqwest::Method, path: &str, body: Value, status: u16) -> Value {
        let request = self.http.request(method, format!("{}{path}", self.base));
        let request = request.bearer_auth(&self.key).json(&body);
        let traced = request.header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
        let answer = traced.send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        answer.json().await.unwrap()
    }

    async fn post(&self, path: &str, body: Value, status: u16) -> Value {
        self.send(reqwest::Method::POST, path, body, status).await
    }
}

fn attribute(span: &Span, name: &str) -> Option<Any> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    found.value.clone()?.value
}

fn text(span: &Span, name: &str) -> String {
    match attribute(span, name) {
        Some(Any::StringValue(text)) => text,
        other => panic!("{name} of {span:?} is {other:?}"),
    }
}

/// The names from a span up to the one that the client was in.
fn way_up<'s>(span: &'s Span, spans: &'s [Span]) -> Vec<&'s str> {
    let by_id: BTreeMap<_, _> = spans.iter().map(|span| (&span.span_id, span)).collect();
    let mut way = vec![span.name.as_str()];
    let mut at = span;
    while let Some(above) = by_id.get(&at.parent_span_id) {
        way.push(&above.name);
        at = above;
    }
    assert_eq!(hex(&at.parent_span_id), PARENT, "{way:?}");
    way
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_trace_holds_what_was_done_for_a_request() {
    let (collector, address) = Collector::start().await;
    let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stage = Stage::new(
        "spans",
        vec![
            ("CROWNEST_OTLP_ENDPOINT", format!("http://{address}")),
            ("CROWNEST_METRICS_LISTEN", metrics.to_string()),
            ("CROWNEST_LOG", "debug".to_owned()),
        ],
    );
    let key = stage.key().await;
    let (server, base) = stage.serve().await;
    let api = Api { http: tests::client::http(), base, key };
    let made = api.post("/v1/sandboxes", json!({}), 201).await;
    let sandbox = made["sandbox"]["id"].as_str().unwrap().to_owned();
    let file = json!({ "path": "a.txt", "content": IN_FILE });
    let files = format!("/v1/sandboxes/{sandbox}/files");
    api.send(reqwest::Method::PUT, &files, file, 200).await;
    let run = json!({ "command": format!("echo {IN_COMMAND}"), "env": { "TOKEN": ENV_VALUE } });
    api.post(&format!("/v1/sandboxes/{sandbox}/commands"), run, 200).await;
    let scrape = api.http.get(format!("http://{metrics}/metrics")).send().await.unwrap();
    let scrape = scrape.text().await.unwrap();
    stop(server).await;

    // Whatever the server had when it ended has come.
    let spans = collector.spans();
    let ours: Vec<Span> =
        spans.iter().filter(|span| hex(&span.trace_id) == TRACE).cloned().collect();
    let named = |name: &str| ours.iter().find(|span| span.name == name);
    let request = named("createSandbox").unwrap_or_else(|| panic!("{ours:#?}"));
    assert_eq!(hex(&request.parent_span_id), PARENT);
    assert_eq!(request.kind, i32::from(SpanKind::Server));
    assert_eq!(attribute(request, "http.response.status_code"), Some(Any::IntValue(201)));
    assert_eq!(text(request, "http.route"), "/v1/sandboxes");
    assert!(text(request, "org").starts_with("org_"));
    for operation in ["runCommand", "writeFile"] {
        assert!(named(operation).is_some(), "{operation}");
    }
    let insert = ours.iter().find(|s| s.name == "insert" && way_up(s, &ours).len() > 1);
    assert!(insert.is_some(), "the store's functions are below their requests: {ours:#?}");
    let boot = ours.iter().find(|s| s.name == "driver" && text(s, "verb") == "ensure").unwrap();
    assert_eq!(way_up(boot, &ours), ["driver", "boot", "createSandbox"], "another task, one trace");
    let command = named("command").expect("the command is followed in the trace of its request");
    assert_eq!(way_up(command, &ours), ["command", "runCommand"]);

    let trail = [collector.everything(), stage.log(), scrape];
    assert!(trail[0].len() > 1_000 && trail[1].len() > 1_000 && trail[2].len() > 1_000);
    for secret in [ENV_VALUE, IN_COMMAND, IN_FILE, &api.key, &api.key[19..]] {
        for text in &trail {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    events_point_at_spans(&stage.folder, &sandbox, &ours).await;
}

/// What consumers of events get leads them to the very span that wrote the event.
async fn events_point_at_spans(folder: &Path, sandbox: &str, ours: &[Span]) {
    let url = format!("sqlite://{}", folder.join("state/crownest.db").display());
    let db = store::Db::connect(&url, store::Options { max_connections: 1 }).await.unwrap();
    let events = tests::message::events(&db).await;
    let about = events.iter().filter(|event| event.subject == sandbox);
    let mut kinds = Vec::new();
    for event in about.filter(|event| !event.kind.starts_with("crownest.usage.")) {
        let trace = event.trace_parent.as_deref().unwrap_or_else(|| panic!("{event:?}"));
        let span =
            ours.iter().find(|span| trace == format!("00-{TRACE}-{}-01", hex(&span.span_id)));
        assert!(span.is_some(), "{} points nowhere: {trace}", event.kind);
        kinds.push(event.kind.as_str());
    }
    let wanted = [
        "crownest.sandbox.created.v1",
        "crownest.sandbox.ready.v1",
        "crownest.command.finished.v1",
    ];
    assert_eq!(kinds, wanted);
    db.close().await.unwrap();
}

/// Neither its start nor its requests nor its end wait for a collector that is not there; that spans are
/// lost is told.
#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{nowhere}");
    let stage = Stage::new("no-collector", vec![("CROWNEST_OTLP_ENDPOINT", endpoint)]);
    let key = stage.key().await;
    let (server, base) = stage.serve().await;
    let api = Api { http: tests::client::http(), base, key };
    api.post("/v1/sandboxes", json!({}), 201).await;
    stop(server).await;
    let log = stage.log();
    assert!(log.contains("BatchSpanProcessor.ExportError"), "the loss is told: {log}");
    assert!(!log.contains("panicked"), "{log}");
}
