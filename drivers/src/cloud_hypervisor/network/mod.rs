//! The network of a machine. Its VMM lives in a network namespace of its own anyway; in there stand a
//! card for the machine, which the VMM's user may open, a way out to the host, and rules of packets that
//! neither the machine nor its VMM can change. All of it ends with the last process of the namespace: there
//! is nothing to find again after an accident but the host's end of the way out, which has the name of the
//! VMM's user.
//!
//! What the machine sends passes, in this order: only its own card's and IPv4 address, nothing of IPv6;
//! questions for names, redirected to the host's resolvers; what nobody may reach; what its policy denies;
//! what it allows. The host looks once more: nothing for itself, nothing for other sandboxes, and nothing
//! to a sandbox that is not an answer.

mod addresses;
mod check;
mod commands;
mod host;
mod rules;
mod settings;
mod tools;

use std::{
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use domain::egress::EgressPolicy;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, netdevice::name_to_index, socket},
};

pub use self::settings::NetworkConfig;
use self::{
    addresses::Addresses,
    commands::{INSIDE, Plan},
    host::Host,
    rules::Rules,
};
pub(super) use self::{addresses::GUEST_MAC, check::check, rules::GUEST};
use super::CloudHypervisorConfig;
use crate::{
    guest::Card,
    jail::{
        self,
        failure::{Doing, Failure, Result},
        processes::Process,
    },
};

/// The networks of this server's machines.
#[derive(Debug, Clone)]
pub(super) struct Network<'a> {
    config: &'a NetworkConfig,
    first_uid: u32,
    n_uids: u32,
}

impl<'a> Network<'a> {
    /// None if there are to be none, or if the server may not make any.
    pub fn of(config: &'a CloudHypervisorConfig) -> Option<Self> {
        let CloudHypervisorConfig { network, first_uid, n_uids, .. } = config;
        let network = network.as_ref().filter(|_| jail::is_root());
        network.map(|config| Self { config, first_uid: *first_uid, n_uids: *n_uids })
    }

    /// What the VMM opens its card by.
    pub fn tun(&self) -> &Path {
        &self.config.tun
    }

    /// Makes the network of a VMM that has no machine yet, and returns what the machine is told of it.
    pub async fn open(&self, vmm: Process, uid: u32, egress: &EgressPolicy) -> Result<Card> {
        let addresses = self.addresses()?;
        let (namespace, held) = namespace(vmm)?;
        let host = Host::look().await?;
        let resolvers = host::resolvers(&self.config.resolvers);
        let host_addresses: Vec<_> =
            host.addresses.iter().map(|(_, network)| network.addr()).collect();
        let rules = Rules {
            addresses,
            egress,
            resolvers: &resolvers,
            host: &host_addresses,
            denied: &self.config.denied,
        };
        let n_resolvers = if rules.resolves_names() { resolvers.len() } else { 0 };
        let uplink = addresses.uplink(uid.saturating_sub(self.first_uid));
        let plan = Plan { addresses, uplink, uid, n_resolvers, mtu: host.mtu };
        close(uid).await?;
        let host_rules = rules::host(addresses, &resolvers);
        // There is no machine before all of it is there, so it does not matter what comes first.
        tokio::try_join!(
            tools::run("nft", ["-f", "-"], &host_rules),
            build(&plan, &namespace, &rules)
        )?;
        drop(held);
        Ok(Card {
            mac: GUEST_MAC.to_owned(),
            address: format!("{}/{}", addresses.guest(), addresses.link_prefix()),
            gateway: addresses.gateway(),
            resolvers: addresses.resolvers(n_resolvers),
            mtu: host.mtu,
        })
    }

    fn addresses(&self) -> Result<Addresses> {
        Addresses::new(self.config.pool, self.n_uids)
    }
}

/// Makes the way out, and in the namespace the machine's card and its rules.
async fn build(plan: &Plan, namespace: &Path, rules: &Rules<'_>) -> Result<()> {
    tools::run("ip", ["-batch", "-"], &plan.outside(namespace)).await?;
    let net = format!("--net={}", namespace.display());
    let inside = plan.inside();
    let arguments = [&*net, "--", "/bin/sh", "-ec", INSIDE, "network", &inside];
    tools::run("nsenter", arguments, &rules.text()).await.map(drop)
}

/// Takes away what the host has of the network of a user's VMM, if it has anything. The rest has ended
/// with the VMM.
pub(super) async fn close(uid: u32) -> Result<()> {
    let name = Plan::host_name(uid);
    if !is_there(&name)? {
        return Ok(());
    }
    match tools::run("ip", ["link", "delete", "dev", &name], "").await {
        // It goes by itself a moment after the last process inside.
        Err(failure) => {
            if is_there(&name)? {
                Err(failure)
            } else {
                Ok(())
            }
        }
        Ok(_) => Ok(()),
    }
}

fn is_there(card: &str) -> Result<bool> {
    let looking = || {
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        match name_to_index(&socket, card) {
            Ok(_) => Ok(true),
            Err(Errno::NODEV) => Ok(false),
            Err(errno) => Err(errno),
        }
    };
    looking().doing("look for network card", Path::new(card))
}

/// The network namespace of a process: a path of it for other programs, and what must be held on to for
/// as long as they use that, so that it never is another process's.
fn namespace(process: Process) -> Result<(PathBuf, File)> {
    let path = PathBuf::from(format!("/proc/{}/ns/net", process.pid));
    let held = File::open(&path).doing("open", &path)?;
    let own = Path::new("/proc/self/ns/net");
    let is_own = held.metadata().doing("look at", &path)?.ino()
        == std::fs::metadata(own).doing("look at", own)?.ino();
    // Whatever has the id now was opened after it was seen to be the VMM, or is not alive as that.
    if is_own || !process.is_alive() {
        return Err(Failure::host("the VMM has no network namespace of its own"));
    }
    let path = format!("/proc/{}/fd/{}", std::process::id(), held.as_raw_fd());
    Ok((path.into(), held))
}

/// Holds a text against the file of this name in the folder `golden`; `UPDATE=1` writes it instead.
#[cfg(test)]
fn golden(name: &str, text: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cloud_hypervisor/network/golden");
    let path = folder.join(name).with_extension("txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "{}; UPDATE=1 writes it anew", path.display());
}
