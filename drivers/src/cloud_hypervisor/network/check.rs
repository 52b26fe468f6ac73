//! What a host lacks for the network of machines. Only looks: what routes and filters an operator's host
//! has is not the server's to change.

use std::{fs, io, net::Ipv4Addr, os::unix::fs::PermissionsExt as _, path::Path};

use serde::Deserialize;

use super::{
    Network,
    host::{self, Host},
    rules::{self, HOST_PREFIX},
    tools,
};
use crate::{
    cloud_hypervisor::CloudHypervisorConfig,
    jail::failure::{Failure, Result},
    spec::Limitation,
};

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Says what is missing, or what does not work.
pub(in crate::cloud_hypervisor) async fn check(
    config: &CloudHypervisorConfig,
) -> Result<Vec<Limitation>> {
    let Some(network) = Network::of(config) else {
        let remedy = match config.network {
            Some(_) => "Run the server as root: networks take its privileges.",
            None => {
                "Set machine_network to addresses that nothing else has, such as 100.96.0.0/18."
            }
        };
        return Ok(vec![limitation("Sandboxes have no network.", remedy)]);
    };
    tools::check()?;
    everybody_opens(network.tun())?;
    let addresses = network.addresses()?;
    let pool = addresses.pool;
    let host = Host::look().await?;
    if let Some(other) = host.overlap(pool) {
        return Err(Failure::unsupported(format!(
            "machine_network {pool} overlaps with {other}: set it to addresses that nothing else has"
        )));
    }
    let resolvers = host::resolvers(&network.config.resolvers);
    // The kernel looks at it, and does not do it.
    let rules = rules::host(addresses, &resolvers);
    tools::run("nft", ["--check", "--file", "-"], &rules).await.map_err(|failure| {
        Failure::unsupported(format!(
            "this host does not take the rules of packets that keep sandboxes apart ({failure}); load the \
             kernel's modules nf_tables, nft_fib_inet, nft_masq and nft_chain_nat, or do without a network \
             by machine_network = \"off\""
        ))
    })?;
    let chains = tools::run("nft", ["--json", "list", "chains"], "").await?;
    Ok(missing(&fs::read_to_string(FORWARDING), &resolvers, &dropping(&chains)?))
}

/// Opening it alone is of no use to anybody.
fn everybody_opens(tun: &Path) -> Result<()> {
    let found = fs::metadata(tun).map_err(|error| {
        let tun = tun.display();
        Failure::unsupported(format!("there is no {tun} ({error}): load the kernel's module tun"))
    })?;
    if found.permissions().mode() & 0o006 == 0o006 {
        return Ok(());
    }
    let tun = tun.display();
    Err(Failure::unsupported(format!(
        "VMMs run as users of their own, which may not use {tun}: chmod 666 {tun}, as udev does"
    )))
}

fn missing(
    forwarding: &io::Result<String>,
    resolvers: &[Ipv4Addr],
    dropping: &[String],
) -> Vec<Limitation> {
    let mut limitations = Vec::new();
    if !forwarding.as_ref().is_ok_and(|told| told.trim() == "1") {
        limitations.push(limitation(
            "Sandboxes reach nothing: this host does not forward packets.",
            "Run sysctl -w net.ipv4.ip_forward=1, and write the same into a file in /etc/sysctl.d.",
        ));
    }
    if !dropping.is_empty() {
        let chains = dropping.join(", ");
        let what = format!("Sandboxes reach nothing that a firewall of this host drops: {chains}.");
        let remedy = format!(
            "Let it accept what comes from or goes to {HOST_PREFIX}*, such as by iptables -I FORWARD -i \
             {HOST_PREFIX}+ -j ACCEPT, and the same with -o."
        );
        limitations.push(Limitation { what, remedy });
    }
    if resolvers.is_empty() {
        limitations.push(limitation(
            "Sandboxes cannot resolve names: this host's own resolver answers nobody else.",
            "Set machine_dns to addresses of resolvers that they may ask.",
        ));
    }
    limitations
}

fn limitation(what: &str, remedy: &str) -> Limitation {
    Limitation { what: what.to_owned(), remedy: remedy.to_owned() }
}

/// What `nft --json list chains` tells.
#[derive(Debug, Deserialize)]
struct Told {
    nftables: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    chain: Option<Chain>,
}

#[derive(Debug, Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
    hook: Option<String>,
    policy: Option<String>,
}

/// The chains of others that drop what is forwarded unless they know of it, as Docker's and many firewalls'.
fn dropping(chains: &str) -> Result<Vec<String>> {
    let told: Told = serde_json::from_str(chains)
        .map_err(|error| Failure::host(format!("nft is not understood: {error}")))?;
    let chains = told.nftables.into_iter().filter_map(|item| item.chain);
    let drops = |chain: &Chain| {
        ["ip", "inet"].contains(&&*chain.family)
            && chain.hook.as_deref() == Some("forward")
            && chain.policy.as_deref() == Some("drop")
    };
    let dropping = chains.filter(drops);
    Ok(dropping
        .map(|Chain { family, table, name, .. }| format!("{family} {table} {name}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_drop_is_found() {
        let told = r#"{"nftables": [
            {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
            {"chain": {"family": "inet", "table": "crownest", "name": "forward", "handle": 1,
                "type": "filter", "hook": "forward", "prio": -5, "policy": "accept"}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 2,
                "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "ip6", "table": "filter", "name": "FORWARD", "handle": 2,
                "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "handle": 3,
                "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "DOCKER-USER", "handle": 9}}
        ]}"#;
        assert_eq!(dropping(told).unwrap(), ["ip filter FORWARD"]);
        assert_eq!(dropping(r#"{"nftables": []}"#).unwrap(), Vec::<String>::new());
        assert!(dropping("").is_err());
    }

    #[test]
    fn everything_that_is_missing_is_told_with_a_remedy() {
        let resolvers = [Ipv4Addr::new(10, 0, 0, 2)];
        assert_eq!(missing(&Ok("1\n".to_owned()), &resolvers, &[]), []);
        let told = missing(&Ok("0\n".to_owned()), &[], &["ip filter FORWARD".to_owned()]);
        for (limitation, wanted) in
            told.iter().zip(["ip_forward", "iptables -I FORWARD -i crow+", "machine_dns"])
        {
            assert!(limitation.remedy.contains(wanted), "{limitation:?}");
            assert!(limitation.what.ends_with('.') && limitation.remedy.ends_with('.'));
        }
        assert_eq!(told.len(), 3);
        let unread = missing(&Err(io::ErrorKind::NotFound.into()), &resolvers, &[]);
        assert_eq!(unread.len(), 1, "a kernel without it");
    }

    #[test]
    fn a_device_that_vmms_may_not_open_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let tun = folder.path().join("tun");
        let failure = everybody_opens(&tun).unwrap_err().to_string();
        assert!(failure.contains("module tun"), "{failure}");
        fs::write(&tun, "").unwrap();
        for (mode, is_fine) in [(0o600, false), (0o660, false), (0o666, true)] {
            fs::set_permissions(&tun, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(everybody_opens(&tun).is_ok(), is_fine, "{mode:o}");
        }
    }
}
