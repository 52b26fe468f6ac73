//! The machine of the stand-in: its states, its vsock, and its way to whoever plays the processor.

use std::{
    env, fs, io,
    path::PathBuf,
    process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{UnixListener, UnixStream},
    sync::Mutex,
    time::sleep,
};

use crate::VERSION;

/// Longer than a client waits for what only looks.
const SLOW: Duration = Duration::from_secs(6);
/// How soon it goes on that was stuck.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

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

/// Whether a machine is still to knock. One that has done so does not again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knock {
    Comes,
    Heard,
}

/// How many connections a machine loses that is told to.
const N_LOST: u32 = 2;

/// What stands for the state of a machine.
const STATE: &str = "a machine of the stand-in";
/// The files of a machine that is written down.
const CONFIG_FILE: &str = "config.json";
const STATE_FILE: &str = "state.json";
const MEMORY_FILE: &str = "memory-ranges";
/// What is written to memory that stays when the machine ends.
const TOUCHED: &[u8] = b"booted";

#[derive(Debug)]
struct Vm {
    config: Value,
    state: State,
    /// Which one it is to whoever plays the processor: none before it has run, and of what is to begin
    /// many times.
    number: Option<String>,
    /// Whether this process is told of its end.
    attached: bool,
}

/// The one machine of this process, if it has one.
#[derive(Debug)]
pub struct Machine {
    vm: Mutex<Option<Vm>>,
    /// How many connections it has lost.
    n_lost: AtomicU32,
}

impl Machine {
    pub fn new() -> Self {
        Self { vm: Mutex::new(None), n_lost: AtomicU32::new(0) }
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
                let Vm { config, state, .. } = vm.as_ref().ok_or_else(no_vm)?;
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

    async fn make(self: &Arc<Self>, name: &str, told: Value) -> Result<(), Refusal> {
        let mut vm = self.vm.lock().await;
        if vm.is_some() {
            return Err(Refusal(StatusCode::NOT_FOUND, "there is a machine already".to_owned()));
        }
        let made = if name == "vm.create" {
            Vm { config: told, state: State::Created, number: None, attached: false }
        } else {
            let url = told["source_url"].as_str().unwrap_or_default();
            let mut made = read(url).map_err(|error| trouble(&error))?;
            map_memory(&made.config).map_err(|error| trouble(&error))?;
            if told["resume"].as_bool().unwrap_or_default() {
                self.go_on(&mut made).await.map_err(|error| trouble(&error))?;
            }
            made
        };
        *vm = Some(made);
        Ok(())
    }

    async fn step(self: &Arc<Self>, name: &str, told: &Value) -> Result<(), Refusal> {
        use State::{Created, Paused, Running, Shutdown};
        let mut vm = self.vm.lock().await;
        let vm = vm.as_mut().ok_or_else(no_vm)?;
        match (name, vm.state) {
            ("vm.boot", Created | Shutdown) => {
                map_memory(&vm.config).map_err(|error| trouble(&error))?;
                let running = self.run(&vm.config, Knock::Comes).await;
                vm.number = Some(running.map_err(|error| trouble(&error))?);
                (vm.state, vm.attached) = (Running, true);
            }
            ("vm.pause", Running) => vm.state = Paused,
            ("vm.resume", Paused) => self.go_on(vm).await.map_err(|error| trouble(&error))?,
            ("vm.shutdown", Running | Paused) => vm.state = Shutdown,
            ("vm.resize" | "vm.power-button", Running) => {}
            ("vm.snapshot", Paused) => {
                let url = told["destination_url"].as_str().unwrap_or_default();
                write(vm, url).await.map_err(|error| trouble(&error))?;
            }
            _ => {
                let text = format!("{name} is not for a machine that is {:?}", vm.state);
                return Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, text));
            }
        }
        Ok(())
    }

    /// Has a paused machine go on. One that this process only read goes on where it was, or is a new one
    /// that begins with what another was.
    async fn go_on(self: &Arc<Self>, vm: &mut Vm) -> io::Result<()> {
        if !vm.attached {
            vm.number = Some(match &vm.number {
                Some(number) => {
                    let order = json!({ "adopt": { "machine": number } });
                    self.attach(&vm.config, &order, Knock::Comes).await?
                }
                None => self.run(&vm.config, Knock::Heard).await?,
            });
        }
        (vm.state, vm.attached) = (State::Running, true);
        Ok(())
    }

    /// Has the machine run, and returns its number.
    async fn run(self: &Arc<Self>, config: &Value, knock: Knock) -> io::Result<String> {
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
        self.attach(config, &order, knock).await
    }

    /// Opens the machine's vsock, and has this process end when the machine ends.
    async fn attach(
        self: &Arc<Self>,
        config: &Value,
        order: &Value,
        knock: Knock,
    ) -> io::Result<String> {
        let text = |value: &Value| value.as_str().map(PathBuf::from).unwrap_or_default();
        let mut kvm = BufReader::new(ask(order).await?);
        let number = line(&mut kvm).await?;
        let vsock = text(&config["vsock"]["socket"]);
        let listener = UnixListener::bind(&vsock)?;
        let never_ready = fault("never", "ready");
        // What was written down had knocked before, so its ports were open.
        if knock == Knock::Heard && line(&mut kvm).await? != "ready" {
            return Err(io::Error::other("the machine ended"));
        }
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
        let (machine, its) = (Arc::clone(self), number.clone());
        tokio::spawn(async move {
            // As a host does that has too much to do, of one that it was to wake.
            let mut ignored = Vec::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { process::exit(1) };
                if knock == Knock::Heard && fault("ignore", "connections") {
                    ignored.push(stream);
                    continue;
                }
                let (machine, number) = (Arc::clone(&machine), its.clone());
                // A stream that ends early is no trouble.
                tokio::spawn(async move { machine.carry(stream, &number).await });
            }
        });
        Ok(number)
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
        // As real ones do that hear late that they were woken.
        if fault("lose", "connections") && self.n_lost.fetch_add(1, Ordering::Relaxed) < N_LOST {
            return Ok(());
        }
        copy_bidirectional(&mut stream, &mut far).await.map(drop)
    }
}

/// Reads a machine that was written down.
fn read(url: &str) -> io::Result<Vm> {
    let snapshot = PathBuf::from(url.trim_start_matches("file://"));
    let read = |name: &str| {
        let text = fs::read_to_string(snapshot.join(name))?;
        io::Result::Ok(serde_json::from_str::<Value>(&text)?)
    };
    let (config, state) = (read(CONFIG_FILE)?, read(STATE_FILE)?);
    if state["is"] != STATE {
        return Err(io::Error::other("that is no state of a machine"));
    }
    let number = state["number"].as_str().map(str::to_owned);
    if number.is_some() && fs::read(snapshot.join(MEMORY_FILE))? != TOUCHED {
        return Err(io::Error::other("that is no memory of a machine"));
    }
    Ok(Vm { config, state: State::Paused, number, attached: false })
}

/// Writes a machine down. If its memory stays in a file, many may begin with it; otherwise this one is to
/// go on.
async fn write(vm: &Vm, url: &str) -> io::Result<()> {
    let snapshot = PathBuf::from(url.trim_start_matches("file://"));
    let write = |name: &str, text: &[u8]| {
        let path = snapshot.join(name);
        let mut file = fs::File::options().read(true).write(true).create_new(true).open(path)?;
        io::Write::write_all(&mut file, text)
    };
    let mut zones = vm.config["memory"]["zones"].as_array().into_iter().flatten();
    let stays = zones.any(|zone| zone["shared"] == true && zone["file"].is_string());
    let number = vm.number.as_ref().filter(|_| !stays);
    write(CONFIG_FILE, vm.config.to_string().as_bytes())?;
    if fault("slow", "vm.snapshot") {
        sleep(SLOW).await;
    }
    while fault("stuck", "vm.snapshot") {
        sleep(LOOK_AGAIN).await;
    }
    write(STATE_FILE, json!({ "is": STATE, "number": number }).to_string().as_bytes())?;
    if number.is_some() {
        write(MEMORY_FILE, TOUCHED)?;
        let order = json!({ "keep": { "machine": number } });
        line(&mut BufReader::new(ask(&order).await?)).await?;
    }
    Ok(())
}

/// Opens memory that is in a file as the VMM does: to write to it only if what is written is to stay.
fn map_memory(config: &Value) -> io::Result<()> {
    for zone in config["memory"]["zones"].as_array().into_iter().flatten() {
        let Some(path) = zone["file"].as_str().map(PathBuf::from) else { continue };
        let is_shared = zone["shared"].as_bool().unwrap_or_default();
        if path.starts_with("/vm/golden") && fault("refuse", "clones") {
            return Err(io::Error::other("it was told to"));
        }
        let mut file = fs::File::options().read(true).write(is_shared).open(path)?;
        if is_shared {
            io::Write::write_all(&mut file, TOUCHED)?;
        } else {
            let mut found = [0; TOUCHED.len()];
            io::Read::read_exact(&mut file, &mut found)?;
            if found != TOUCHED {
                return Err(io::Error::other("that is no memory of a machine"));
            }
        }
    }
    Ok(())
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
