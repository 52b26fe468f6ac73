//! What a stranger's code finds in a machine: another kernel, its own devices only, no rights, and nothing
//! of the host.

use drivers::{
    Limits, Spec, Template,
    contract::{sandbox::Sandbox, spec},
};

use crate::{
    host::RealHost,
    traces::{Host as _, remove_without_a_trace},
};

#[tokio::test]
async fn a_machine_is_one_of_its_own() {
    let host = RealHost::new();
    let one = Sandbox::with(host.driver(), &spec()).await;
    let other = Sandbox::with(host.driver(), &spec()).await;
    for (command, wanted, why) in [
        ("id -u", "1000\n", "an ordinary user"),
        ("cat /proc/1/comm", "init\n", "the agent's own parent is the first process"),
        ("hostname", "sandbox\n", "a name of its own"),
        ("ls /sys/class/net", "eth0\nlo\n", "one network card"),
        ("ls /workspace", "", "nothing in the workspace"),
        ("cat /dev/vda 2>&1 | head -c 40", "cat: /dev/vda: Permission denied\n", "its image"),
        ("cat /dev/vdb 2>&1 | head -c 40", "cat: /dev/vdb: Permission denied\n", "its disk"),
        ("dmesg 2>&1 | grep -c 'not permitted'", "1\n", "the kernel's log"),
        ("echo x 2>&1 >/etc/x | grep -c denied", "1\n", "the system"),
        ("mount -t tmpfs x /mnt 2>&1 | grep -c -i 'superuser\\|permission'", "1\n", "no mounts"),
    ] {
        assert_eq!(one.printed(command).await, wanted, "{why}: {command}");
    }
    assert!(one.printed("grep ' / overlay ' /proc/mounts").await.contains("nosuid"));
    let of = async |sandbox: &Sandbox, command: &str| sandbox.printed(command).await;
    for unique in ["cat /etc/machine-id", "cat /proc/sys/kernel/random/boot_id"] {
        let both = [of(&one, unique).await, of(&other, unique).await];
        assert_ne!(both[0], both[1], "{unique}");
        assert!(both.iter().all(|id| id.trim().len() >= 32), "{both:?}");
    }
    // The host's clock, to a few seconds on slow machines.
    let told: i64 = of(&one, "date +%s").await.trim().parse().unwrap();
    let now = now();
    assert!((now - told).abs() <= 10, "{told} where it is {now}");
    one.remove().await;
    remove_without_a_trace(&host, other.id).await;
}

/// In an image as `crownest template` builds it.
#[tokio::test]
async fn python_and_node_run() {
    let host = RealHost::new();
    let template = Template { slug: "python-node".to_owned(), ..spec().template };
    let limits = Limits { memory_mib: 512, ..spec().limits };
    let sandbox = Sandbox::with(host.driver(), &Spec { template, limits, ..spec() }).await;
    for (command, wanted) in [
        ("python3 -c 'print(sum(range(10)))'", "45\n"),
        ("node -e 'console.log([1, 2, 3].map(n => n * n).join())'", "1,4,9\n"),
        ("echo 'import json; print(json.dumps([1]))' > a.py && python3 a.py", "[1]\n"),
    ] {
        assert_eq!(sandbox.printed(command).await, wanted, "{command}");
    }
    remove_without_a_trace(&host, sandbox.id).await;
}

/// Nobody listens to a machine on the host's side once it is up.
#[tokio::test]
async fn the_hosts_ports_are_closed_to_a_machine() {
    let host = RealHost::new();
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    let run = host.run_directory(sandbox.id).join("vm");
    let sockets: Vec<_> = std::fs::read_dir(run)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("vsock_"))
        .collect();
    assert_eq!(sockets, Vec::<String>::new());
    remove_without_a_trace(&host, sandbox.id).await;
}

#[expect(clippy::disallowed_methods, reason = "a test of clocks")]
fn now() -> i64 {
    chrono::Utc::now().timestamp()
}
