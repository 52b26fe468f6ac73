//! What becomes of networks when servers and VMMs die, and what a host that lacks something is told.

use std::fs;

use domain::egress::EgressPolicy;
use drivers::{
    Driver as _,
    cloud_hypervisor::{CloudHypervisor, CloudHypervisorConfig, NetworkConfig},
    contract::{new_id, sandbox::Sandbox, spec},
    guest::Guest,
};

use super::{
    card::Machine,
    world::{LONG, SITE, World},
};
use crate::{
    local_host::kill,
    machines::server,
    traces::{self, Host as _, listing_clears_away, remove_without_a_trace},
};

#[tokio::test]
async fn a_network_outlives_its_server() {
    let Some(world) = World::enter("network::lives::a_network_outlives_its_server") else { return };
    let id = new_id();
    assert!(server(&world.host, id).wait().unwrap().success());
    let driver = world.host.driver();
    let listed = driver.list().await.unwrap();
    assert_eq!(driver.ensure(id, &spec()).await.unwrap(), listed[0], "adopted as it is");
    let guest = Guest::connect(&*driver, id).await.unwrap();
    let machine = Machine::new(&world.host, Sandbox { driver, id, guest });
    assert!(machine.reaches(&format!("{SITE}:80")).is_some());
    assert_eq!(world.cards().len(), 1);
    remove_without_a_trace(&world.host, id).await;
    assert_eq!(world.cards(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_be_killed_at_any_instant() {
    let Some(world) = World::enter("network::lives::a_server_may_be_killed_at_any_instant") else {
        return;
    };
    let host = &world.host;
    traces::a_server_may_be_killed_at_any_instant(host, |id| server(host, id), 30).await;
    assert_eq!(world.cards(), Vec::<String>::new());
}

#[tokio::test]
async fn a_network_ends_with_its_vmm() {
    let Some(world) = World::enter("network::lives::a_network_ends_with_its_vmm") else { return };
    let machine = world.machine(EgressPolicy::allow_all()).await;
    let (id, driver) = (machine.sandbox.id, world.host.driver());
    kill(world.host.vmm_pid(id));
    // What still holds on to the namespace is the stand-in for the guest.
    listing_clears_away(&world.host, &*driver, id).await;
    assert_eq!(world.cards(), Vec::<String>::new(), "it is cleared away all the same");
    drop(machine);
    // Its user, and with it its addresses, are free for the next one.
    let machine = world.machine(EgressPolicy::allow_all()).await;
    assert!(machine.reaches(&format!("{SITE}:80")).is_some());
    remove_without_a_trace(&world.host, machine.sandbox.id).await;
}

/// It takes nothing of the host while it sleeps, and has the same network afterwards.
#[tokio::test]
async fn a_network_is_made_anew_for_who_was_suspended() {
    let Some(world) = World::enter("network::lives::a_network_is_made_anew_for_who_was_suspended")
    else {
        return;
    };
    let machine = world.machine(EgressPolicy::allow_all()).await;
    let (driver, id) = (world.host.driver(), machine.sandbox.id);
    let address = machine.address_outside();
    let suspend = driver.as_suspend().unwrap();
    suspend.suspend(id).await.unwrap();
    assert_eq!(world.cards(), Vec::<String>::new());
    drop(machine);
    suspend.resume(id).await.unwrap();
    let guest = Guest::connect(&*driver, id).await.unwrap();
    let machine = Machine::new(&world.host, Sandbox { driver, id, guest });
    assert_eq!(machine.address_outside(), address);
    assert!(machine.reaches(&format!("{SITE}:80")).is_some());
    remove_without_a_trace(&world.host, id).await;
    assert_eq!(world.cards(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_networks_are_made_at_once() {
    let Some(world) = World::enter("network::lives::many_networks_are_made_at_once") else {
        return;
    };
    let ids: Vec<_> = (0..8).map(|_| new_id()).collect();
    // Each by a server of its own: they share users, addresses and the host's rules.
    let servers: Vec<_> = ids.iter().map(|id| server(&world.host, *id)).collect();
    for mut server in servers {
        assert!(server.wait().unwrap().success());
    }
    assert_eq!(world.cards().len(), ids.len());
    for id in ids {
        remove_without_a_trace_of_one(&world, id).await;
    }
    assert_eq!(world.cards(), Vec::<String>::new());
}

async fn remove_without_a_trace_of_one(world: &World, id: domain::id::SandboxId) {
    world.host.driver().remove(id).await.unwrap();
    assert!(!world.host.run_directory(id).exists());
}

/// What an operator did to the host's own rules is undone by the next sandbox.
#[tokio::test]
async fn the_hosts_rules_come_back_with_the_next_sandbox() {
    let Some(world) =
        World::enter("network::lives::the_hosts_rules_come_back_with_the_next_sandbox")
    else {
        return;
    };
    let site = format!("{SITE}:80");
    let first = world.machine(EgressPolicy::allow_all()).await;
    assert!(first.reaches(&site).is_some());
    world.outside.run("nft flush ruleset");
    let second = world.machine(EgressPolicy::allow_all()).await;
    for machine in [first, second] {
        assert!(machine.inside.connect(&site, LONG).is_ok());
        machine.sandbox.driver.remove(machine.sandbox.id).await.unwrap();
    }
}

#[tokio::test]
async fn a_host_is_told_what_it_lacks() {
    let Some(world) = World::enter("network::lives::a_host_is_told_what_it_lacks") else { return };
    let with = |change: &dyn Fn(&mut NetworkConfig)| {
        let mut config = world.host.config.clone();
        change(config.network.as_mut().unwrap());
        CloudHypervisor::new(config)
    };
    let about = async |driver: &CloudHypervisor, word: &str| {
        let told = driver.check().await.unwrap();
        told.into_iter().any(|one| one.what.contains(word) || one.remedy.contains(word))
    };
    let usual = with(&|_| {});
    for word in ["network", "forward", "firewall", "resolve"] {
        assert!(!about(&usual, word).await, "nothing to say of {word}");
    }
    world.outside.run("echo 0 >/proc/sys/net/ipv4/ip_forward");
    assert!(about(&usual, "net.ipv4.ip_forward=1").await);
    world.outside.run("echo 1 >/proc/sys/net/ipv4/ip_forward");
    let chain = "'{ type filter hook forward priority 0; policy drop; }'";
    world.outside.run(&format!("nft add table ip strict; nft add chain ip strict every {chain}"));
    assert!(about(&usual, "ip strict every").await);
    world.outside.run("nft delete table ip strict");
    for (driver, named) in [
        (with(&|config| config.tun = "/nowhere/at/all".into()), "module tun"),
        (with(&|config| config.pool = "198.51.0.0/16".parse().unwrap()), "198.51.100.1/24 of wan"),
        (with(&|config| config.pool = "100.96.0.0/30".parse().unwrap()), "use a larger one"),
    ] {
        let told = driver.check().await.unwrap_err().to_string();
        assert!(told.contains(named), "{told}");
    }
    let without = CloudHypervisorConfig { network: None, ..world.host.config.clone() };
    assert!(about(&CloudHypervisor::new(without), "machine_network").await);
    assert!(fs::read_dir(world.host.state_dir()).unwrap().all(|entry| {
        let name = entry.unwrap().file_name();
        name != "sandboxes"
    }));
}
