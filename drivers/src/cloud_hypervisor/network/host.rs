//! What of the host the network of a machine depends on, looked at when one is made: its addresses, the
//! size of its packets, its resolvers. Changes nothing.

use std::{fs, net::Ipv4Addr, path::Path};

use ipnet::Ipv4Net;
use serde::Deserialize;

use super::{addresses::MAX_RESOLVERS, rules::HOST_PREFIX, tools};
use crate::jail::failure::{Failure, Result};

/// What networks are made for. More goes through on some hosts, but hardly ever to the end of the way.
const USUAL_MTU: u32 = 1500;
/// Every IPv4 network carries this much.
const LEAST_MTU: u32 = 576;
/// Where systemd's resolver tells whom it asks itself.
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// Every address, with the network that it is in.
    pub addresses: Vec<(String, Ipv4Net)>,
    pub mtu: u32,
}

/// A card as `ip -json address` tells of it.
#[derive(Debug, Deserialize)]
struct Card {
    ifname: String,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    addr_info: Vec<AddressInfo>,
}

#[derive(Debug, Deserialize)]
struct AddressInfo {
    local: Option<Ipv4Addr>,
    #[serde(default)]
    prefixlen: u8,
}

impl Host {
    pub async fn look() -> Result<Self> {
        let told = tools::run("ip", ["-json", "-4", "address", "show"], "").await?;
        let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
        Self::of(&told, &routes)
    }

    fn of(told: &str, routes: &str) -> Result<Self> {
        let cards: Vec<Card> = serde_json::from_str(told)
            .map_err(|error| Failure::host(format!("ip is not understood: {error}")))?;
        let ways = default_ways(routes);
        let carried = cards.iter().filter(|card| ways.contains(&card.ifname.as_str()));
        let mtu = carried.map(|card| card.mtu).min().unwrap_or(USUAL_MTU);
        let mut addresses = Vec::new();
        // Those of sandboxes are in the pool.
        for card in cards.into_iter().filter(|card| !card.ifname.starts_with(HOST_PREFIX)) {
            for AddressInfo { local, prefixlen } in card.addr_info {
                let network = local.and_then(|local| Ipv4Net::new(local, prefixlen).ok());
                addresses.extend(network.map(|network| (card.ifname.clone(), network)));
            }
        }
        Ok(Self { addresses, mtu: mtu.clamp(LEAST_MTU, USUAL_MTU) })
    }

    /// A network of the host's that these addresses would be in the way of.
    pub fn overlap(&self, pool: Ipv4Net) -> Option<String> {
        let overlaps = |network: &Ipv4Net| pool.contains(network) || network.contains(&pool);
        let found = self.addresses.iter().find(|(_, network)| overlaps(&network.trunc()));
        found.map(|(card, network)| format!("{network} of {card}"))
    }
}

/// The cards that packets to anywhere leave by, from the kernel's table of routes.
fn default_ways(routes: &str) -> Vec<&str> {
    let lines = routes.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let is_default = |fields: &Vec<&str>| {
        fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")
    };
    lines.filter(is_default).filter_map(|fields| fields.first().copied()).collect()
}

/// The resolvers that the operator names, or else those that the host asks.
pub(super) fn resolvers(named: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    let mut resolvers = named.to_vec();
    for path in ["/etc/resolv.conf", BEHIND_RESOLVED].map(Path::new) {
        if resolvers.is_empty() {
            resolvers = nameservers(&fs::read_to_string(path).unwrap_or_default());
        }
    }
    resolvers.truncate(MAX_RESOLVERS);
    resolvers
}

/// The nameservers of a `resolv.conf` that somebody else than this host can ask.
fn nameservers(text: &str) -> Vec<Ipv4Addr> {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let address = |fields: Vec<&str>| match fields.as_slice() {
        ["nameserver", address, ..] => address.parse().ok(),
        _ => None,
    };
    lines
        .filter_map(address)
        .filter(|one: &Ipv4Addr| !one.is_loopback() && !one.is_unspecified())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0101000A	0003	0	0	0	00000000	0	0	0
eth1	0000000A	00000000	0001	0	0	0	000000FF	0	0	0
";
    const CARDS: &str = r#"[
        {"ifindex":1,"ifname":"lo","mtu":65536,"addr_info":[
            {"family":"inet","local":"127.0.0.1","prefixlen":8}]},
        {"ifindex":2,"ifname":"eth0","mtu":1450,"addr_info":[
            {"family":"inet","local":"10.0.1.7","prefixlen":24},
            {"family":"inet","local":"203.0.113.9","prefixlen":32}]},
        {"ifindex":3,"ifname":"eth1","mtu":1400,"addr_info":[]},
        {"ifindex":4,"ifname":"crow2100000001","mtu":1450,"addr_info":[
            {"family":"inet","local":"100.96.0.10","prefixlen":31}]}
    ]"#;

    #[test]
    fn a_host_is_what_ip_tells_of_it() {
        let host = Host::of(CARDS, ROUTES).unwrap();
        let shown: Vec<_> =
            host.addresses.iter().map(|(card, network)| format!("{card} {network}")).collect();
        assert_eq!(shown, ["lo 127.0.0.1/8", "eth0 10.0.1.7/24", "eth0 203.0.113.9/32"]);
        assert_eq!(host.mtu, 1450, "of the way out, not the least of all");
        assert_eq!(Host::of("[]", "").unwrap().mtu, 1500, "without a way out");
        let large = CARDS.replace("1450", "9001");
        assert_eq!(Host::of(&large, ROUTES).unwrap().mtu, 1500);
        assert!(Host::of("nothing", "").is_err());
        for (pool, wanted) in [
            ("100.96.0.0/18", None),
            ("10.0.0.0/16", Some("10.0.1.7/24 of eth0")),
            ("10.0.1.128/25", Some("10.0.1.7/24 of eth0")),
            ("10.0.2.0/24", None),
        ] {
            assert_eq!(host.overlap(pool.parse().unwrap()).as_deref(), wanted, "{pool}");
        }
    }

    #[test]
    fn resolvers_are_those_that_others_can_ask() {
        let text = "# nameserver 9.9.9.9\nsearch example.org\nnameserver 127.0.0.53\n\
                    nameserver 10.0.0.2 \nnameserver 2001:db8::1\nnameserver 1.1.1.1\n";
        let found: Vec<_> = nameservers(text).iter().map(Ipv4Addr::to_string).collect();
        assert_eq!(found, ["10.0.0.2", "1.1.1.1"]);
        let four = [1, 2, 3, 4].map(|n| Ipv4Addr::new(10, 0, 0, n));
        assert_eq!(resolvers(&four), four[..3], "what the operator names, as far as it goes");
    }
}
