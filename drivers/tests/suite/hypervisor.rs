//! What stands behind the stand-in VMM in place of the kernel's virtualization: runs the real agent as a
//! process for each machine, and carries streams to its ports. It outlives VMMs and servers, as a kernel
//! does, and ends a machine with its VMM.

use std::{
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
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use crate::local_host::{agent, wait_until};

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
        let (machines, over) = (directory.join("machines"), Arc::clone(&ended));
        thread::spawn(move || {
            let n_machines = Arc::new(AtomicU32::new(0));
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (machines, n_machines) = (machines.clone(), Arc::clone(&n_machines));
                let running = Arc::clone(&running);
                thread::spawn(move || {
                    running.fetch_add(1, Ordering::Relaxed);
                    // A VMM that goes away in the middle is what some tests are about.
                    let _ = stream.and_then(|stream| serve(stream, &machines, &n_machines));
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

fn serve(stream: UnixStream, machines: &Path, n_machines: &AtomicU32) -> io::Result<()> {
    let mut order = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut order)?;
    let order: serde_json::Value = serde_json::from_str(&order)?;
    if let Some(bytes) = order["run"]["workspace_bytes"].as_u64() {
        let number = n_machines.fetch_add(1, Ordering::Relaxed);
        return run(stream, &machines.join(number.to_string()), number, bytes);
    }
    let machine = order["dial"]["machine"].as_str().unwrap_or_default();
    let port = order["dial"]["port"].as_u64().unwrap_or_default();
    carry(stream, &machines.join(machine).join(port.to_string()))
}

/// Runs one machine until it or its VMM ends.
fn run(mut vmm: UnixStream, ports: &Path, number: u32, workspace_bytes: u64) -> io::Result<()> {
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
    watched.set_read_timeout(Some(Duration::from_millis(5)))?;
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
