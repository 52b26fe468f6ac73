//! An internet for machines: the test runs again as a process in a network namespace of its own, which plays
//! the host, so that nothing of the real one is touched; behind it is another one, which plays the rest.

use std::{
    env,
    fs::File,
    io::{self, Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tests::run::skipped;

use crate::host::is_root;

/// Says to a test that it is in its own namespace already.
const INSIDE: &str = "CROWNEST_TEST_NETWORK";

/// An address of the internet's.
pub const SITE: &str = "203.0.113.10";
/// The host's own address towards it.
pub const HOST: &str = "198.51.100.1";
/// Where clouds serve credentials to whoever asks.
pub const METADATA: &str = "169.254.169.254";
/// Something on a private network.
pub const PRIVATE: &str = "10.1.2.3";
/// The port at which everybody serves.
pub const PORT: u16 = 8080;

/// How long a connection may take that must come about, and one that must not.
const LONG: Duration = Duration::from_secs(10);
const SHORTLY: Duration = Duration::from_secs(1);

/// The rest of the world, until it is dropped.
pub struct Internet {
    holder: Child,
}

impl Internet {
    /// That of a test, if this is the process in it. Otherwise runs the test as one.
    pub fn enter(test: &str) -> Option<Self> {
        if env::var_os(INSIDE).is_some() {
            return Some(Self::make());
        }
        if !is_root() {
            skipped("machine-egress", "only root makes networks");
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(["--net", "--"]).arg(env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
        let status = command.status().unwrap();
        assert!(status.success(), "{test} failed in its namespace: {status}");
        None
    }

    fn make() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let internet = Self { holder: command.spawn().unwrap() };
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let started = Instant::now();
        while std::fs::read_link(internet.path()).is_ok_and(|theirs| theirs == own) {
            assert!(started.elapsed() < LONG, "a namespace of its own");
            thread::yield_now();
        }
        let peer = internet.path();
        run(
            &[],
            &format!(
                "ip link set lo up; echo 1 >/proc/sys/net/ipv4/ip_forward
                ip link add wan type veth peer name lan netns {}
                ip address add {HOST}/24 dev wan; ip link set wan up
                ip route add default via 198.51.100.2",
                peer.display()
            ),
        );
        let net = format!("--net={}", peer.display());
        let addresses = [SITE, METADATA, PRIVATE]
            .map(|address| format!("ip address add {address}/32 dev lo\n"))
            .concat();
        run(
            &["nsenter", &net, "--"],
            &format!(
                "ip link set lo up; ip address add 198.51.100.2/24 dev lan; ip link set lan up
                {addresses}ip route add default via {HOST}"
            ),
        );
        internet.serve();
        internet
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }

    /// Has the host and everybody out there tell whoever connects who they are.
    fn serve(&self) {
        let listen = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap();
        let namespace = File::open(self.path()).unwrap();
        let outside = thread::spawn(move || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), kind).unwrap();
            listen()
        });
        for listener in [outside.join().unwrap(), listen()] {
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
}

impl Drop for Internet {
    fn drop(&mut self) {
        // It may be gone already, and nothing depends on it any more.
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

/// Whether the host itself gets an answer from there.
pub fn answers(to: &str) -> bool {
    ask(to, LONG).is_ok()
}

/// Whether nobody even takes the host's connection there.
pub fn is_closed(to: &str) -> bool {
    ask(to, SHORTLY).is_err()
}

fn ask(to: &str, patience: Duration) -> io::Result<String> {
    let address: SocketAddr = to.parse().expect("an address and a port");
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Runs a script that must not fail, by way of a program.
fn run(by: &[&str], script: &str) {
    let words = [by, &["/bin/sh", "-ec", script]].concat();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {complaint}");
}
