//! A machine, or a VMM, that does not do as it was told: other addresses, other protocols, other users.

use domain::egress::EgressPolicy;

use super::{
    card::{ADDRESS, GATEWAY, MAC, NAMES, may_open},
    namespace::Namespace,
    world::{LONG, SHORTLY, SITE, SITE_6, UDP_PORT, World, only},
};

#[tokio::test]
async fn another_address_gains_nothing() {
    let Some(world) = World::enter("network::spoofing::another_address_gains_nothing") else {
        return;
    };
    let site = format!("{SITE}:80");
    let machine = world.machine(EgressPolicy::allow_all()).await;
    assert!(machine.reaches(&site).is_some());
    for address in ["100.96.0.6/29", "100.96.0.9/18", "203.0.113.77/24", "169.254.1.1/16"] {
        machine.inside.run(&format!(
            "ip address flush dev card; ip address add {address} dev card
            ip route replace {GATEWAY} dev card; ip route replace default via {GATEWAY}"
        ));
        assert!(machine.hears_nothing(&site), "{address}");
        assert!(machine.hears_nothing(&format!("{SITE}:{UDP_PORT}")), "{address}");
        assert!(machine.inside.ask(NAMES, SHORTLY).is_err(), "{address}");
    }
    let own = format!(
        "ip address flush dev card; ip address add {ADDRESS}/29 dev card
        ip route replace default via {GATEWAY}"
    );
    machine.inside.run(&own);
    assert!(machine.reaches(&site).is_some(), "its own again");
    let anew = format!("ip link set card up; {own}");
    machine.inside.run(&format!("ip link set card down address 02:63:72:6f:77:09; {anew}"));
    assert!(machine.hears_nothing(&site), "another card's address");
    assert!(machine.inside.ask(NAMES, SHORTLY).is_err());
    machine.inside.run(&format!("ip link set card down address {MAC}; {anew}"));
    assert!(machine.reaches(&site).is_some());
    // One that says that others' addresses are its own draws nothing to itself.
    machine.inside.run("ip address add 100.96.0.7/32 dev card");
    let asked = machine.vmm.script("ip neighbor show dev guest").output().unwrap();
    let neighbors = String::from_utf8(asked.stdout).unwrap();
    assert_eq!(neighbors.trim(), format!("{ADDRESS} lladdr {MAC} PERMANENT"));
    machine.sandbox.driver.remove(machine.sandbox.id).await.unwrap();
}

#[tokio::test]
async fn nothing_but_ipv4_passes() {
    let Some(world) = World::enter("network::spoofing::nothing_but_ipv4_passes") else { return };
    let site = format!("[{SITE_6}]:{UDP_PORT}");
    assert!(world.outside.ask(&site, LONG).is_ok(), "it is there");
    let machine = world.machine(EgressPolicy::allow_all()).await;
    machine.inside.run(
        "ip address add 2001:db8:9::2/64 dev card nodad; ip address add fe80::2/64 dev card nodad
        ip neighbor add fe80::1 lladdr 02:63:72:6f:77:01 dev card
        ip -6 route add default via fe80::1 dev card",
    );
    assert!(machine.hears_nothing(&site));
    let asked = machine.vmm.script("ip -6 address show").output().unwrap();
    let text = String::from_utf8(asked.stdout).unwrap();
    assert!(!text.contains("inet6"), "the namespace has no IPv6 at all: {text}");
    machine.sandbox.driver.remove(machine.sandbox.id).await.unwrap();
}

/// A VMM that was taken over by its guest is no better off than the guest.
#[tokio::test]
async fn a_vmm_neither_talks_nor_changes_rules_nor_opens_others_cards() {
    let Some(world) = World::enter(
        "network::spoofing::a_vmm_neither_talks_nor_changes_rules_nor_opens_others_cards",
    ) else {
        return;
    };
    let policy = only(&["203.0.113.0/24"], &[], &[]);
    let (machine, other) =
        (world.machine(policy).await, world.machine(EgressPolicy::deny_all()).await);
    assert!(machine.reaches(&format!("{SITE}:80")).is_some());
    for to in [format!("{SITE}:80"), "100.96.0.8:80".to_owned(), format!("{ADDRESS}:80")] {
        assert!(machine.vmm.connect(&to, SHORTLY).is_err(), "{to}");
        assert!(machine.vmm.ask(&to, SHORTLY).is_err(), "{to}");
    }
    let uid = machine.uid;
    assert_ne!(uid, other.uid);
    for script in
        ["nft flush ruleset", "ip link set uplink down", "ip address add 1.2.3.4 dev guest"]
    {
        let as_vmm = format!("setpriv --reuid {uid} --regid {uid} --clear-groups {script}");
        let status = machine.vmm.script(&as_vmm).output().unwrap().status;
        assert!(!status.success(), "{script}");
    }
    assert!(machine.reaches(&format!("{SITE}:80")).is_some());
    let (id, pid) = (machine.sandbox.id, world.host.vmm_pid(machine.sandbox.id));
    // The card is free then, so it is only asked who wants it.
    drop(machine);
    assert!(!may_open(&world.host, other.uid, &Namespace::of(pid)));
    assert!(may_open(&world.host, uid, &Namespace::of(pid)));
    for id in [id, other.sandbox.id] {
        other.sandbox.driver.remove(id).await.unwrap();
    }
}
