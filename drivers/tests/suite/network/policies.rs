//! What a machine reaches under each policy, and what it never does.

use std::sync::atomic::Ordering;

use domain::egress::EgressPolicy;

use super::{
    card::{ADDRESS, GATEWAY, Machine, NAMES},
    world::{
        HOST, LONG, METADATA, OTHER_SITE, PRIVATE, RESOLVER, SHORTLY, SITE, SITES, UDP_PORT, World,
        only,
    },
};
use crate::{machine_host::MachineHost, traces::remove_without_a_trace};

#[tokio::test]
async fn what_nothing_denies_is_reached_as_the_host() {
    let Some(world) = World::enter("network::policies::what_nothing_denies_is_reached_as_the_host")
    else {
        return;
    };
    let machine = world.machine(EgressPolicy::allow_all()).await;
    for site in [SITE, OTHER_SITE] {
        let seen = machine.reaches(&format!("{site}:80"));
        assert_eq!(seen.as_deref(), Some(HOST), "{site} sees the host's address");
        let seen = machine.inside.ask(&format!("{site}:{UDP_PORT}"), LONG);
        assert_eq!(seen.unwrap(), HOST, "{site} by UDP");
    }
    assert_eq!(machine.inside.ask(NAMES, LONG).unwrap(), HOST, "a question for a name");
    assert_eq!(world.n_questions.load(Ordering::Relaxed), 1, "which the resolver has heard");
    remove_without_a_trace(&world.host, machine.sandbox.id).await;
    assert_eq!(world.cards(), Vec::<String>::new());
}

/// What no sandbox may reach, whatever its policy says; the test makes sure that it would be there.
#[tokio::test]
async fn the_host_and_metadata_are_never_reached() {
    let Some(world) = World::enter("network::policies::the_host_and_metadata_are_never_reached")
    else {
        return;
    };
    let everything = only(&["0.0.0.0/0"], &[], &[]);
    for policy in [EgressPolicy::allow_all(), everything] {
        let machine = world.machine(policy).await;
        assert!(machine.reaches(&format!("{SITE}:80")).is_some());
        let outside = machine.address_outside();
        let host_end = format!("100.96.0.{}", last(&outside) - 1);
        for address in METADATA.into_iter().chain([PRIVATE, HOST, &host_end]) {
            let to = format!("{address}:80");
            assert!(world.outside.connect(&to, LONG).is_ok(), "{to} is there");
            assert!(machine.is_refused(&to), "{to}");
            let udp = machine.inside.ask(&format!("{address}:{UDP_PORT}"), SHORTLY);
            assert!(udp.is_err(), "{address} by UDP");
        }
        for address in [GATEWAY, &outside, "100.96.0.3", "100.96.0.7"] {
            assert!(
                machine.inside.connect(&format!("{address}:80"), SHORTLY).is_err(),
                "{address}"
            );
        }
        // Only questions for names, and only by the way that is meant for them.
        assert!(machine.is_refused("100.96.0.3:80"));
        assert!(machine.inside.ask(NAMES, LONG).is_ok());
        machine.sandbox.driver.remove(machine.sandbox.id).await.unwrap();
    }
}

#[tokio::test]
async fn sandboxes_do_not_reach_each_other() {
    let Some(world) = World::enter("network::policies::sandboxes_do_not_reach_each_other") else {
        return;
    };
    let a = world.machine(EgressPolicy::allow_all()).await;
    let b = world.machine(only(&["0.0.0.0/0"], &[], &[])).await;
    b.inside.serve_tcp(&[80]);
    b.inside.serve_udp(&[ADDRESS], UDP_PORT);
    let to = b.address_outside();
    assert_ne!(to, a.address_outside());
    assert!(a.is_refused(&format!("{to}:80")));
    assert!(a.inside.ask(&format!("{to}:{UDP_PORT}"), SHORTLY).is_err());
    // Nor does anybody else start talking to one.
    assert!(world.outside.connect(&format!("{to}:80"), SHORTLY).is_err());
    world.internet.run("ip route add 100.96.0.0/18 via 198.51.100.1");
    assert!(world.internet.connect(&format!("{to}:80"), SHORTLY).is_err());
    // Even if the rules around it were gone, and a namespace sent what it liked, the host is in the way.
    a.vmm.run("nft flush ruleset");
    assert!(a.vmm.connect(&format!("{SITE}:80"), LONG).is_ok(), "there is a way");
    for address in [&*to, HOST] {
        for port in [80, UDP_PORT] {
            let to = format!("{address}:{port}");
            assert!(a.vmm.connect(&to, SHORTLY).is_err(), "{to}");
            assert!(a.vmm.ask(&to, SHORTLY).is_err(), "{to}");
        }
    }
    for machine in [a, b] {
        machine.sandbox.driver.remove(machine.sandbox.id).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_denied_is_refused_and_nobody_is_asked_for_names() {
    let Some(world) =
        World::enter("network::policies::what_is_denied_is_refused_and_nobody_is_asked_for_names")
    else {
        return;
    };
    let machine = world.machine(EgressPolicy::deny_all()).await;
    for to in [format!("{SITE}:80"), format!("{RESOLVER}:443")] {
        assert!(machine.is_refused(&to), "{to}");
    }
    for to in [NAMES, &format!("{RESOLVER}:53"), &format!("{SITE}:{UDP_PORT}")] {
        assert!(machine.inside.ask(to, SHORTLY).is_err(), "{to}");
    }
    assert_eq!(world.n_questions.load(Ordering::Relaxed), 0);
    machine.sandbox.driver.remove(machine.sandbox.id).await.unwrap();
}

#[tokio::test]
async fn networks_and_ports_are_allowed_after_what_is_denied() {
    let Some(world) =
        World::enter("network::policies::networks_and_ports_are_allowed_after_what_is_denied")
    else {
        return;
    };
    // 203.0.113.0 to .127, of which .53 is denied again.
    let deny = format!("{RESOLVER}/32");
    let machine = world.machine(only(&[SITES], &[&deny], &[443, 8080])).await;
    for (to, is_reached, why) in [
        (format!("{SITE}:443"), true, "an allowed network and port"),
        (format!("{SITE}:8080"), true, "another port"),
        (format!("{SITE}:80"), false, "not a port that is allowed"),
        (format!("{OTHER_SITE}:443"), false, "not a network that is allowed"),
        (format!("{RESOLVER}:443"), false, "denied first"),
    ] {
        assert_eq!(machine.reaches(&to).is_some(), is_reached, "{why}: {to}");
        assert_eq!(machine.is_refused(&to), !is_reached, "{why}: {to}");
    }
    assert!(machine.inside.ask(&format!("{SITE}:{UDP_PORT}"), SHORTLY).is_err(), "ports are TCP's");
    machine.sandbox.driver.remove(machine.sandbox.id).await.unwrap();
    let machine = world.machine(only(&[SITES], &[], &[])).await;
    assert!(machine.reaches(&format!("{SITE}:80")).is_some(), "without ports, any");
    assert!(machine.inside.ask(&format!("{SITE}:{UDP_PORT}"), LONG).is_ok(), "and by any protocol");
    assert!(machine.is_refused(&format!("{OTHER_SITE}:80")));
    machine.sandbox.driver.remove(machine.sandbox.id).await.unwrap();
}

/// Under a narrow policy names are found, but nobody carries much out by asking.
#[tokio::test]
async fn questions_for_names_are_few_where_little_is_allowed() {
    let Some(world) =
        World::enter("network::policies::questions_for_names_are_few_where_little_is_allowed")
    else {
        return;
    };
    let machine = world.machine(only(&[SITES], &["203.0.113.53/32"], &[443])).await;
    assert_eq!(machine.inside.ask(NAMES, LONG).unwrap(), HOST, "though it is denied by itself");
    let started = std::time::Instant::now();
    machine.inside.enter(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..2000 {
            socket.send_to(b"secrets.example.org", NAMES).unwrap();
        }
    });
    tokio::time::sleep(SHORTLY).await;
    let n_questions = world.n_questions.load(Ordering::Relaxed);
    // A hundred at once, and twenty for each second that it may have taken on a slow host.
    let most = 102 + 20 * u32::try_from(started.elapsed().as_secs() + 1).unwrap();
    assert!(n_questions > 50 && n_questions <= most, "{n_questions} of 2001, at most {most}");
    machine.sandbox.driver.remove(machine.sandbox.id).await.unwrap();
}

/// Sends to as many ports of a site as no sandbox may have connections.
fn connects_often(machine: &Machine) {
    machine.inside.enter(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        for port in 10_000..12_100 {
            socket.send_to(b"?", (SITE, port)).unwrap();
            if port % 50 == 0 {
                // The cable is slow, and what does not fit into its queue is lost.
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    });
}

/// The host keeps track of every connection in one table for all.
#[tokio::test]
async fn a_sandbox_has_so_many_connections_and_no_more() {
    let Some(world) =
        World::enter("network::policies::a_sandbox_has_so_many_connections_and_no_more")
    else {
        return;
    };
    let (greedy, other) = (
        world.machine(EgressPolicy::allow_all()).await,
        world.machine(only(&[SITES], &[], &[])).await,
    );
    let started = std::time::Instant::now();
    connects_often(&greedy);
    let count = greedy.vmm.script("cat /proc/sys/net/netfilter/nf_conntrack_count").output();
    let n_begun = String::from_utf8(count.unwrap().stdout).unwrap();
    let n_begun: u64 = n_begun.trim().parse().unwrap();
    // A thousand at once, and fifty for each second that it may have taken on a slow host.
    let most = 1002 + 50 * (started.elapsed().as_secs() + 1);
    assert!(n_begun > 900 && n_begun <= most, "{n_begun} of 2100, at most {most}");
    // Who takes more time reaches the other bound; what makes that take time goes.
    greedy.vmm.run(
        "handle=$(nft -a list chain inet crownest count | sed -n 's/.*limit rate over.* handle //p')
        nft delete rule inet crownest count handle $handle",
    );
    connects_often(&greedy);
    assert!(greedy.is_refused(&format!("{SITE}:80")));
    assert!(greedy.inside.ask(NAMES, LONG).is_ok(), "names are counted on their own");
    assert!(other.reaches(&format!("{SITE}:80")).is_some(), "and the others do not notice");
    for machine in [greedy, other] {
        machine.sandbox.driver.remove(machine.sandbox.id).await.unwrap();
    }
}

/// A host that has its resolver itself, and an operator who lets sandboxes into a private network.
#[tokio::test]
async fn an_operator_decides_on_resolvers_and_private_networks() {
    let Some(mut world) =
        World::enter("network::policies::an_operator_decides_on_resolvers_and_private_networks")
    else {
        return;
    };
    let mut host = MachineHost::new();
    let network = host.config.network.as_mut().unwrap();
    network.resolvers = vec![HOST.parse().unwrap()];
    network.denied = vec!["203.0.113.128/25".parse().unwrap()];
    world.host = host;
    let machine = world.machine(EgressPolicy::allow_all()).await;
    assert!(machine.inside.ask(NAMES, LONG).is_ok(), "the host answers questions for names");
    assert!(machine.is_refused(&format!("{HOST}:80")), "and nothing else");
    assert!(machine.inside.ask(&format!("{HOST}:{UDP_PORT}"), SHORTLY).is_err());
    assert!(machine.reaches(&format!("{PRIVATE}:80")).is_some(), "no longer denied");
    assert!(machine.is_refused(&format!("{OTHER_SITE}:80")), "denied instead");
    machine.sandbox.driver.remove(machine.sandbox.id).await.unwrap();
}

fn last(address: &str) -> u8 {
    address.rsplit('.').next().unwrap().parse().unwrap()
}
