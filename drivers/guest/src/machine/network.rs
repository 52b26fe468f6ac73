//! The machine's network card and its loopback, as the host says that they are to be. Takes no part in what
//! may be reached: that is decided outside, where a machine has no say.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use protocol::Network;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder, new_connection};

/// Where the kernel tells of network cards.
const CARDS: &str = "/sys/class/net";
/// The one that leads back to the machine itself; it always is the first.
const LOOPBACK: u32 = 1;
const RESOLVERS: &str = "/etc/resolv.conf";
/// As many as a resolver reads.
const MAX_RESOLVERS: usize = 3;
const NO_IPV6: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";

/// What the host says, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    mac: String,
    address: Ipv4Addr,
    prefix: u8,
    gateway: Ipv4Addr,
    resolvers: Vec<IpAddr>,
    mtu: u32,
}

impl Settings {
    /// Reads what the host says.
    ///
    /// # Errors
    /// `InvalidInput` naming what makes no sense.
    pub fn of(told: &Network) -> io::Result<Self> {
        let wrong = |what: &str| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{what} makes no sense"))
        };
        let parts = told.address.split_once('/');
        let (address, prefix) = parts.ok_or_else(|| wrong("the network's address"))?;
        let resolvers: Option<Vec<IpAddr>> =
            told.dns_servers.iter().map(|server| server.parse().ok()).collect();
        Ok(Self {
            mac: told.mac.to_ascii_lowercase(),
            address: address.parse().map_err(|_| wrong("the network's address"))?,
            prefix: prefix
                .parse()
                .ok()
                .filter(|prefix| *prefix <= 32)
                .ok_or_else(|| wrong("the length of the network's prefix"))?,
            gateway: told.gateway.parse().map_err(|_| wrong("the gateway"))?,
            resolvers: resolvers
                .filter(|resolvers| resolvers.len() <= MAX_RESOLVERS)
                .ok_or_else(|| wrong("the list of resolvers"))?,
            mtu: told.mtu,
        })
    }

    fn resolv_conf(&self) -> String {
        self.resolvers.iter().map(|resolver| format!("nameserver {resolver}\n")).collect()
    }
}

/// Opens the loopback, which programs that talk to themselves need.
pub(super) async fn open_loopback() -> io::Result<()> {
    let netlink = connect()?;
    open(&netlink, LinkUnspec::new_with_index(LOOPBACK).up().build()).await
}

/// Gives the card its address, and says who resolves names.
pub(super) async fn set_up(settings: &Settings) -> io::Result<()> {
    let card = find_card(Path::new(CARDS), &settings.mac)?;
    // Nothing outside takes IPv6; a kernel without it has nothing to switch off.
    match fs::write(NO_IPV6, "1") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let netlink = connect()?;
    open(&netlink, LinkUnspec::new_with_index(card).mtu(settings.mtu).up().build()).await?;
    let address = netlink.address().add(card, settings.address.into(), settings.prefix);
    address.execute().await.map_err(io::Error::other)?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(settings.gateway).build();
    netlink.route().add(route).execute().await.map_err(io::Error::other)?;
    // The image may have a link there, to something that is not in it.
    match fs::remove_file(RESOLVERS) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::write(RESOLVERS, settings.resolv_conf())
}

/// Opens a way to the kernel, which ends with the last handle.
fn connect() -> io::Result<Handle> {
    let (connection, netlink, _) = new_connection()?;
    tokio::spawn(connection);
    Ok(netlink)
}

async fn open(
    netlink: &Handle,
    link: rtnetlink::packet_route::link::LinkMessage,
) -> io::Result<()> {
    netlink.link().set(link).execute().await.map_err(io::Error::other)
}

/// The number of the card with a hardware address.
fn find_card(cards: &Path, mac: &str) -> io::Result<u32> {
    for card in fs::read_dir(cards)? {
        let card = card?.path();
        let of = |name: &str| fs::read_to_string(card.join(name));
        if of("address").is_ok_and(|address| address.trim() == mac) {
            return of("ifindex")?.trim().parse().map_err(io::Error::other);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no network card {mac}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Network {
        Network {
            mac: "02:63:72:6F:77:02".to_owned(),
            address: "100.96.0.2/29".to_owned(),
            gateway: "100.96.0.1".to_owned(),
            dns_servers: vec!["100.96.0.3".to_owned(), "100.96.0.4".to_owned()],
            mtu: 1500,
        }
    }

    #[test]
    fn what_the_host_says_is_read() {
        let settings = Settings::of(&told()).unwrap();
        assert_eq!((settings.address, settings.prefix), (Ipv4Addr::new(100, 96, 0, 2), 29));
        assert_eq!(settings.mac, "02:63:72:6f:77:02", "as the kernel writes it");
        assert_eq!(settings.resolv_conf(), "nameserver 100.96.0.3\nnameserver 100.96.0.4\n");
    }

    #[test]
    fn nonsense_is_named() {
        let with = |change: fn(&mut Network)| {
            let mut network = told();
            change(&mut network);
            Settings::of(&network).unwrap_err().to_string()
        };
        for (text, word) in [
            (with(|n| n.address = "100.96.0.2".to_owned()), "address"),
            (with(|n| n.address = "fd00::1/64".to_owned()), "address"),
            (with(|n| n.address = "100.96.0.2/33".to_owned()), "prefix"),
            (with(|n| n.gateway = String::new()), "gateway"),
            (with(|n| n.dns_servers = vec!["nowhere".to_owned()]), "resolvers"),
            (with(|n| n.dns_servers = vec!["1.1.1.1".to_owned(); 4]), "resolvers"),
        ] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn a_card_is_found_by_its_address() {
        let folder = tempfile::tempdir().unwrap();
        for (name, address, index) in
            [("lo", "00:00:00:00:00:00", 1), ("eth0", "02:00:00:00:00:07", 2)]
        {
            let card = folder.path().join(name);
            fs::create_dir(&card).unwrap();
            fs::write(card.join("address"), format!("{address}\n")).unwrap();
            fs::write(card.join("ifindex"), format!("{index}\n")).unwrap();
        }
        assert_eq!(find_card(folder.path(), "02:00:00:00:00:07").unwrap(), 2);
        assert!(find_card(folder.path(), "02:00:00:00:00:08").is_err());
    }
}
