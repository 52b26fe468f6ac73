//! What a sandbox of the local driver cannot see, reach or change, shown by commands that try.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::{linux::net::SocketAddrExt as _, unix::net as unix},
    process,
    sync::Arc,
};

use drivers::{
    contract::{sandbox::Sandbox, spec},
    guest::OutputStream,
};

use crate::local_host::LocalHost;

/// Runs a command line that must fail, and returns its complaint.
async fn fails(sandbox: &Sandbox, line: &str) -> String {
    let ended = sandbox.run(line).await;
    let printed = ended.text(OutputStream::Stdout);
    assert_ne!(ended.exit.exit_code, 0, "{line} succeeds and prints {printed:?}");
    ended.text(OutputStream::Stderr)
}

async fn sandbox(host: &LocalHost) -> Sandbox {
    Sandbox::with(Arc::new(host.driver()), &spec()).await
}

#[tokio::test]
async fn files_of_the_host_are_not_there() {
    let host = LocalHost::new();
    let canary = tempfile::NamedTempFile::new().unwrap();
    let sandbox = sandbox(&host).await;
    let state_dir = host.config.state_dir.display();
    for path in [
        canary.path().display().to_string(),
        state_dir.to_string(),
        format!("{state_dir}/sandboxes/{}/guest.sock", sandbox.id),
        "/etc/shadow".to_owned(),
        "/etc/hosts.allow".to_owned(),
        "/etc/machine-id".to_owned(),
        "/root".to_owned(),
        "/var/lib/dpkg".to_owned(),
        "/sys".to_owned(),
        "/run/systemd".to_owned(),
        "/dev/sda".to_owned(),
        "/dev/vda".to_owned(),
        "/dev/kvm".to_owned(),
        "/dev/fuse".to_owned(),
    ] {
        let complaint = fails(&sandbox, &format!("ls -d '{path}'")).await;
        assert!(complaint.contains("No such file"), "{path}: {complaint}");
    }
    assert_eq!(
        sandbox.printed("ls /home /tmp /run /var").await.trim(),
        "/home:\nuser\n\n/run:\n\n/tmp:\n\n/var:\ntmp"
    );
    let passwd = sandbox.printed("cat /etc/passwd").await;
    assert_eq!(passwd.lines().count(), 2, "{passwd}");
    let etc = sandbox.printed("ls /etc").await;
    let known = BTreeSet::from([
        "alternatives",
        "group",
        "hostname",
        "hosts",
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "localtime",
        "nsswitch.conf",
        "passwd",
        "ssl",
    ]);
    assert!(etc.lines().all(|name| known.contains(name)), "{etc}");
    sandbox.remove().await;
}

#[tokio::test]
async fn processes_of_the_host_and_of_other_sandboxes_are_not_there() {
    let host = LocalHost::new();
    let (one, other) = (sandbox(&host).await, sandbox(&host).await);
    let mut on_the_host = process::Command::new("sleep").arg("86399").spawn().unwrap();
    one.start("echo started; sleep 86398").await;
    let seen = other.printed("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; ls -d /proc/[0-9]*").await;
    assert!(!seen.contains("86399") && !seen.contains("86398"), "{seen}");
    assert!(seen.lines().count() < 10, "{seen}");
    let pid = on_the_host.id();
    assert!(fails(&other, &format!("kill -0 {pid}")).await.contains("No such process"));
    on_the_host.kill().unwrap();
    on_the_host.wait().unwrap();
    one.remove().await;
    other.remove().await;
}

#[tokio::test]
async fn nothing_of_the_servers_environment_gets_in() {
    let host = LocalHost::new();
    let sandbox = sandbox(&host).await;
    let known = [
        "CROWNEST_COMMAND_ID",
        "GREETING",
        "HOME",
        "LANG",
        "PATH",
        "PWD",
        "PYTHONDONTWRITEBYTECODE",
        "SHLVL",
        "TMPDIR",
        "USER",
        "_",
    ];
    let printed = sandbox.printed("env").await;
    let names = printed.lines().filter_map(|line| Some(line.split_once('=')?.0));
    let (known, unknown): (Vec<_>, Vec<_>) = names.partition(|name| known.contains(name));
    assert!(known.contains(&"GREETING"), "{printed}");
    assert_eq!(unknown, Vec::<&str>::new());
    sandbox.remove().await;
}

#[tokio::test]
async fn nobody_on_the_host_can_be_called() {
    let host = LocalHost::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let abstract_name = format!("crownest-canary-{}", process::id());
    let address = unix::SocketAddr::from_abstract_name(&abstract_name).unwrap();
    let _abstract_listener = unix::UnixListener::bind_addr(&address).unwrap();
    let sandbox = sandbox(&host).await;
    for address in ["127.0.0.1", "::1", "localhost"] {
        fails(&sandbox, &format!("bash -c 'exec 3<>/dev/tcp/{address}/{port}'")).await;
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let interfaces = sandbox.printed("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").await;
    assert_eq!(interfaces, "lo\n");
    let sockets = sandbox.printed("cat /proc/net/unix").await;
    assert!(!sockets.contains(&abstract_name), "{sockets}");
    sandbox.remove().await;
}

#[tokio::test]
async fn every_sandbox_has_namespaces_of_its_own() {
    const KINDS: [&str; 7] = ["user", "pid", "net", "ipc", "uts", "mnt", "cgroup"];
    let host = LocalHost::new();
    let (one, other) = (sandbox(&host).await, sandbox(&host).await);
    let links = KINDS.map(|kind| format!("/proc/self/ns/{kind}")).join(" ");
    let inside = async |sandbox: &Sandbox| sandbox.printed(&format!("readlink {links}")).await;
    let (of_one, of_other) = (inside(&one).await, inside(&other).await);
    for (index, kind) in KINDS.iter().enumerate() {
        let of_host = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let of_host = of_host.to_str().unwrap();
        let (a, b) = (of_one.lines().nth(index).unwrap(), of_other.lines().nth(index).unwrap());
        assert!(a != b && a != of_host && b != of_host, "{kind}: {a} {b} {of_host}");
    }
    assert_eq!(one.printed("hostname; cat /etc/hostname").await, "sandbox\nsandbox\n");
    one.remove().await;
    other.remove().await;
}

#[tokio::test]
async fn a_sandbox_has_no_power_over_the_host() {
    let host = LocalHost::new();
    let (one, other) = (sandbox(&host).await, sandbox(&host).await);
    let own = rustix::process::geteuid();
    let (first, second) = (host.uid_outside(one.id), host.uid_outside(other.id));
    if own.is_root() {
        let range = host.config.first_uid..host.config.first_uid + host.config.n_uids;
        assert!(first != second && range.contains(&first) && range.contains(&second));
    } else {
        assert_eq!((first, second), (own.as_raw(), own.as_raw()));
    }
    assert_eq!(one.printed("id -u; id -g; id -Gn").await, "1000\n1000\nuser\n");
    let status = one.printed("grep -E '^(Cap|NoNewPrivs)' /proc/self/status").await;
    for line in status.lines() {
        let (name, value) = line.split_once(":\t").unwrap();
        let wanted = if name == "NoNewPrivs" { "1" } else { "0000000000000000" };
        assert_eq!(value, wanted, "{name}");
    }
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    for line in [
        "unshare --user --map-root-user true",
        "unshare --mount true",
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /usr",
        "echo canary > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "mknod /tmp/disk b 254 0",
        "chroot / true",
        "hostname canary",
        "touch /canary",
        "touch /usr/canary",
        "touch /etc/canary",
        "touch /dev/canary",
        "touch /opt/crownest/canary",
        "echo x >> /etc/passwd",
        "echo x >> /opt/crownest/*/guest",
        "cat /dev/mem",
        "dmesg",
        "nice -n -5 true",
    ] {
        let ended = one.run(line).await;
        let complaint = ended.text(OutputStream::Stderr);
        // nice complains, but then runs its program.
        assert!(ended.exit.exit_code != 0 || complaint.contains("cannot set"), "{line}");
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), pattern);
    one.remove().await;
    other.remove().await;
}

#[tokio::test]
async fn the_agent_cannot_be_killed_from_inside() {
    let host = LocalHost::new();
    let sandbox = sandbox(&host).await;
    let before = sandbox.guest.hello().await.unwrap();
    for signal in ["KILL", "TERM", "STOP", "INT", "SEGV"] {
        sandbox.run(&format!("kill -{signal} 1")).await;
    }
    assert_eq!(sandbox.guest.hello().await.unwrap(), before);
    assert!(sandbox.driver.observe(sandbox.id).await.unwrap().is_some());
    sandbox.remove().await;
}

/// A descriptor of the server that leaked would be a way out that no namespace closes.
#[tokio::test]
async fn no_descriptor_of_the_host_is_open_inside() {
    let host = LocalHost::new();
    let sandbox = sandbox(&host).await;
    let of_command = sandbox.printed("ls -l /proc/self/fd | sed -n 's/.*-> //p'").await;
    // Of the agent only root may know.
    let of_agent = fs::read_dir(format!("/proc/{}/fd", host.agent_pid(sandbox.id)));
    let of_agent: Vec<_> = of_agent.into_iter().flatten().flatten().collect();
    assert_eq!(of_agent.is_empty(), !rustix::process::geteuid().is_root());
    let of_agent = of_agent.iter().filter_map(|entry| fs::read_link(entry.path()).ok());
    let of_agent: Vec<_> = of_agent.map(|path| path.display().to_string()).collect();
    for link in of_command.lines().chain(of_agent.iter().map(String::as_str)) {
        let harmless = ["socket:", "pipe:", "anon_inode:", "/dev/null", "/proc/"];
        let own = link == "/workspace" || harmless.iter().any(|prefix| link.starts_with(prefix));
        assert!(own, "{link}");
    }
    sandbox.remove().await;
}

/// Keys belong to the server's session, the kernel's log to the whole host, and vsock reaches the
/// hypervisor, whatever the namespaces.
#[tokio::test]
async fn calls_that_lead_around_namespaces_do_not_exist() {
    let host = LocalHost::new();
    let sandbox = sandbox(&host).await;
    let errno = async |call: &str| {
        sandbox.printed(&format!("perl -e 'print {call} >= 0 ? 0 : $!+0'")).await
    };
    // keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0), and the same for 32-bit programs.
    let (keyctl, second, syslog, socket, socketpair) = if cfg!(target_arch = "x86_64") {
        (250, "1073742074", 103, 41, 53)
    } else {
        (219, "", 116, 198, 199)
    };
    assert_eq!(errno(&format!("syscall({keyctl}, 0, -3, 0)")).await, "38");
    if !second.is_empty() {
        assert_eq!(errno(&format!("syscall({second}, 0, -3, 0)")).await, "38");
    }
    // syslog(SYSLOG_ACTION_SIZE_BUFFER), which a host may let everybody do.
    assert_eq!(errno(&format!("syscall({syslog}, 10, 0, 0)")).await, "38", "syslog");
    assert_eq!(errno("syscall(425, 1, 0)").await, "38", "io_uring");
    for (name, family, wanted) in [
        ("unix", 1, "0"),
        ("IPv4", 2, "0"),
        ("packet", 17, "97"),
        ("alg", 38, "97"),
        ("vsock", 40, "97"),
    ] {
        let call = format!("syscall({socket}, {family}, 1, 0)");
        assert_eq!(errno(&call).await, wanted, "{name}");
        // The kernel itself has pairs of Unix sockets and no others here.
        let wanted = if name == "IPv4" { "95" } else { wanted };
        let call = format!("syscall({socketpair}, {family}, 1, 0, $pair = chr(0) x 8)");
        assert_eq!(errno(&call).await, wanted, "a pair of {name}");
    }
    sandbox.remove().await;
}
