//! An internet for tests of networks, and the host that is its only way out: the test runs again as a process
//! in a network namespace of its own, so that nothing of the machine that it runs on is touched.

use std::{
    env,
    net::Ipv4Addr,
    process::Command,
    sync::{Arc, atomic::AtomicU32},
};

use domain::egress::{EgressPolicy, EgressText};
use drivers::cloud_hypervisor::NetworkConfig;

use super::namespace::Namespace;
use crate::run::skipped;

/// Says to a test that it is in its own world already.
pub const WORLD: &str = "CROWNEST_TEST_NETWORK";

/// An address of the internet's, and another one.
pub const SITE: &str = "203.0.113.10";
pub const OTHER_SITE: &str = "203.0.113.200";
/// A network that has the first and not the second.
pub const SITES: &str = "203.0.113.0/25";
/// An address that is reached by IPv6.
pub const SITE_6: &str = "2001:db8:2::10";
/// The host's own address towards the internet.
pub const HOST: &str = "198.51.100.1";
/// What answers questions for names.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// Something on a private network.
pub const PRIVATE: &str = "10.1.2.3";
/// Metadata services of clouds.
pub const METADATA: [&str; 4] =
    ["169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192"];
/// The ports at which everybody out there serves TCP.
pub const PORTS: [u16; 3] = [80, 443, 8080];
/// And the one for UDP.
pub const UDP_PORT: u16 = 9999;

/// The host's own network, and what is behind it.
pub struct Internet {
    pub outside: Namespace,
    pub internet: Namespace,
    /// How many questions for names came to the resolver.
    pub n_questions: Arc<AtomicU32>,
}

/// Whether this is the process in a world of its own. Otherwise runs the test as one.
pub fn is_inside(test: &str) -> bool {
    if env::var_os(WORLD).is_some() {
        return true;
    }
    if let Err(reason) = possible() {
        skipped("machine-networks", &reason);
        return false;
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(env::current_exe().expect("this test"));
    command.args(["--exact", test, "--nocapture"]).env(WORLD, "1");
    let status = command.status().expect("unshare starts");
    assert!(status.success(), "{test} failed in its world: {status}");
    false
}

impl Internet {
    pub fn make() -> Self {
        let (outside, internet) = (Namespace::host(), Namespace::new());
        outside.run("ip link set lo up; echo 1 >/proc/sys/net/ipv4/ip_forward");
        let peer = internet.path.display();
        outside.run(&format!(
            "ip link add wan type veth peer name lan netns {peer}
            ip address add {HOST}/24 dev wan; ip link set wan up
            ip address add 2001:db8:1::1/64 dev wan nodad
            echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
            ip route add default via 198.51.100.2; ip -6 route add default via 2001:db8:1::2"
        ));
        internet.run(
            "ip address add 198.51.100.2/24 dev lan; ip link set lan up
            ip address add 2001:db8:1::2/64 dev lan nodad",
        );
        let resolver = RESOLVER.to_string();
        for address in [SITE, OTHER_SITE, PRIVATE, &resolver].into_iter().chain(METADATA) {
            internet.run(&format!("ip address add {address}/32 dev lo"));
        }
        internet.run(&format!("ip -6 address add {SITE_6}/128 dev lo nodad"));
        // Whatever the host or a sandbox sends as somebody else, the answer finds its way back.
        internet.run(
            "ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8:1::1",
        );
        for place in [&outside, &internet] {
            place.serve_tcp(&PORTS);
        }
        outside.serve_udp(&[HOST], UDP_PORT);
        outside.serve_udp(&[HOST], 53);
        internet.serve_udp(&[SITE, OTHER_SITE, PRIVATE, &resolver, SITE_6], UDP_PORT);
        internet.serve_udp(&METADATA, UDP_PORT);
        let n_questions = internet.serve_udp(&[&resolver], 53);
        Self { outside, internet, n_questions }
    }

    /// The ways out of sandboxes that this host has.
    pub fn cards(&self) -> Vec<String> {
        let output = self.outside.script("ip -oneline link show").output().expect("ip starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = text.lines().filter_map(|line| line.split_whitespace().nth(1));
        names.filter(|name| name.starts_with("crow")).map(str::to_owned).collect()
    }
}

/// What the driver's networks are in this process: none, unless it is a world of its own.
pub fn config() -> Option<NetworkConfig> {
    env::var_os(WORLD)
        .map(|_| NetworkConfig { resolvers: vec![RESOLVER], ..NetworkConfig::default() })
}

/// A policy that denies all but these networks, at these ports.
pub fn only(allow: &[&str], deny: &[&str], ports: &[i64]) -> EgressPolicy {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let text = EgressText {
        mode: "deny_all".to_owned(),
        allow_cidrs: owned(allow),
        deny_cidrs: owned(deny),
        allow_ports: ports.to_vec(),
    };
    EgressPolicy::parse(&text).expect("a policy")
}

/// Whether this host lets tests make networks.
fn possible() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root makes networks".to_owned());
    }
    let tried = Command::new("unshare").args(["--net", "--", "nft", "list", "ruleset"]).output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
