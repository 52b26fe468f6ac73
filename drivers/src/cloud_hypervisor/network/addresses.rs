//! Which addresses the networks of machines have. A pool of the host's is all there is: its first few are
//! those between every machine and the namespace around it, the same for all, as nobody else sees them;
//! then come two for each sandbox, between its namespace and the host, by the user that its VMM runs as.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::jail::failure::{Failure, Result};

/// The machine's card. Like its address the same in all machines, so one that is woken elsewhere, or made
/// from another's state, need not be told of a new one.
pub(in crate::cloud_hypervisor) const GUEST_MAC: &str = "02:63:72:6f:77:02";
/// The other end of it.
pub(super) const GATEWAY_MAC: &str = "02:63:72:6f:77:01";
/// As many resolvers as there may be.
pub(super) const MAX_RESOLVERS: usize = 3;

const LINK_PREFIX: u8 = 29;
const N_LINK: u32 = 8;
const GATEWAY: u32 = 1;
const GUEST: u32 = 2;
const FIRST_RESOLVER: u32 = 3;
const UPLINK_PREFIX: u8 = 31;
const N_UPLINK: u32 = 2;

/// The pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    pub pool: Ipv4Net,
}

/// The two addresses between a namespace and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uplink {
    pub host: Ipv4Net,
    pub inside: Ipv4Net,
}

impl Addresses {
    /// A pool for this many users.
    pub fn new(pool: Ipv4Net, n_users: u32) -> Result<Self> {
        let wanted = u64::from(N_LINK) + u64::from(N_UPLINK) * u64::from(n_users);
        let there_are = 1_u64 << (32 - u32::from(pool.prefix_len()));
        if there_are < wanted {
            return Err(Failure::unsupported(format!(
                "machine_network {pool} has {there_are} addresses, and {n_users} sandboxes take \
                 {wanted}: use a larger one"
            )));
        }
        Ok(Self { pool: pool.trunc() })
    }

    /// What a machine shares with its gateway.
    fn link(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.pool.network().to_bits() + n)
    }

    /// The machine's own address.
    pub fn guest(self) -> Ipv4Addr {
        self.link(GUEST)
    }

    /// The gateway's.
    pub fn gateway(self) -> Ipv4Addr {
        self.link(GATEWAY)
    }

    /// How long their common prefix is.
    pub const fn link_prefix(self) -> u8 {
        LINK_PREFIX
    }

    /// The addresses at which a machine asks for names, one for each resolver of the host.
    pub fn resolvers(self, n_resolvers: usize) -> Vec<Ipv4Addr> {
        (FIRST_RESOLVER..).take(n_resolvers.min(MAX_RESOLVERS)).map(|n| self.link(n)).collect()
    }

    /// Those of one user; `n` counts from the first of the range.
    pub fn uplink(self, n: u32) -> Uplink {
        let first = self.pool.network().to_bits() + N_LINK + N_UPLINK * n;
        let end = |bits: u32| {
            let address = Ipv4Addr::from_bits(bits);
            Ipv4Net::new(address, UPLINK_PREFIX).expect("no prefix is longer than 32")
        };
        Uplink { host: end(first), inside: end(first + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_addresses_of_its_own_in_the_pool() {
        let pool = "100.96.0.0/18".parse().unwrap();
        let addresses = Addresses::new(pool, 4096).unwrap();
        assert_eq!(addresses.gateway().to_string(), "100.96.0.1");
        assert_eq!(addresses.guest().to_string(), "100.96.0.2");
        let resolvers: Vec<_> = addresses.resolvers(9).iter().map(Ipv4Addr::to_string).collect();
        assert_eq!(resolvers, ["100.96.0.3", "100.96.0.4", "100.96.0.5"]);
        let mut before = addresses.pool.network().to_bits() + N_LINK - 1;
        for n in 0..4096 {
            let Uplink { host, inside } = addresses.uplink(n);
            assert_eq!(host.trunc(), inside.trunc(), "one link");
            for end in [host.addr(), inside.addr()] {
                assert_eq!(end.to_bits(), before + 1, "neither twice nor a gap");
                assert!(pool.contains(&end), "{end}");
                before += 1;
            }
        }
    }

    #[test]
    fn a_pool_that_is_too_small_is_refused() {
        for (pool, n_users, is_enough) in [
            ("100.96.0.0/18", 4096, true),
            ("100.96.0.0/19", 4096, false),
            ("10.9.0.0/28", 4, true),
            ("10.9.0.0/28", 5, false),
            ("0.0.0.0/0", u32::MAX / 4, true),
            ("10.9.0.0/32", 0, false),
        ] {
            let made = Addresses::new(pool.parse().unwrap(), n_users);
            assert_eq!(made.is_ok(), is_enough, "{pool} for {n_users}");
        }
    }
}
