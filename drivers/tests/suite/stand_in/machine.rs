//! The machine of the stand-in: its states, its vsock, and its way to whoever plays the processor.

use std::{env, fs, io, path::PathBuf, process, sync::Arc};

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{UnixListener, UnixStream},
    sync::Mutex,
};

use crate::VERSION;

/// Names another socket than the one that a VMM finds as its device.
const KVM: &str = "CROWNEST_STAND_IN_KVM";
const READY_PORT: u32 = 1025;

/// Why a call was not done.
#[derive(Debug)]
pub struct Refusal(pub StatusCode, pub String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Created,
    Running,
    Paused,
    Shutdown,
}

#[derive(Debug)]
struct Vm {
    config: Value,
    state: State,
}

/// The one machine of this process, if it has one.
#[derive(Debug)]
pub struct Machine {
    vm: Mutex<Option<Vm>>,
}

impl Machine {
    pub fn new() -> Self {
        Self { vm: Mutex::new(None) }
    }

    /// Does one call of the API.
    pub async fn call(self: &Arc<Self>, name: &str, told: Value) -> Result<Option<Value>, Refusal> {
        if fault("hang", name) {
            std::future::pending::<()>().await;
        }
        if fault("refuse", name) {
            return Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, "it was told to".to_owned()));
        }
        match name {
            "vmm.ping" => Ok(Some(json!({ "version": version(), "pid": process::id() }))),
            "vmm.shutdown" => process::exit(0),
            "vm.create" | "vm.restore" => self.make(name, told).await.map(|()| None),
            "vm.info" => {
                let vm = self.vm.lock().await;
                let Vm { config, state } = vm.as_ref().ok_or_else(no_vm)?;
                Ok(Some(json!({ "config": config, "state": format!("{state:?}") })))
            }
            "vm.counters" => {
                self.vm.lock().await.as_ref().ok_or_else(no_vm)?;
                Ok(Some(json!({ "_disk0": { "read_bytes": 4096 } })))
            }
            "vm.delete" => self.vm.lock().await.take().map(|_| None).ok_or_else(no_vm),
            _ => self.step(name, &told).await.map(|()| None),
        }
    }

    async fn make(&self, name: &str, told: Value) -> Result<(), Refusal> {
        let mut vm = self.vm.lock().await;
        if vm.is_some() {
            return Err(Refusal(StatusCode::NOT_FOUND, "there is a machine already".to_owned()));
        }
        let (config, state) = if name == "vm.create" {
            (told, State::Created)
        } else {
            let url = told["source_url"].as_str().unwrap_or_default();
            let path = PathBuf::from(url.trim_start_matches("file://")).join("config.json");
            let text = fs::read_to_string(path).map_err(|error| trouble(&error))?;
            let config = serde_json::from_str(&text).map_err(|error| trouble(&error.into()))?;
            (config, State::Paused)
        };
        *vm = Some(Vm { config, state });
        Ok(())
    }

    async fn step(self: &Arc<Self>, name: &str, told: &Value) -> Result<(), Refusal> {
        use State::{Created, Paused, Running, Shutdown};
        let mut vm = self.vm.lock().await;
        let Vm { config, state } = vm.as_mut().ok_or_else(no_vm)?;
        match (name, *state) {
            ("vm.boot", Created | Shutdown) => {
                self.boot(config).await.map_err(|error| trouble(&error))?;
                *state = Running;
            }
            ("vm.pause", Running) => *state = Paused,
            ("vm.resume", Paused) => *state = Running,
            ("vm.shutdown", Running | Paused) => *state = Shutdown,
            ("vm.resize" | "vm.power-button", Running) => {}
            ("vm.snapshot", Paused) => {
                let url = told["destination_url"].as_str().unwrap_or_default();
                let path = PathBuf::from(url.trim_start_matches("file://")).join("config.json");
                fs::write(path, config.to_string()).map_err(|error| trouble(&error))?;
            }
            _ => {
                let text = format!("{name} is not for a machine that is {state:?}");
                return Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, text));
            }
        }
        Ok(())
    }

    /// Has the machine run, and this process end when it ends.
    async fn boot(self: &Arc<Self>, config: &Value) -> io::Result<()> {
        let text = |value: &Value| value.as_str().map(PathBuf::from).unwrap_or_default();
        for path in [&config["payload"]["kernel"], &config["payload"]["initramfs"]] {
            fs::read(text(path))?;
        }
        let disks = config["disks"].as_array().cloned().unwrap_or_default();
        fs::read(text(&disks[0]["path"]))?;
        if config["net"].as_array().is_some_and(|cards| !cards.is_empty()) {
            fs::File::options().read(true).write(true).open("/dev/net/tun")?;
        }
        let disk = fs::File::options().read(true).write(true).open(text(&disks[1]["path"]))?;
        let order = json!({ "run": { "workspace_bytes": disk.metadata()?.len() } });
        let mut kvm = BufReader::new(ask(&order).await?);
        let number = line(&mut kvm).await?;
        let vsock = text(&config["vsock"]["socket"]);
        let listener = UnixListener::bind(&vsock)?;
        let never_ready = fault("never", "ready");
        tokio::spawn(async move {
            loop {
                let event = line(&mut kvm).await.unwrap_or_default();
                // The machine is off when nothing more comes, or when nobody waits for it.
                let knock = || UnixStream::connect(format!("{}_{READY_PORT}", vsock.display()));
                if event != "ready" || (!never_ready && knock().await.is_err()) {
                    process::exit(0);
                }
            }
        });
        let machine = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { process::exit(1) };
                let (machine, number) = (Arc::clone(&machine), number.clone());
                // A stream that ends early is no trouble.
                tokio::spawn(async move { machine.carry(stream, &number).await });
            }
        });
        Ok(())
    }

    /// Carries one stream to a port of the machine.
    async fn carry(&self, mut stream: UnixStream, number: &str) -> io::Result<()> {
        let mut asked = BufReader::new(&mut stream);
        let port = line(&mut asked).await?;
        let port = port.strip_prefix("CONNECT ").and_then(|port| port.parse::<u32>().ok());
        let port = port.ok_or(io::ErrorKind::InvalidInput)?;
        let runs = self.vm.lock().await.as_ref().is_some_and(|vm| vm.state == State::Running);
        if !runs {
            return Ok(());
        }
        let mut far = ask(&json!({ "dial": { "machine": number, "port": port } })).await?;
        // One byte says that somebody listens there.
        let mut said = [0];
        tokio::io::AsyncReadExt::read_exact(&mut far, &mut said).await?;
        stream.write_all(b"OK 1073741824\n").await?;
        copy_bidirectional(&mut stream, &mut far).await.map(drop)
    }
}

async fn ask(order: &Value) -> io::Result<UnixStream> {
    let path = env::var(KVM).unwrap_or_else(|_| "/dev/kvm".to_owned());
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(format!("{order}\n").as_bytes()).await?;
    Ok(stream)
}

async fn line(stream: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(line.trim_end().to_owned())
}

/// The faults that the test wants: each a word and a name.
fn faults() -> Vec<(String, String)> {
    let text = fs::read_to_string("/vm/initramfs").unwrap_or_default();
    let words = text.lines().filter_map(|line| line.split_once(' '));
    words.map(|(what, name)| (what.to_owned(), name.to_owned())).collect()
}

fn fault(what: &str, name: &str) -> bool {
    faults().iter().any(|(its, of)| its == what && of == name)
}

fn version() -> String {
    let told = faults().into_iter().find(|(what, _)| what == "version");
    told.map_or_else(|| VERSION.to_owned(), |(_, version)| version)
}

fn no_vm() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "there is no machine".to_owned())
}

fn trouble(error: &io::Error) -> Refusal {
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
