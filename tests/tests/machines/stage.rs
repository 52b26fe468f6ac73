//! One server after the other on an installation with real machines: its tenant, its operator, and what it
//! leaves behind.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use drivers::{
    Driver as _,
    cloud_hypervisor::{CloudHypervisor, CloudHypervisorConfig},
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    Scrape, program,
    serving::{Client, Installation, Turns},
};

use crate::{host, wait::until};

/// Large enough for Node, and small enough for many on an emulated host.
const MEMORY_MIB: u32 = 512;
const DISK_MIB: u32 = 128;
/// So that a life of seconds is cut, too.
const WINDOW_SECONDS: u32 = 10;

/// Where a server finds images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Images {
    /// In those that `make test-microvm` has built, by the names of their templates.
    Built,
    /// In a folder of its own, with a kernel and nothing else yet.
    None,
}

/// How its machines begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// As without any setting: with what another one was, once that is there.
    Usual,
    Boot,
}

pub struct Stage {
    pub client: Client,
    /// The same server, as an operator may see it.
    pub admin: Client,
    pub org: String,
    pub servers: Turns,
    images: PathBuf,
    _folder: TempDir,
}

/// The folder of what machines are made from, as tests find it.
pub fn built() -> PathBuf {
    env::var_os("CROWNEST_MACHINE_IMAGES").expect("CROWNEST_MACHINE_IMAGES is set").into()
}

fn vmm() -> PathBuf {
    env::var_os("CROWNEST_CLOUD_HYPERVISOR").expect("CROWNEST_CLOUD_HYPERVISOR is set").into()
}

impl Stage {
    /// A first server and an organization.
    pub async fn set(images: Images, beginning: Beginning) -> Self {
        let folder = tempfile::Builder::new().prefix("crownest-").tempdir().unwrap();
        let images = match images {
            Images::Built => built(),
            Images::None => {
                let own = folder.path().join("images");
                fs::create_dir(&own).unwrap();
                for name in ["kernel", "initramfs"] {
                    symlink(built().join(name), own.join(name)).unwrap();
                }
                own
            }
        };
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let settings = vec![
            ("CROWNEST_DRIVER", "cloud_hypervisor".to_owned()),
            ("CROWNEST_CLOUD_HYPERVISOR", text(&vmm())),
            ("CROWNEST_MACHINE_IMAGES", text(&images)),
            ("CROWNEST_MACHINE_WARM_START", (beginning == Beginning::Usual).to_string()),
            // As many as an emulated host has room for.
            ("CROWNEST_MACHINE_SPARES", "1".to_owned()),
            ("CROWNEST_SANDBOX_MEMORY_MIB", MEMORY_MIB.to_string()),
            ("CROWNEST_SANDBOX_DISK_MIB", DISK_MIB.to_string()),
            ("CROWNEST_USAGE_WINDOW_SECONDS", WINDOW_SECONDS.to_string()),
            ("CROWNEST_METRICS_LISTEN", "127.0.0.1:0".to_owned()),
            ("CROWNEST_LOG_FORMAT", "json".to_owned()),
            // Stories ask again and again until something is so, and emulated hosts are slow.
            ("CROWNEST_LOG", "info,api::http::envelope=warn,sqlx=error".to_owned()),
        ];
        let installation = Installation::new(&program::folder(), folder.path(), settings);
        let made = installation.bootstrap("machines").await.unwrap();
        let operator = installation.tells(&["bootstrap", "--admin", "--json"]).await.unwrap();
        let operator: Value = serde_json::from_str(&operator).unwrap();
        let mut servers = Turns::of(installation);
        servers.start().await;
        Self {
            client: servers.client(made["apiKey"].as_str().unwrap()),
            admin: servers.client(operator["adminKey"].as_str().unwrap()),
            org: made["organizationId"].as_str().unwrap().to_owned(),
            servers,
            images,
            _folder: folder,
        }
    }

    /// Ends the last server in good order: the books are right, no sandbox is left, and it has warned of
    /// nothing but this.
    pub async fn close(mut self, used: i64, warnings: &[&str]) {
        let usage = self.client.get("/v1/usage").await;
        assert_eq!(usage["computeUnitSeconds"]["used"], used, "{usage}");
        self.servers.installation.tells(&["billing", "check"]).await.unwrap();
        let status = self.servers.stop().await;
        assert!(status.success(), "the server ended with {status}");
        for folder in ["sandboxes", "locks", "warm/sandboxes"] {
            let left = host::names(&self.servers.installation.state().join(folder));
            assert!(left.is_empty(), "{folder}: {left:?}");
        }
        let told = self.log(|line| {
            ["WARN", "ERROR"].contains(&line["level"].as_str()?).then(|| message(line))
        });
        let unexpected = told.iter().filter(|told| !warnings.contains(&told.as_str()));
        assert_eq!(unexpected.collect::<Vec<_>>(), Vec::<&String>::new());
    }

    /// A new sandbox's id, once it is up.
    pub async fn creates(&self, template: &str) -> String {
        let id = self.accepts(template).await;
        let ready = async || (self.sees(&id).await["status"] == "ready").then_some(());
        let (_, took) = until(&format!("{id} is ready"), ready).await;
        println!("a machine of {template} was ready after {took:.1?}");
        id
    }

    /// A new sandbox's id.
    pub async fn accepts(&self, template: &str) -> String {
        let body = json!({ "template": template });
        let made = self.client.insist(Method::POST, "/v1/sandboxes", None, Some(&body)).await;
        made.is(201)["sandbox"]["id"].as_str().unwrap().to_owned()
    }

    /// A sandbox as its tenant sees it.
    pub async fn sees(&self, sandbox: &str) -> Value {
        self.client.get(&format!("/v1/sandboxes/{sandbox}")).await["sandbox"].take()
    }

    /// A sandbox as the operator sees it.
    pub async fn knows(&self, sandbox: &str) -> Value {
        self.admin.get(&format!("/admin/v1/sandboxes/{sandbox}")).await["sandbox"].take()
    }

    /// What a command line that must succeed prints.
    pub async fn prints(&self, sandbox: &str, line: &str) -> String {
        let path = format!("/v1/sandboxes/{sandbox}/commands");
        let body = json!({ "command": line, "timeoutMs": 120_000 });
        let run = self.client.insist(Method::POST, &path, None, Some(&body)).await.is(200);
        assert_eq!(
            (&run["command"]["status"], &run["command"]["exitCode"]),
            (&json!("exited"), &json!(0)),
            "{run}"
        );
        run["command"]["stdout"].as_str().unwrap().to_owned()
    }

    /// The id of a command in the background.
    pub async fn begins(&self, sandbox: &str, line: &str) -> String {
        let path = format!("/v1/sandboxes/{sandbox}/commands");
        let body = json!({ "command": line, "background": true });
        let begun = self.client.insist(Method::POST, &path, None, Some(&body)).await.is(202);
        begun["command"]["id"].as_str().unwrap().to_owned()
    }

    pub async fn command(&self, id: &str) -> Value {
        self.client.get(&format!("/v1/commands/{id}")).await["command"].take()
    }

    /// Waits until a command has a status, and returns it.
    pub async fn command_is(&self, id: &str, status: &str) -> Value {
        let shown = async || {
            let seen = self.command(id).await;
            (seen["status"] == status).then_some(seen)
        };
        until(&format!("{id} is {status}"), shown).await.0
    }

    /// What a command has printed so far, and the numbers of the pieces.
    pub async fn log_of(&self, command: &str) -> (String, Vec<u64>) {
        let (mut text, mut numbers) = (String::new(), Vec::new());
        loop {
            let after = numbers.last().copied().unwrap_or(0);
            let path = format!("/v1/commands/{command}/logs?afterSeq={after}&limit=500");
            let page = self.client.get(&path).await;
            for piece in page["data"].as_array().unwrap() {
                text.push_str(piece["data"].as_str().unwrap());
                numbers.push(piece["seq"].as_u64().unwrap());
            }
            if page["hasMore"] == false {
                return (text, numbers);
            }
        }
    }

    pub async fn writes(&self, sandbox: &str, path: &str, content: &str) {
        let body = json!({ "path": path, "content": content });
        let to = format!("/v1/sandboxes/{sandbox}/files");
        self.client.insist(Method::PUT, &to, None, Some(&body)).await.is(200);
    }

    pub async fn reads(&self, sandbox: &str, path: &str) -> String {
        let read =
            self.client.get(&format!("/v1/sandboxes/{sandbox}/files/read?path={path}")).await;
        read["content"].as_str().unwrap().to_owned()
    }

    /// The names and sizes in the workspace.
    pub async fn lists(&self, sandbox: &str) -> Vec<(String, u64)> {
        let list = self.client.get(&format!("/v1/sandboxes/{sandbox}/files")).await;
        let entries = list["data"].as_array().unwrap().iter();
        let entry = |one: &Value| {
            (one["name"].as_str().unwrap().to_owned(), one["sizeBytes"].as_u64().unwrap())
        };
        entries.map(entry).collect()
    }

    /// Kills a sandbox and returns what the answer shows.
    pub async fn kills(&self, sandbox: &str) -> Value {
        let path = format!("/v1/sandboxes/{sandbox}");
        let killed = self.client.insist(Method::DELETE, &path, None, None).await;
        killed.is(200)["sandbox"].take()
    }

    /// How many machines this server started in each way: warm, copy, boot.
    pub async fn started(&self) -> [f64; 3] {
        let address = |line: &Value| {
            let serving = message(line) == "serving metrics";
            serving.then(|| line["fields"]["address"].as_str().unwrap().to_owned())
        };
        let served = async || self.log(address).pop();
        let (address, _) = until("metrics are served", served).await;
        let http = tests::client::http();
        let scrape = Scrape::read(&http, &format!("http://{address}/metrics")).await;
        let [spare, clone, copy, boot] = ["spare", "clone", "copy", "boot"]
            .map(|way| scrape.number(&format!("crownest_machine_starts_total{{way=\"{way}\"}}")));
        println!(
            "started: {spare} in VMMs that waited, {clone} clones, {copy} copies, {boot} boots"
        );
        // Whether a VMM waits in time is the host's matter.
        [spare + clone, copy, boot]
    }

    /// What is found in lines of the servers' log.
    fn log<T>(&self, find: impl Fn(&Value) -> Option<T>) -> Vec<T> {
        let text = fs::read_to_string(self.servers.installation.log()).unwrap_or_default();
        text.lines().filter_map(|line| find(&serde_json::from_str(line).ok()?)).collect()
    }
}

fn message(line: &Value) -> String {
    line["fields"]["message"].as_str().unwrap_or_default().to_owned()
}

/// A story that has failed says what its servers said, and leaves no machine running.
impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        println!("the end of the servers' log:\n{}", self.servers.last_words(80));
        // The server first, or it would look after what is removed.
        self.servers.kill_now();
        let config = CloudHypervisorConfig::new(self.servers.installation.state(), &self.images);
        let driver = CloudHypervisor::new(CloudHypervisorConfig { vmm: vmm(), ..config });
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                // Sweeps away what was about to be prepared.
                driver.check().await.ok();
                for observed in driver.list().await.unwrap_or_default() {
                    driver.remove(observed.id).await.ok();
                }
            });
        });
        // It has failed already.
        drop(removing.join());
    }
}
