//! What stands behind the stand-in VMM in place of the kernel's virtualization: runs the real agent as a
//! process for each machine, and carries streams to its ports. It outlives VMMs and servers, as a kernel
//! does, and ends a machine with its VMM.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::{local_host::agent, run::wait_until};

/// The machines that there are, by their numbers.
#[derive(Clone)]
struct Machines {
    directory: PathBuf,
    n_machines: Arc<AtomicU32>,
    kept: Arc<Mutex<BTreeMap<u32, Kept>>>,
    over: Arc<AtomicBool>,
}

/// How a machine outlives its VMM.
struct Kept {
    /// Whether it is written down, and waits for another VMM when this one ends.
    waits: bool,
    adopted: mpsc::Sender<UnixStream>,
}

pub struct Hypervisor {
    pub socket: PathBuf,
    ended: Arc<AtomicBool>,
    n_running: Arc<AtomicU32>,
}

impl Hypervisor {
    pub fn start(directory: &Path) -> Self {
        let socket = directory.join("kvm");
        let listener = UnixListener::bind(&socket).expect("a socket");
        // Whatever user the VMM has.
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("its mode");
        let ended = Arc::new(AtomicBool::new(false));
        let n_running = Arc::new(AtomicU32::new(0));
        let running = Arc::clone(&n_running);
        let machines = Machines {
            directory: directory.join("machines"),
            n_machines: Arc::default(),
            kept: Arc::default(),
            over: Arc::clone(&ended),
        };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if machines.over.load(Ordering::Relaxed) {
                    return;
                }
                let (machines, running) = (machines.clone(), Arc::clone(&running));
                thread::spawn(move || {
                    running.fetch_add(1, Ordering::Relaxed);
                    // A VMM that goes away in the middle is what some tests are about.
                    let _ = stream.and_then(|stream| serve(stream, &machines));
                    running.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { socket, ended, n_running }
    }
}

impl Drop for Hypervisor {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread, which then ends.
        let _ = UnixStream::connect(&self.socket);
        if thread::panicking() {
            return;
        }
        // Their VMMs are gone; a machine that is left would outlive the test.
        wait_until(|| self.n_running.load(Ordering::Relaxed) == 0, "the machines end");
    }
}

fn serve(mut stream: UnixStream, machines: &Machines) -> io::Result<()> {
    let mut order = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut order)?;
    let order: serde_json::Value = serde_json::from_str(&order)?;
    if let Some(bytes) = order["run"]["workspace_bytes"].as_u64() {
        let number = machines.n_machines.fetch_add(1, Ordering::Relaxed);
        return run(stream, machines, number, bytes);
    }
    let number = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse().ok());
    if let Some(number) = number(&order["keep"]["machine"]) {
        if let Some(kept) = machines.kept().get_mut(&number) {
            kept.waits = true;
        }
        return writeln!(stream, "kept");
    }
    if let Some(number) = number(&order["adopt"]["machine"]) {
        if let Some(kept) = machines.kept().get(&number) {
            // One that has ended adopts nothing, and the VMM is told by its end.
            let _ = kept.adopted.send(stream);
        }
        return Ok(());
    }
    let machine = order["dial"]["machine"].as_str().unwrap_or_default();
    let port = order["dial"]["port"].as_u64().unwrap_or_default();
    carry(stream, &machines.directory.join(machine).join(port.to_string()))
}

impl Machines {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<u32, Kept>> {
        self.kept.lock().expect("nobody panics while holding it")
    }

    /// Waits for another VMM if the machine is to wait for one.
    fn next_vmm(&self, number: u32, adopted: &mpsc::Receiver<UnixStream>) -> Option<UnixStream> {
        let waits = |kept: &mut Kept| std::mem::replace(&mut kept.waits, false);
        if !self.kept().get_mut(&number).is_some_and(waits) {
            return None;
        }
        while !self.over.load(Ordering::Relaxed) {
            if let Ok(stream) = adopted.recv_timeout(POLL) {
                return Some(stream);
            }
        }
        None
    }
}

/// How long until it is looked whether something else is to be done.
const POLL: Duration = Duration::from_millis(5);

/// Runs one machine until it or its VMM ends, or the last of those that it has one after the other.
fn run(
    mut vmm: UnixStream,
    machines: &Machines,
    number: u32,
    workspace_bytes: u64,
) -> io::Result<()> {
    let ports = &*machines.directory.join(number.to_string());
    let (adopted, adopting) = mpsc::channel();
    machines.kept().insert(number, Kept { waits: false, adopted });
    fs::create_dir_all(ports)?;
    let door = UnixListener::bind(ports.join("host-1025"))?;
    writeln!(vmm, "{number}")?;
    let mut guest = guest(ports, workspace_bytes)?;
    let mut knocked = vmm.try_clone()?;
    thread::spawn(move || {
        let knock = door.accept();
        knock.and_then(|_| writeln!(knocked, "ready"))
    });
    let mut watched = vmm.try_clone()?;
    watched.set_read_timeout(Some(POLL))?;
    // This thread may not end before the guest, which would end with it.
    loop {
        if guest.try_wait()?.is_some() {
            break;
        }
        match watched.read(&mut [0; 16]) {
            // A signal, such as of the end of some child of the test, ends a wait early as well.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            _ => {
                if let Some(mut next) = machines.next_vmm(number, &adopting) {
                    writeln!(next, "{number}")?;
                    watched = next.try_clone()?;
                    watched.set_read_timeout(Some(POLL))?;
                    vmm = next;
                    continue;
                }
                guest.kill()?;
                guest.wait()?;
                break;
            }
        }
    }
    // It may have closed its side already.
    let _ = vmm.shutdown(Shutdown::Both);
    fs::remove_dir_all(ports)
}

/// Starts the real agent, as the first process of what is like a machine for whoever is inside.
fn guest(ports: &Path, workspace_bytes: u64) -> io::Result<Child> {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc"]);
    command.args(["--unshare-uts", "--uid", "1000", "--gid", "1000", "--as-pid-1"]);
    command.args(["--die-with-parent", "--new-session", "--clearenv", "--ro-bind", "/usr", "/usr"]);
    for path in ["/bin", "/sbin", "/lib", "/lib64"] {
        match fs::read_link(path) {
            Ok(target) => command.arg("--symlink").arg(target).arg(path),
            Err(_) => command.args(["--ro-bind-try", path, path]),
        };
    }
    command.args(["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"]);
    command.args(["--ro-bind", "/etc/passwd", "/etc/passwd"]);
    command.args(["--tmpfs", "/home/user", "--size", &workspace_bytes.to_string()]);
    command.args(["--tmpfs", "/workspace", "--bind"]).arg(ports).arg("/run/ports");
    command.arg("--ro-bind").arg(agent()).args(["/opt/guest", "--", "/opt/guest", "machine"]);
    command.args(["--ports", "/run/ports", "--workspace", "/workspace"]);
    command.stdin(Stdio::null()).spawn()
}

/// Carries bytes both ways until both directions have ended.
fn carry(mut vmm: UnixStream, port: &Path) -> io::Result<()> {
    let mut far = UnixStream::connect(port)?;
    vmm.write_all(b"!")?;
    let (mut from_vmm, mut to_port) = (vmm.try_clone()?, far.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_vmm, &mut to_port);
        let _ = to_port.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut far, &mut vmm);
    vmm.shutdown(Shutdown::Write)
}
