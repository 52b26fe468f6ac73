//! The rules of packets, as text for `nft`: in the namespace of each machine, where its policy is, and on
//! the host, where every sandbox is kept from the host and the others once more. Pure; golden files show
//! the text.

use std::{collections::BTreeSet, fmt::Write as _, net::Ipv4Addr};

use domain::egress::{EgressMode, EgressPolicy};
use ipnet::{IpNet, Ipv4Net};

use super::addresses::{Addresses, GUEST_MAC};

/// The card that stands for the machine, in its namespace.
pub(in crate::cloud_hypervisor) const GUEST: &str = "guest";
/// The way out of that namespace.
pub(super) const UPLINK: &str = "uplink";
/// What the other ends of those ways are called on the host, before the user's number.
pub(super) const HOST_PREFIX: &str = "crow";

/// Under no policy is any of this reached: "this" network, loopback, link-local and with it the metadata
/// services of most clouds, protocol assignments and with them Oracle's, multicast, reserved and broadcast;
/// then Alibaba's metadata service and Azure's.
const NEVER: [&str; 8] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "100.100.100.200/32",
    "168.63.129.16/32",
];

/// How many connections one sandbox may have at a time. The host keeps track of each, and its table is
/// for all.
const MAX_CONNECTIONS: u32 = 2048;
/// How many it may begin. Those that have ended are not among the ones it has, but the host remembers
/// each of them for up to two minutes: who opens and closes quickly would fill the table all the same.
const BEGINNINGS: Pace = Pace { each_second: 50, at_once: 1000 };
/// How many questions for names besides, as long as the host remembers them.
const MAX_QUESTIONS: u32 = 512;

/// What the rules of one machine depend on.
#[derive(Debug, Clone)]
pub(super) struct Rules<'a> {
    pub addresses: Addresses,
    pub egress: &'a EgressPolicy,
    /// The host's resolvers.
    pub resolvers: &'a [Ipv4Addr],
    /// The host's own addresses.
    pub host: &'a [Ipv4Addr],
    /// What the operator denies to everybody.
    pub denied: &'a [Ipv4Net],
}

/// How many packets of a kind a machine may send: in a second, and at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    each_second: u32,
    at_once: u32,
}

/// Names are asked for in passing.
const OPEN: Pace = Pace { each_second: 200, at_once: 400 };
/// Where only some networks may be reached, questions for names can carry out what is inside. Too slowly
/// to be of use, but fast enough to find what may be reached.
const NARROW: Pace = Pace { each_second: 20, at_once: 100 };

impl Rules<'_> {
    /// Whether there is anything that names could be asked for. Where there is nothing to reach, nobody
    /// is asked: a question is a message to the outside.
    pub fn resolves_names(&self) -> bool {
        let mut denied = self.denied_to_all();
        denied.extend(v4(self.egress.deny_cidrs()));
        // Networks that only together cover another one are joined to one that does.
        let denied = Ipv4Net::aggregate(&denied);
        let allowed = match self.egress.mode() {
            EgressMode::AllowAll => vec![Ipv4Net::default()],
            EgressMode::DenyAll => v4(self.egress.allow_cidrs()),
        };
        let is_denied = |network: &Ipv4Net| denied.iter().any(|wider| wider.contains(network));
        !self.resolvers.is_empty() && !allowed.iter().all(is_denied)
    }

    /// The rules in a machine's namespace.
    pub fn text(&self) -> String {
        let guest = self.addresses.guest();
        let mut text = format!(
            "\
table netdev crownest {{
  chain from_guest {{
    type filter hook ingress device \"{GUEST}\" priority filter; policy drop;
    ether saddr != {GUEST_MAC} drop
    ether type arp arp saddr ether {GUEST_MAC} arp saddr ip {guest} accept
    ether type ip ip saddr {guest} ip hdrlength 5 accept
  }}
}}
table inet crownest {{
"
        );
        let denied = self.denied_to_all();
        let denied_here = v4(self.egress.deny_cidrs());
        let allowed = v4(self.egress.allow_cidrs());
        for (name, networks) in
            [("denied", &denied), ("denied_here", &denied_here), ("allowed", &allowed)]
        {
            text.push_str(&set(name, networks));
        }
        text.push_str(&self.names());
        let ways = format!("iifname \"{GUEST}\" oifname \"{UPLINK}\"");
        let _ = write!(
            text,
            "  \
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname \"{UPLINK}\" masquerade
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname \"{GUEST}\" reject with icmp admin-prohibited
  }}
  chain output {{
    type filter hook output priority filter; policy drop;
    oifname \"{GUEST}\" icmp type {{ destination-unreachable, time-exceeded }} accept
  }}
  chain connect {{
    ip daddr @denied reject with icmp admin-prohibited
"
        );
        if !denied_here.is_empty() {
            text.push_str("    ip daddr @denied_here reject with icmp admin-prohibited\n");
        }
        match self.egress.mode() {
            EgressMode::AllowAll => text.push_str("    goto count\n"),
            EgressMode::DenyAll if allowed.is_empty() => {}
            EgressMode::DenyAll => {
                let ports = ports(self.egress.allow_ports());
                let _ = writeln!(text, "    ip daddr @allowed {ports}goto count");
            }
        }
        let Pace { each_second, at_once } = BEGINNINGS;
        let _ = write!(
            text,
            "    \
    reject with icmp admin-prohibited
  }}
  chain count {{
    limit rate over {each_second}/second burst {at_once} packets drop
    ct count over {MAX_CONNECTIONS} reject with icmp admin-prohibited
    accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
"
        );
        if self.resolves_names() {
            let asked = addresses(self.addresses.resolvers(self.resolvers.len()));
            let _ = writeln!(text, "    {ways} ct original ip daddr {{ {asked} }} goto names");
        }
        let _ = write!(
            text,
            "    \
    ct state established,related accept
    {ways} ct state new goto connect
  }}
}}
"
        );
        text
    }

    /// How questions for names get to the host's resolvers.
    fn names(&self) -> String {
        if !self.resolves_names() {
            return String::new();
        }
        let Pace { each_second, at_once } = match self.egress.mode() {
            EgressMode::AllowAll => OPEN,
            EgressMode::DenyAll => NARROW,
        };
        let asked = self.addresses.resolvers(self.resolvers.len());
        let pairs: Vec<_> =
            asked.iter().zip(self.resolvers).map(|(one, its)| format!("{one} : {its}")).collect();
        let pairs = pairs.join(", ");
        format!(
            "  \
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname \"{GUEST}\" meta l4proto {{ tcp, udp }} th dport 53 dnat ip to ip daddr map {{ {pairs} }}
  }}
  chain names {{
    ct state new ct count over {MAX_QUESTIONS} drop
    limit rate {each_second}/second burst {at_once} packets accept
    drop
  }}
"
        )
    }

    fn denied_to_all(&self) -> Vec<Ipv4Net> {
        let never = NEVER.iter().map(|text| text.parse().expect("a network"));
        let host = self.host.iter().copied().map(Ipv4Net::from);
        let mut denied: Vec<_> = never.chain(host).chain(self.denied.iter().copied()).collect();
        denied.push(self.addresses.pool);
        Ipv4Net::aggregate(&denied)
    }
}

/// The rules on the host, for all sandboxes. To be applied again at any time: what is there is replaced,
/// at once. `resolvers` may be the host itself.
pub(super) fn host(addresses: Addresses, resolvers: &[Ipv4Addr]) -> String {
    let pool = addresses.pool;
    let mut text = format!(
        "\
table inet crownest {{
  set pools {{
    type ipv4_addr
    flags interval
  }}
  set resolvers {{
    type ipv4_addr
  }}
  chain prerouting {{
    type filter hook prerouting priority mangle; policy accept;
  }}
  chain forward {{
    type filter hook forward priority -5; policy accept;
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
  }}
}}
add element inet crownest pools {{ {pool} }}
"
    );
    if !resolvers.is_empty() {
        let resolvers = self::addresses(resolvers.iter().copied());
        let _ = writeln!(text, "add element inet crownest resolvers {{ {resolvers} }}");
    }
    let ours = format!("\"{HOST_PREFIX}*\"");
    let _ = write!(
        text,
        "\
flush chain inet crownest prerouting
flush chain inet crownest forward
flush chain inet crownest postrouting
table inet crownest {{
  chain prerouting {{
    iifname != {ours} return
    meta nfproto != ipv4 drop
    ip saddr != @pools drop
    ip daddr @resolvers meta l4proto {{ tcp, udp }} th dport 53 return
    ip daddr @pools drop
    fib daddr type {{ local, broadcast, anycast, multicast }} drop
  }}
  chain forward {{
    iifname {ours} oifname {ours} drop
    oifname {ours} ct state != {{ established, related }} drop
  }}
  chain postrouting {{
    ip saddr @pools oifname != {ours} masquerade
  }}
}}
"
    );
    text
}

/// The IPv4 networks of a list, without overlaps. There is no IPv6 to allow or to deny.
fn v4(networks: &[IpNet]) -> Vec<Ipv4Net> {
    let networks: Vec<_> = networks
        .iter()
        .filter_map(|network| match network {
            IpNet::V4(network) => Some(*network),
            IpNet::V6(_) => None,
        })
        .collect();
    Ipv4Net::aggregate(&networks)
}

/// A set of networks, which must not overlap; nothing for none, as it could not be written.
fn set(name: &str, networks: &[Ipv4Net]) -> String {
    if networks.is_empty() {
        return String::new();
    }
    let networks: Vec<_> = networks.iter().map(Ipv4Net::to_string).collect();
    let networks = networks.join(",\n      ");
    format!(
        "  \
  set {name} {{
    type ipv4_addr
    flags interval
    elements = {{
      {networks}
    }}
  }}
"
    )
}

fn ports(ports: &BTreeSet<u16>) -> String {
    if ports.is_empty() {
        return String::new();
    }
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    format!("tcp dport {{ {} }} ", ports.join(", "))
}

fn addresses(addresses: impl IntoIterator<Item = Ipv4Addr>) -> String {
    let texts: Vec<_> = addresses.into_iter().map(|one| one.to_string()).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use domain::egress::EgressText;

    use super::*;

    const RESOLVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(203, 0, 113, 53)];
    const OWN: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(203, 0, 113, 9)];

    fn policy(mode: &str, allow: &[&str], deny: &[&str], ports: &[i64]) -> EgressPolicy {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let text = EgressText {
            mode: mode.to_owned(),
            allow_cidrs: owned(allow),
            deny_cidrs: owned(deny),
            allow_ports: ports.to_vec(),
        };
        EgressPolicy::parse(&text).unwrap()
    }

    fn rules(egress: &EgressPolicy) -> Rules<'_> {
        Rules {
            addresses: Addresses::new("100.96.0.0/18".parse().unwrap(), 4096).unwrap(),
            egress,
            resolvers: &RESOLVERS,
            host: &OWN,
            denied: &[],
        }
    }

    #[test]
    fn rules_are_these_texts() {
        let (net, wider, inner) = ("203.0.113.0/24", "203.0.112.0/23", "203.0.113.128/25");
        for (name, policy) in [
            ("allow_all", policy("allow_all", &[], &[], &[])),
            ("allow_all_but", policy("allow_all", &[], &[net, "2001:db8::/32"], &[])),
            ("deny_all", policy("deny_all", &[], &[], &[])),
            ("deny_all_but", policy("deny_all", &[wider, net, "::/0"], &[inner], &[])),
            ("deny_all_but_ports", policy("deny_all", &[net], &[], &[443, 80])),
        ] {
            super::super::golden(&format!("rules_{name}"), &rules(&policy).text());
        }
    }

    #[test]
    fn what_the_operator_denies_is_denied_to_everybody() {
        let networks = ["10.0.0.0/8", "10.0.0.0/9", "192.168.0.0/16"].map(|n| n.parse().unwrap());
        let allow_all = EgressPolicy::allow_all();
        let text = Rules { denied: &networks, ..rules(&allow_all) }.text();
        assert!(text.contains("10.0.0.0/8,") && text.contains("192.168.0.0/16,"), "{text}");
        assert!(!text.contains("10.0.0.0/9"), "a set takes no overlaps: {text}");
    }

    #[test]
    fn the_hosts_rules_are_this_text() {
        let addresses = rules(&EgressPolicy::allow_all()).addresses;
        super::super::golden("rules_host", &host(addresses, &[Ipv4Addr::new(10, 0, 0, 2)]));
        assert!(!host(addresses, &[]).contains("element inet crownest resolvers"));
    }

    #[test]
    fn names_are_asked_for_only_where_something_can_be_reached() {
        let (net, all) = ("203.0.113.0/24", "0.0.0.0/0");
        let halves = ["0.0.0.0/1", "128.0.0.0/1"];
        let common = ["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3"];
        let its_halves = ["203.0.113.0/25", "203.0.113.128/25"];
        for (policy, wanted, why) in [
            (policy("allow_all", &[], &[], &[]), true, "all"),
            (policy("allow_all", &[], &[net], &[]), true, "most"),
            (policy("allow_all", &[], &[net, all], &[]), false, "all and nothing"),
            (policy("deny_all", &[], &[], &[]), false, "nothing"),
            (policy("deny_all", &["2001:db8::/32"], &[], &[]), false, "nothing that is there"),
            (policy("deny_all", &[net], &[], &[443]), true, "something"),
            (policy("deny_all", &[net], &[all], &[]), false, "something and nothing"),
            (policy("allow_all", &[], &halves, &[]), false, "nothing of either half"),
            (policy("allow_all", &[], &halves[..1], &[]), true, "the other half"),
            (policy("allow_all", &[], &common, &[]), false, "what is denied to everybody"),
            (policy("deny_all", &[net], &its_halves, &[]), false, "nothing of its halves"),
            (policy("deny_all", &[net], &its_halves[1..], &[]), true, "a half of it"),
        ] {
            assert_eq!(rules(&policy).resolves_names(), wanted, "{why}");
            assert!(!Rules { resolvers: &[], ..rules(&policy) }.resolves_names(), "{why}");
        }
    }
}
