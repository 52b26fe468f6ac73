//! What stands for the network of a guest: a namespace whose one card is connected, frame by frame, to the
//! card that the driver made for the VMM.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use drivers::contract::sandbox::Sandbox;

use super::{
    namespace::Namespace,
    world::{LONG, SHORTLY},
};
use crate::machine_host::MachineHost;

/// What the machine is told of its card.
pub const MAC: &str = "02:63:72:6f:77:02";
pub const ADDRESS: &str = "100.96.0.2";
pub const GATEWAY: &str = "100.96.0.1";
/// Where it asks for names.
pub const NAMES: &str = "100.96.0.3:53";

const CARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/network/card.py");

pub struct Machine {
    pub sandbox: Sandbox,
    /// What the machine sees.
    pub inside: Namespace,
    /// What its VMM sees.
    pub vmm: Namespace,
    pub uid: u32,
    cable: Child,
}

impl Machine {
    pub fn new(host: &MachineHost, sandbox: Sandbox) -> Self {
        let pid = host.vmm_pid(sandbox.id);
        let (inside, vmm) = (Namespace::new(), Namespace::of(pid));
        let uid = user(pid);
        let mut cable = connect(&host.tun(), uid, &vmm, &inside);
        let mut said = String::new();
        let stdout = cable.stdout.as_mut().expect("it is piped");
        BufReader::new(stdout).read_line(&mut said).expect("it says something");
        assert_eq!(said, "ready\n", "the card can be opened");
        let machine = Self { sandbox, inside, vmm, uid, cable };
        machine.inside.run(&format!(
            "ip link set card address {MAC}; ip address add {ADDRESS}/29 dev card
            ip link set card up; ip route add default via {GATEWAY}"
        ));
        machine
    }

    /// Whether a connection to here comes about, and as whom.
    pub fn reaches(&self, to: &str) -> Option<String> {
        self.inside.connect(to, LONG).ok()
    }

    /// Whether it is refused at once, as opposed to lost.
    pub fn is_refused(&self, to: &str) -> bool {
        let refused = self.inside.connect(to, LONG);
        refused.is_err_and(|error| error.kind() == std::io::ErrorKind::HostUnreachable)
    }

    /// Whether nothing at all comes back.
    pub fn hears_nothing(&self, to: &str) -> bool {
        let tcp = self.inside.connect(to, SHORTLY).is_err();
        tcp && self.inside.ask(to, SHORTLY).is_err()
    }

    /// The address that this sandbox has on the host's side of its namespace.
    pub fn address_outside(&self) -> String {
        let output = self.vmm.script("ip -oneline -4 address show dev uplink").output();
        let text = String::from_utf8(output.expect("ip starts").stdout).expect("it is text");
        let address = text.split_whitespace().nth(3).expect("an address");
        address.split('/').next().expect("without its prefix").to_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.cable.kill();
        let _ = self.cable.wait();
    }
}

/// Whether a user may open the card of a VMM.
pub fn may_open(host: &MachineHost, uid: u32, vmm: &Namespace) -> bool {
    let inside = Namespace::new();
    let mut cable = connect(&host.tun(), uid, vmm, &inside);
    let mut said = [0; 1];
    let opened = cable.stdout.as_mut().expect("it is piped").read_exact(&mut said).is_ok();
    let _ = cable.kill();
    let _ = cable.wait();
    opened
}

fn connect(tun: &Path, uid: u32, vmm: &Namespace, inside: &Namespace) -> Child {
    let mut command = Command::new("python3");
    command.arg(CARD).arg(tun).arg(uid.to_string()).arg(&vmm.path).arg(&inside.path);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("python3 starts")
}

/// The user of a process, as the host numbers it.
fn user(pid: i32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("its ids");
    line.split_whitespace().next().expect("an id").parse().expect("a number")
}
