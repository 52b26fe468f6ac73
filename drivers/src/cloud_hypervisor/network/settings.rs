//! What an operator decides about the networks of machines, and what holds without a decision. Checks the
//! text of settings; whether they suit the host is `check`'s.

use std::{net::Ipv4Addr, path::PathBuf};

use ipnet::Ipv4Net;

use super::addresses::{Addresses, MAX_RESOLVERS};
use crate::jail;

/// What the networks of machines are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Addresses for the ends of networks, which nothing else on the host or reached from it has.
    pub pool: Ipv4Net,
    /// Who resolves names; none: those that the host asks itself.
    pub resolvers: Vec<Ipv4Addr>,
    /// Networks that no sandbox reaches, whatever its policy says.
    pub denied: Vec<Ipv4Net>,
    /// What the VMM finds as `/dev/net/tun`.
    pub tun: PathBuf,
}

impl NetworkConfig {
    /// The pool unless an operator has another: a part of what is set aside for networks behind address
    /// translation.
    pub const POOL: &str = "100.96.0.0/18";
    /// What is denied unless an operator says otherwise: private networks, in which there may be anything.
    pub const PRIVATE: [&str; 4] =
        ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"];
    /// The word for no network at all.
    pub const OFF: &str = "off";

    /// Reads the settings `machine_network`, `machine_dns` and `machine_network_deny`. None for machines
    /// without a network.
    ///
    /// # Errors
    /// Says which setting is wrong, and how.
    pub fn read(network: &str, dns: &[String], deny: &[String]) -> Result<Option<Self>, String> {
        let mut resolvers = Vec::new();
        for text in dns {
            let resolver = text.parse().map_err(|_| {
                format!("machine_dns must be a list of IPv4 addresses, which {text:?} is not")
            })?;
            resolvers.push(resolver);
        }
        if resolvers.len() > MAX_RESOLVERS {
            return Err(format!("machine_dns must have at most {MAX_RESOLVERS} addresses"));
        }
        let mut denied = Vec::new();
        for text in deny {
            denied.push(whole(text).ok_or_else(|| {
                format!(
                    "machine_network_deny must be a list of IPv4 networks such as 10.0.0.0/8, which \
                     {text:?} is not"
                )
            })?);
        }
        if network == Self::OFF {
            return Ok(None);
        }
        let pool = whole(network).ok_or_else(|| {
            format!(
                "machine_network must be \"{}\" or an IPv4 network such as {}, which {network:?} is not",
                Self::OFF,
                Self::POOL
            )
        })?;
        Addresses::new(pool, jail::N_UIDS).map_err(|failure| failure.to_string())?;
        Ok(Some(Self { pool, resolvers, denied, ..Self::default() }))
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        let network = |text: &str| text.parse().expect("a network");
        Self {
            pool: network(Self::POOL),
            resolvers: Vec::new(),
            denied: Self::PRIVATE.map(network).into(),
            tun: "/dev/net/tun".into(),
        }
    }
}

/// A network with no bits behind its prefix.
fn whole(text: &str) -> Option<Ipv4Net> {
    text.parse::<Ipv4Net>().ok().filter(|network| *network == network.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(network: &str, dns: &[&str], deny: &[&str]) -> Result<Option<NetworkConfig>, String> {
        let owned =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        NetworkConfig::read(network, &owned(dns), &owned(deny))
    }

    #[test]
    fn settings_are_read_or_refused_by_name() {
        let usual = read(NetworkConfig::POOL, &[], &NetworkConfig::PRIVATE).unwrap();
        assert_eq!(usual, Some(NetworkConfig::default()));
        assert_eq!(read("off", &["1.1.1.1"], &["10.0.0.0/8"]).unwrap(), None);
        let other = read("10.9.0.0/16", &["10.0.0.2", "1.1.1.1"], &[]).unwrap().unwrap();
        assert_eq!(other.pool.to_string(), "10.9.0.0/16");
        assert_eq!((other.resolvers.len(), other.denied.len()), (2, 0));
        let pool = NetworkConfig::POOL;
        for (refused, name) in [
            (read("on", &[], &[]), "machine_network"),
            (read("10.9.0.1/16", &[], &[]), "machine_network"),
            (read("2001:db8::/32", &[], &[]), "machine_network"),
            (read("10.9.0.0/24", &[], &[]), "use a larger one"),
            (read(pool, &["dns.example.org"], &[]), "machine_dns"),
            (read(pool, &["1.1.1.1"; 4], &[]), "machine_dns"),
            (read(pool, &[], &["10.0.0.1/8"]), "machine_network_deny"),
            (read("off", &["::1"], &[]), "machine_dns"),
        ] {
            let text = refused.unwrap_err();
            assert!(text.contains(name), "{name}: {text}");
        }
    }
}
