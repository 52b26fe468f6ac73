//! What `ip` and the shell are told to make of a machine's network: pure text, for golden files to show.

use std::path::Path;

use super::{
    addresses::{Addresses, GATEWAY_MAC, GUEST_MAC, Uplink},
    rules::{GUEST, HOST_PREFIX, UPLINK},
};

/// What is made for one sandbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub addresses: Addresses,
    pub uplink: Uplink,
    /// The user that its VMM runs as, and nobody else.
    pub uid: u32,
    pub n_resolvers: usize,
    pub mtu: u32,
}

/// What runs in the namespace, with the commands for `ip` as its argument and the rules of packets to
/// read. The rules come last, as one is about a card; no machine is there before that.
pub(super) const INSIDE: &str = "\
echo 1 >/proc/sys/net/ipv4/ip_forward
if [ -e /proc/sys/net/ipv6 ]; then echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; fi
printf '%s' \"$1\" | ip -batch -
exec nft -f -
";

impl Plan {
    /// The sandbox's way out as it is called on the host.
    pub fn host_name(uid: u32) -> String {
        format!("{HOST_PREFIX}{uid}")
    }

    /// What `ip` does on the host: the way out, from this namespace.
    pub fn outside(&self, namespace: &Path) -> String {
        let Self { uplink, uid, mtu, .. } = self;
        let name = Self::host_name(*uid);
        let namespace = namespace.display();
        format!(
            "\
link add name {name} mtu {mtu} type veth peer name {UPLINK} mtu {mtu} netns {namespace}
address add {} dev {name}
link set dev {name} up
",
            uplink.host
        )
    }

    /// What `ip` does in the namespace: the card that stands for the machine, which only its VMM may open,
    /// and the way out.
    pub fn inside(&self) -> String {
        let Self { addresses, uplink, uid, n_resolvers, mtu } = self;
        let (gateway, prefix) = (addresses.gateway(), addresses.link_prefix());
        let mut text = format!(
            "\
tuntap add dev {GUEST} mode tap user {uid}
link set dev {GUEST} address {GATEWAY_MAC} mtu {mtu}
address add {gateway}/{prefix} dev {GUEST}
"
        );
        for resolver in addresses.resolvers(*n_resolvers) {
            text.push_str(&format!("address add {resolver}/32 dev {GUEST}\n"));
        }
        text.push_str(&format!(
            "\
link set dev {GUEST} up
neighbor replace {} lladdr {GUEST_MAC} dev {GUEST} nud permanent
address add {} dev {UPLINK}
link set dev {UPLINK} up
route add default via {}
",
            addresses.guest(),
            uplink.inside,
            uplink.host.addr()
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_made_by_these_commands() {
        let addresses = Addresses::new("100.96.0.0/18".parse().unwrap(), 4096).unwrap();
        let uplink = addresses.uplink(1);
        let plan = Plan { addresses, uplink, uid: 2_100_000_001, n_resolvers: 2, mtu: 1450 };
        let text = format!(
            "on the host:\n{}\ninside, with this for ip:\n{}\n{INSIDE}",
            plan.outside(Path::new("/proc/7/fd/8")),
            plan.inside()
        );
        super::super::golden("commands", &text);
        // The kernel's own bound.
        assert!(Plan::host_name(u32::MAX).len() < 16);
    }
}
