//! Network namespaces for tests: one to enter, to run a command in, and to serve from. Each is held by a
//! process that does nothing.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::run::wait_until;

/// How long an answer may take where one is expected.
const PATIENCE: Duration = Duration::from_secs(10);

/// A namespace, until it is dropped.
pub struct Namespace {
    pub path: PathBuf,
    _holder: Option<Holder>,
}

struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Namespace {
    /// A new one, with nothing in it but `lo`, which is up.
    pub fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let holder = Holder(command.spawn().expect("unshare starts"));
        let path = PathBuf::from(format!("/proc/{}/ns/net", holder.0.id()));
        wait_until(|| inode(&path) != inode(Path::new("/proc/self/ns/net")), "a namespace");
        let namespace = Self { path, _holder: Some(holder) };
        namespace.run("ip link set lo up");
        namespace
    }

    /// That of a process.
    pub fn of(pid: i32) -> Self {
        Self { path: format!("/proc/{pid}/ns/net").into(), _holder: None }
    }

    /// That of this process, which plays the host.
    pub fn host() -> Self {
        Self { path: "/proc/self/ns/net".into(), _holder: None }
    }

    /// Does something in it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = File::open(&self.path).expect("the namespace is there");
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(inside.as_fd(), network).expect("it may be entered");
                work()
            });
            entered.join().expect("the work ends")
        })
    }

    /// Runs a script in it that must not fail.
    pub fn run(&self, script: &str) {
        let output = self.script(script).output().expect("it starts");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {complaint}");
    }

    /// A script to run in it.
    pub fn script(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path.display()));
        command.args(["--", "/bin/sh", "-ec", script]);
        command
    }

    /// Tells whoever connects to one of these ports who they are.
    pub fn serve_tcp(&self, ports: &[u16]) {
        for port in ports {
            let bound = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port));
            let listener = self.enter(bound).expect("the port is free");
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let answered = stream.and_then(|mut stream| {
                        let peer = stream.peer_addr()?.ip().to_canonical();
                        write!(stream, "{peer}")
                    });
                    // A client that has gone is none of the server's business.
                    drop(answered);
                }
            });
        }
    }

    /// Tells whoever sends a packet to one of these addresses who they are; how many did is counted.
    pub fn serve_udp(&self, addresses: &[&str], port: u16) -> Arc<AtomicU32> {
        let n_packets = Arc::new(AtomicU32::new(0));
        // One that has many addresses would not answer from the one that was asked.
        for address in addresses {
            let address: IpAddr = address.parse().expect("an address");
            let socket = self.enter(|| UdpSocket::bind((address, port))).expect("the port is free");
            let counted = Arc::clone(&n_packets);
            thread::spawn(move || {
                while let Ok((_, peer)) = socket.recv_from(&mut [0; 2048]) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    // Whoever has gone hears nothing.
                    let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
                }
            });
        }
        n_packets
    }

    /// Connects from here, and returns whom the other end takes this for.
    pub fn connect(&self, to: &str, patience: Duration) -> io::Result<String> {
        let address: SocketAddr = to.parse().expect("an address and a port");
        self.enter(|| {
            let mut stream = TcpStream::connect_timeout(&address, patience)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }

    /// Sends a packet from here and returns the answer.
    pub fn ask(&self, to: &str, patience: Duration) -> io::Result<String> {
        let address: SocketAddr = to.parse().expect("an address and a port");
        self.enter(|| {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(patience))?;
            socket.connect(address)?;
            socket.send(b"who am I?")?;
            let mut answer = [0; 64];
            let n_bytes = socket.recv(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer[..n_bytes]).into_owned())
        })
    }
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|found| found.ino())
}
