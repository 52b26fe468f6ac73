//! The Cloud Hypervisor driver with the stand-in VMM: its jail, servers and VMMs that die, hosts that lack
//! something, and the whole of its client.

use std::{
    env,
    fs::{self, File},
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use domain::id::SandboxId;
use drivers::{
    Driver as _, ErrorKind, Limitation, Limits, Spec, Suspend as _,
    cloud_hypervisor::{
        CloudHypervisor, CloudHypervisorConfig,
        client::Client,
        wire::{MemoryRestoreMode, RestoreConfig, VmResize, VmState},
    },
    contract::{
        new_id,
        sandbox::{Sandbox, command},
        spec,
    },
};

use crate::{
    local_host::{is_dead, kill},
    machine_host::{MachineHost, STAND_IN, config},
    run::{skipped, wait_until},
    schema,
    traces::{self, Host as _, listing_clears_away, remove_without_a_trace},
};

const DIRECTORY: &str = "CROWNEST_TEST_MACHINES";
const SANDBOX: &str = "CROWNEST_TEST_MACHINE";
const DEED: &str = "CROWNEST_TEST_MACHINE_DEED";

/// What the process does that the tests below start and kill: it is a server that makes one sandbox,
/// or does something else to it.
/// Without one of those tests around it, it has nothing to do.
#[tokio::test]
async fn a_server_that_is_about_to_die() {
    let (Some(directory), Ok(id)) = (env::var_os(DIRECTORY), env::var(SANDBOX)) else { return };
    let driver = CloudHypervisor::new(config(Path::new(&directory)));
    let id = id.parse().unwrap();
    match env::var(DEED).as_deref() {
        Ok("suspend") => driver.suspend(id).await.unwrap(),
        Ok("resume") => drop(driver.resume(id).await.unwrap()),
        Ok("take a spare") => {
            let config = CloudHypervisorConfig {
                warm_start: true,
                n_spares: 1,
                ..config(Path::new(&directory))
            };
            let driver = CloudHypervisor::new(config);
            driver.prepare(&spec()).await.unwrap();
            driver.ensure(id, &spec()).await.unwrap();
        }
        _ => drop(driver.ensure(id, &spec()).await.unwrap()),
    }
}

/// Starts another server, as a process of its own, that makes this sandbox.
pub fn server(host: &MachineHost, id: SandboxId) -> Child {
    server_that(host, id, "ensure")
}

/// The same, with something else to do.
pub fn server_that(host: &MachineHost, id: SandboxId, deed: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "machines::a_server_that_is_about_to_die"])
        .env(DIRECTORY, host.directory.path())
        .env(SANDBOX, id.to_string())
        .env(DEED, deed)
        .stdout(Stdio::null())
        .process_group(0);
    command.spawn().unwrap()
}

#[tokio::test]
async fn a_machine_outlives_its_server() {
    let host = MachineHost::new();
    traces::a_sandbox_outlives_its_server(&host, |id| server(&host, id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_be_killed_at_any_instant() {
    let host = MachineHost::new();
    traces::a_server_may_be_killed_at_any_instant(&host, |id| server(&host, id), 30).await;
}

/// More than its share of the processors is for its start alone.
#[tokio::test]
async fn a_machine_that_is_up_has_its_share_of_the_processors() {
    let host = MachineHost::new();
    let limits = Limits { cpu_milli: 1500, ..spec().limits };
    let sandbox = Sandbox::with(host.driver(), &Spec { limits, ..spec() }).await;
    assert!(host.quota(sandbox.id).is_none_or(|quota| quota == 150_000));
    remove_without_a_trace(&host, sandbox.id).await;
}

#[tokio::test]
async fn a_machine_that_powers_off_is_gone_with_all_that_the_host_had_of_it() {
    let host = MachineHost::new();
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    // The agent is the commands' parent, and the machine ends with it, perhaps before it answers.
    let _ = sandbox.guest.start(command("kill -9 $PPID")).await;
    let pid = host.vmm_pid(sandbox.id);
    wait_until(|| is_dead(pid), "the VMM ends by itself");
    assert_eq!(sandbox.driver.list().await.unwrap(), []);
    listing_clears_away(&host, &*sandbox.driver, sandbox.id).await;
    remove_without_a_trace(&host, sandbox.id).await;
}

#[tokio::test]
async fn a_vmm_that_is_killed_takes_the_machine_with_it() {
    let host = MachineHost::new();
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    kill(host.vmm_pid(sandbox.id));
    assert_eq!(sandbox.driver.observe(sandbox.id).await.unwrap(), None);
    remove_without_a_trace(&host, sandbox.id).await;
}

/// What of a process's status a line says.
fn status(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_vmm_has_a_jail_of_its_own() {
    let host = MachineHost::new();
    // Something that the server was started with, and that nobody closes on exec.
    let open = File::open("/etc/passwd").unwrap();
    let kept = nix::unistd::dup(&open).unwrap();
    let link = fs::read_link(format!("/proc/self/fd/{}", kept.as_raw_fd())).unwrap();
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    let pid = host.vmm_pid(sandbox.id);
    for (name, wanted) in
        [("NoNewPrivs", "1"), ("CapEff", "0000000000000000"), ("CapBnd", "0000000000000000")]
    {
        assert_eq!(status(pid, name), wanted, "{name}");
    }
    for namespace in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/{namespace}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "{namespace}");
    }
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let open: Vec<_> = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    assert!(!open.contains(&link), "{open:?}");
    // All of its memory written down, which is more than its disk, and 64 MiB besides.
    assert!(spec().limits.memory_mib > spec().limits.disk_mib);
    let largest = u64::from(spec().limits.memory_mib + 64) << 20;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let of_files = limits.lines().find_map(|line| line.strip_prefix("Max file size")).unwrap();
    let of_files: Vec<_> = of_files.split_whitespace().collect();
    assert_eq!(of_files[..2], [largest.to_string(), largest.to_string()]);
    let root = fs::read_dir(format!("/proc/{pid}/root")).unwrap().flatten();
    let mut seen: Vec<_> = root.map(|entry| entry.file_name().into_string().unwrap()).collect();
    seen.retain(|name| !name.starts_with("lib"));
    seen.sort();
    assert_eq!(seen, ["dev", "opt", "proc", "usr", "vm"]);
    let run = fs::metadata(host.run_directory(sandbox.id).join("vm")).unwrap();
    assert_eq!(run.permissions().mode() & 0o777, 0o700);
    if rustix::process::geteuid().is_root() {
        let uid = host.config.first_uid..host.config.first_uid + host.config.n_uids;
        assert!(uid.contains(&run.uid()));
        assert!(status(pid, "Uid").split_whitespace().all(|one| one == run.uid().to_string()));
    }
    remove_without_a_trace(&host, sandbox.id).await;
}

#[tokio::test]
async fn what_is_missing_is_named_and_nothing_is_left() {
    let host = MachineHost::new();
    let old = host.directory.path().join("old");
    fs::write(&old, "#!/bin/sh\necho cloud-hypervisor v50.0.0\n").unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    let nowhere = PathBuf::from("/nowhere/at/all");
    let with = |change: &dyn Fn(&mut CloudHypervisorConfig)| {
        let mut config = host.config.clone();
        change(&mut config);
        CloudHypervisor::new(config)
    };
    for (driver, named) in [
        (with(&|config| config.vmm.clone_from(&nowhere)), "install Cloud Hypervisor"),
        (with(&|config| config.kernel.clone_from(&nowhere)), "no kernel"),
        (with(&|config| config.initramfs.clone_from(&nowhere)), "no initramfs"),
        (with(&|config| config.bwrap.clone_from(&nowhere)), "install bubblewrap"),
    ] {
        let id = new_id();
        let ensured = driver.ensure(id, &spec()).await.unwrap_err();
        assert!(ensured.to_string().contains(named), "{ensured}");
        assert_eq!(ensured.kind, ErrorKind::Unsupported, "{ensured}");
        let checked = driver.check().await.unwrap_err();
        assert!(checked.to_string().contains(named), "{checked}");
        assert!(!host.run_directory(id).exists());
    }
    // As bubblewrap says where there are no namespaces to be had.
    let powerless = host.directory.path().join("powerless");
    fs::write(
        &powerless,
        "#!/bin/sh\necho bwrap: setting up uid map: Permission denied >&2\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(&powerless, fs::Permissions::from_mode(0o755)).unwrap();
    for (driver, named) in [
        (with(&|config| config.vmm.clone_from(&old)), "too old"),
        (with(&|config| config.bwrap.clone_from(&powerless)), "allow user namespaces"),
        (with(&|config| config.kvm.clone_from(&nowhere)), "virtualization"),
    ] {
        let checked = driver.check().await.unwrap_err();
        assert!(checked.to_string().contains(named), "{checked}");
    }
    let bare = with(&|config| config.images.clone_from(&nowhere));
    let limitations = bare.check().await.unwrap();
    let missing = |one: &Limitation| one.what.contains("no image of any template");
    assert!(limitations.iter().any(missing), "{limitations:?}");
    for one in limitations {
        assert!(one.what.ends_with('.') && one.remedy.ends_with('.'), "{one:?}");
    }
}

#[tokio::test]
async fn a_vmm_that_fails_is_an_error_and_nothing_is_left() {
    let host = MachineHost::new();
    for (fault, kind, named) in [
        ("version v50.0", ErrorKind::Unsupported, "too old"),
        ("refuse vm.create", ErrorKind::Host, "refused vm.create"),
        ("refuse vm.boot", ErrorKind::Host, "it was told to"),
        ("hang vm.create", ErrorKind::TimedOut, "vm.create within"),
    ] {
        host.set_fault(fault);
        let id = new_id();
        let error = host.driver().ensure(id, &spec()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{fault}: {error}");
        assert!(error.to_string().contains(named), "{fault}: {error}");
        assert!(!host.run_directory(id).exists(), "{fault}");
        remove_without_a_trace(&host, id).await;
    }
    host.set_fault("");
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    sandbox.remove().await;
}

/// Every call of the API, in an order that makes sense and in some that do not.
#[tokio::test]
async fn the_client_speaks_the_whole_of_what_it_uses() {
    let host = MachineHost::new();
    let sandbox = Sandbox::with(host.driver(), &spec()).await;
    let run = host.run_directory(sandbox.id).join("vm");
    let client = Client::new(&run);
    assert_eq!(client.ping().await.unwrap().version, "v53.0.0");
    assert_eq!(client.info().await.unwrap().state, VmState::Running);
    assert_eq!(client.counters().await.unwrap()["_disk0"]["read_bytes"], 4096);
    client.resize(&VmResize { desired_vcpus: Some(1), desired_ram: None }).await.unwrap();
    client.press_power_button().await.unwrap();
    let refused = client.resume().await.unwrap_err();
    assert!(refused.to_string().contains("vm.resume"), "{refused}");
    assert!(client.snapshot(Path::new("/vm/run")).await.is_err(), "it is not paused");
    client.pause().await.unwrap();
    assert_eq!(client.info().await.unwrap().state, VmState::Paused);
    client.snapshot(Path::new("/vm/run")).await.unwrap();
    client.resume().await.unwrap();
    assert_eq!(client.info().await.unwrap().state, VmState::Running);
    client.shut_down().await.unwrap();
    assert_eq!(client.info().await.unwrap().state, VmState::Shutdown);
    client.delete().await.unwrap();
    assert!(client.info().await.is_err(), "there is none");
    let restore = RestoreConfig {
        source_url: "file:///vm/run".to_owned(),
        memory_restore_mode: MemoryRestoreMode::OnDemand,
        resume: false,
    };
    client.restore(&restore).await.unwrap();
    assert_eq!(client.info().await.unwrap().state, VmState::Paused);
    let pid = host.vmm_pid(sandbox.id);
    client.shut_down_vmm().await.unwrap_or_default();
    wait_until(|| is_dead(pid), "the VMM ends");
    assert_eq!(sandbox.driver.observe(sandbox.id).await.unwrap(), None);
    remove_without_a_trace(&host, sandbox.id).await;
}

/// As a VMM would, so that what the driver passes is really looked at.
#[test]
fn the_stand_in_refuses_another_command_line() {
    for arguments in [&["--api-socket", "x"][..], &["--seccomp", "false"], &["--landlock"], &[]] {
        let mut command = Command::new(STAND_IN);
        let status = command.args(arguments).stderr(Stdio::null()).status().unwrap();
        assert!(!status.success(), "{arguments:?}");
    }
}

#[test]
fn the_schema_refuses_what_the_document_does_not_have() {
    use serde_json::json;
    for (object, value, is_right) in [
        ("VmConfig", json!({ "payload": { "kernel": "/k" } }), true),
        ("VmConfig", json!({}), false),
        ("VmConfig", json!({ "payload": { "kernel": 1 } }), false),
        ("VmConfig", json!({ "payload": {}, "surprise": true }), false),
        ("VsockConfig", json!({ "cid": "3", "socket": "s" }), false),
        ("SerialConfig", json!({ "mode": "Null" }), true),
        ("SerialConfig", json!({ "mode": "Loud" }), false),
        ("VmCounters", json!({ "disk": { "read": 1 } }), true),
        ("VmCounters", json!({ "disk": { "read": "1" } }), false),
    ] {
        let checked = schema::check(object, &value);
        assert_eq!(checked.is_ok(), is_right, "{object} {value}: {checked:?}");
    }
}

/// Where the published document is, for those who have it.
const DOCUMENT: &str = "CROWNEST_CLOUD_HYPERVISOR_OPENAPI";

#[test]
fn the_schema_is_a_part_of_the_published_document() {
    let Some(path) = env::var_os(DOCUMENT) else {
        let reason = format!("{DOCUMENT} does not name the VMM's API document");
        return skipped("cloud-hypervisor-document", &reason);
    };
    let document: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let reference = |name: &str| format!("#/components/schemas/{name}");
    for (method, call, input, output) in schema::CALLS {
        let told = &document["paths"][format!("/{call}")][method.to_lowercase()];
        assert!(told.is_mapping(), "{call}");
        let schema = |value: &serde_yaml_ng::Value| {
            value["content"]["application/json"]["schema"]["$ref"].as_str().map(str::to_owned)
        };
        assert_eq!(schema(&told["requestBody"]), input.map(reference), "{call}");
        let answer = told["responses"].as_mapping().unwrap().values().find_map(schema);
        assert_eq!(answer, output.map(reference), "{call}");
    }
    for (object, fields) in schema::OBJECTS {
        let published = &document["components"]["schemas"][*object];
        let required: Vec<_> = published["required"].as_sequence().into_iter().flatten().collect();
        for (field, kind, need) in *fields {
            let its = &published["properties"][*field];
            let is_required = required.iter().any(|name| name.as_str() == Some(field));
            assert_eq!(*need == schema::Need::Must, is_required, "{object}.{field}");
            let r#type = its["type"].as_str();
            let is_so = match kind {
                schema::Kind::Text => r#type == Some("string"),
                schema::Kind::Number => r#type == Some("integer"),
                schema::Kind::Flag => r#type == Some("boolean"),
                schema::Kind::One(name) => its["$ref"].as_str() == Some(&reference(name)),
                schema::Kind::Many(name) => its["items"]["$ref"].as_str() == Some(&reference(name)),
                schema::Kind::Names => matches!(r#type, Some("object" | "array")),
                schema::Kind::OneOf(words) => {
                    let name = its["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
                    let listed = document["components"]["schemas"][name]["enum"].as_sequence();
                    let listed = listed.unwrap().iter().filter_map(|word| word.as_str());
                    words.iter().copied().eq(listed)
                }
            };
            assert!(is_so, "{object}.{field}: {its:?} is not {kind:?}");
        }
    }
}
