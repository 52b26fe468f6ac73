//! Turns a spec into the arguments of bubblewrap: what a sandbox is, in one list. Pure, so that a
//! change of it shows in a test.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use domain::id::SandboxId;

use super::host::{Host, TopLevel};
use crate::spec::Spec;

/// The user id inside, whatever it is outside.
const USER: &str = "1000";
const PATH: &str = "/opt/crownest/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
const SMALL_MIB: u32 = 16;

/// The files of `/etc` that the shell in `launcher` passes on as open descriptors.
const PASSED_FILES: [(&str, &str); 5] = [
    ("4", "/etc/passwd"),
    ("5", "/etc/group"),
    ("6", "/etc/hosts"),
    ("7", "/etc/nsswitch.conf"),
    ("8", "/etc/hostname"),
];

/// An open file, by the number that bubblewrap has it under.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descriptor(pub &'static str);

/// The descriptor on which bubblewrap tells the id of the process that it started.
const INFO: &str = "3";

/// The agent as it is named inside, for each sandbox differently, so that its process is recognized
/// from outside.
pub(super) fn agent_inside(id: SandboxId) -> String {
    format!("/opt/crownest/{id}/guest")
}

/// The arguments for a sandbox.
pub(super) fn sandbox(
    host: &Host,
    agent: &Path,
    id: SandboxId,
    spec: &Spec,
    filter: Option<Descriptor>,
) -> Vec<OsString> {
    let mut arguments = Arguments::default();
    arguments.add(["--info-fd", INFO]);
    arguments.isolate(filter);
    arguments.environment(spec);
    arguments.system(host);
    for (descriptor, path) in PASSED_FILES {
        arguments.add(["--perms", "0444", "--file", descriptor, path]);
    }
    let agent_inside = agent_inside(id);
    arguments.add(["--ro-bind"]).add([agent.as_os_str()]).add([&agent_inside]);
    arguments.tmpfs("/tmp", "1777", spec.limits.disk_mib);
    arguments.tmpfs("/home/user", "0755", spec.limits.disk_mib);
    arguments.tmpfs("/var", "0755", SMALL_MIB);
    arguments.add(["--perms", "1777", "--dir", "/var/tmp"]);
    arguments.tmpfs("/run", "0755", SMALL_MIB);
    arguments.tmpfs("/workspace", "0755", spec.limits.disk_mib);
    // What is left of the root and of /dev is memory of the host that nothing would bound.
    arguments.add(["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/workspace", "--"]);
    arguments.add([&agent_inside, "--listen-stdin", "--workspace", "/workspace"]);
    arguments.add(["--exit-if-idle-ms", "60000"]);
    arguments.0
}

/// The arguments for finding out whether this host lets anybody be isolated. They end with a program
/// that does nothing.
pub(super) fn trial(host: &Host, agent: &Path, filter: Option<Descriptor>) -> Vec<OsString> {
    let mut arguments = Arguments::default();
    arguments.isolate(filter);
    arguments.system(host);
    arguments.add(["--ro-bind"]).add([agent.as_os_str()]).add(["/opt/crownest/guest"]);
    arguments.tmpfs("/workspace", "0755", SMALL_MIB);
    arguments.add(["--remount-ro", "/dev", "--remount-ro", "/", "--", "/usr/bin/true"]);
    arguments.0
}

#[derive(Debug, Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn add<A: AsRef<OsStr>>(&mut self, arguments: impl IntoIterator<Item = A>) -> &mut Self {
        self.0.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    fn isolate(&mut self, filter: Option<Descriptor>) {
        self.add(["--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-net"]);
        self.add(["--unshare-ipc", "--unshare-uts", "--unshare-cgroup"]);
        self.add(["--uid", USER, "--gid", USER, "--hostname", "sandbox"]);
        self.add(["--as-pid-1", "--new-session", "--cap-drop", "ALL", "--clearenv"]);
        if let Some(Descriptor(descriptor)) = filter {
            self.add(["--seccomp", descriptor]);
        }
    }

    fn environment(&mut self, spec: &Spec) {
        for (name, value) in [
            ("PATH", PATH),
            ("HOME", "/home/user"),
            ("USER", "user"),
            ("LANG", "C.UTF-8"),
            ("TMPDIR", "/tmp"),
            // The workspace is the tenant's; nothing appears in it by itself.
            ("PYTHONDONTWRITEBYTECODE", "1"),
        ] {
            self.add(["--setenv", name, value]);
        }
        for (name, value) in &spec.env {
            self.add(["--setenv", name, value]);
        }
    }

    fn system(&mut self, host: &Host) {
        self.add(["--ro-bind", "/usr", "/usr"]);
        for entry in &host.top_level {
            match entry {
                TopLevel::Link { path, target } => self.add(["--symlink"]).add([target, path]),
                TopLevel::Directory(path) => self.add(["--ro-bind"]).add([path, path]),
            };
        }
        self.add(["--proc", "/proc", "--dev", "/dev"]);
        self.tmpfs("/dev/shm", "1777", SMALL_MIB);
        for path in &host.etc {
            self.add(["--ro-bind"]).add([path, path]);
        }
        for (name, program) in
            [("python", &host.python), ("python3", &host.python), ("node", &host.node)]
        {
            if let Some(program) = program {
                let link = format!("/opt/crownest/bin/{name}");
                self.add(["--symlink"]).add([program]).add([link]);
            }
        }
    }

    fn tmpfs(&mut self, path: &str, mode: &str, size_mib: u32) {
        // Zero would mean no limit.
        let size = (u64::from(size_mib) << 20).max(1);
        self.add(["--perms", mode, "--size", &size.to_string(), "--tmpfs", path]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::DateTime;
    use domain::{egress::EgressPolicy, id::TemplateVersionId};

    use super::*;
    use crate::spec::{Limits, Template};

    fn spec() -> Spec {
        let version_id = TemplateVersionId::generate(DateTime::UNIX_EPOCH);
        let env = [("CROWNEST", "1"), ("LANG", "de_DE.UTF-8")];
        Spec {
            template: Template { slug: "python".to_owned(), version_id },
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            limits: Limits { cpu_milli: 1000, memory_mib: 64, disk_mib: 3, n_pids: 7 },
            egress: EgressPolicy::allow_all(),
        }
    }

    /// The arguments with one option a line.
    fn shown(host: &Host) -> String {
        let id = SandboxId::generate(DateTime::UNIX_EPOCH);
        let arguments = sandbox(host, Path::new("/agent"), id, &spec(), Some(Descriptor("9")));
        let mut text = String::new();
        for argument in arguments {
            let argument = argument.into_string().unwrap().replace(&id.to_string(), "<id>");
            text.push(if argument.starts_with("--") { '\n' } else { ' ' });
            text.push_str(&argument);
        }
        text
    }

    #[test]
    fn a_sandbox_is_these_arguments() {
        let host = Host {
            top_level: vec![
                TopLevel::Link { path: "/bin".into(), target: "usr/bin".into() },
                TopLevel::Directory("/lib".into()),
            ],
            python: Some("/usr/bin/python3".into()),
            node: None,
            etc: vec!["/etc/ssl/certs".into()],
        };
        assert_eq!(shown(&host).trim_start(), include_str!("arguments.golden").trim_end());
    }

    #[test]
    fn the_specs_variables_win_over_defaults() {
        let mut env = BTreeMap::new();
        let host = Host { top_level: Vec::new(), python: None, node: None, etc: Vec::new() };
        for line in shown(&host).lines() {
            if let Some(("--setenv", rest)) = line.split_once(' ') {
                let (name, value) = rest.split_once(' ').unwrap();
                env.insert(name.to_owned(), value.to_owned());
            }
        }
        assert_eq!(env["LANG"], "de_DE.UTF-8");
    }
}
