//! The jail of a VMM: which process is started, in which namespaces, as whom, with what to see. Pure
//! but for looking at the binary; a change shows in a golden file.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use domain::id::SandboxId;

use super::convert::{API, IMAGE, INITRAMFS, KERNEL, RUN};

/// What the server's shell does: waits, then becomes what its arguments say.
pub(super) const SCRIPT: &str = "IFS= read -r go <&1 || exit 1\nexec \"$@\" 3>&1 >/dev/null\n";

/// What runs before bubblewrap: it closes whatever the server had open. Root also gathers what the VMM
/// is given in a file system of its own, which ends with the process: the VMM's user could not find it
/// below directories that are root's alone. The network namespace is root's, too, so that nobody in the
/// jail's user namespace has a say in it. Its name is the stage, its arguments are what to gather.
const PREPARE: &str = "\
for fd in /proc/$$/fd/*; do
  fd=${fd##*/}
  case $fd in [0-3]) ;; *) eval \"exec $fd>&-\" ;; esac
done
stage=$0
if [ \"$1\" != -- ]; then mount -t tmpfs -o mode=0755,size=64k stage \"$stage\"; fi
while [ \"$1\" != -- ]; do
  if [ -d \"$2\" ]; then mkdir \"$stage/$1\"; else : >\"$stage/$1\"; fi
  mount --bind \"$2\" \"$stage/$1\"
  shift 2
done
shift
exec \"$@\"
";

/// Whom root lets the VMM be.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    pub uid: u32,
    /// The group of those who may use virtualization.
    pub kvm_group: Option<u32>,
    /// How many processes and threads it may have.
    pub n_processes: u32,
}

/// The program to start and its arguments. `stage` is a directory that everybody can look into.
pub(super) fn command(
    id: SandboxId,
    view: &View,
    user: Option<User>,
    bwrap: &Path,
    stage: &Path,
) -> (PathBuf, Vec<OsString>) {
    let mut arguments = Arguments::default();
    let Some(User { uid, kvm_group, n_processes }) = user else {
        arguments.add(["-ec", PREPARE, "prepare", "--"]).add([bwrap, Path::new("--unshare-net")]);
        arguments.jail(id, view);
        return ("/bin/bash".into(), arguments.0);
    };
    arguments
        .add(["--net", "--mount", "--propagation", "private", "/bin/bash", "-ec", PREPARE])
        .add([stage]);
    for (name, path) in view.gathered() {
        arguments.add([OsStr::new(name), path.as_os_str()]);
    }
    let groups = kvm_group.map_or("--clear-groups".to_owned(), |gid| format!("--groups={gid}"));
    arguments.add(["--", "setpriv", &groups]);
    arguments.add([format!("--reuid={uid}"), format!("--regid={uid}")]);
    arguments.add(["prlimit".to_owned(), format!("--nproc={n_processes}:{n_processes}")]);
    arguments.add([bwrap]);
    arguments.jail(id, &view.seen_from(stage));
    ("unshare".into(), arguments.0)
}

/// What the VMM sees of the host, by its path outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub vmm: PathBuf,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub image: PathBuf,
    /// The directory that the VMM may write to.
    pub run: PathBuf,
    /// `/dev/kvm`, unless a test has another.
    pub kvm: PathBuf,
    /// `/dev/net/tun` likewise, for a machine with a network.
    pub tun: Option<PathBuf>,
    /// The host's libraries; none for a VMM that is linked statically.
    pub libraries: Vec<Library>,
}

/// A directory of the host's libraries, or a link to one as on hosts with a merged `/usr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Library {
    Directory(PathBuf),
    Link { path: PathBuf, target: PathBuf },
}

impl View {
    /// What root gathers: names in the stage, and what is to be found there.
    pub fn gathered(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let all = [
            ("vmm", Some(&self.vmm)),
            ("kernel", Some(&self.kernel)),
            ("initramfs", Some(&self.initramfs)),
            ("image", Some(&self.image)),
            ("run", Some(&self.run)),
            ("kvm", Some(&self.kvm)),
            ("tun", self.tun.as_ref()),
        ];
        all.into_iter().filter_map(|(name, path)| Some((name, path?.as_path())))
    }

    /// The same view of what root has gathered.
    #[must_use]
    pub fn seen_from(&self, stage: &Path) -> Self {
        Self {
            vmm: stage.join("vmm"),
            kernel: stage.join("kernel"),
            initramfs: stage.join("initramfs"),
            image: stage.join("image"),
            run: stage.join("run"),
            kvm: stage.join("kvm"),
            tun: self.tun.as_ref().map(|_| stage.join("tun")),
            ..self.clone()
        }
    }
}

/// The VMM as it is named inside, for each sandbox differently, so that its process is recognized from
/// outside.
pub(super) fn vmm_inside(id: SandboxId) -> String {
    format!("/opt/crownest/{id}/vmm")
}

/// The libraries that a VMM needs: none if it is linked statically.
pub(super) fn libraries(vmm: &Path) -> io::Result<Vec<Library>> {
    let mut start = Vec::new();
    File::open(vmm)?.take(4096).read_to_end(&mut start)?;
    if is_static(&start) {
        return Ok(Vec::new());
    }
    let mut libraries = vec![Library::Directory("/usr".into())];
    for path in ["/lib", "/lib32", "/lib64", "/libx32"].map(PathBuf::from) {
        match std::fs::read_link(&path) {
            Ok(target) => libraries.push(Library::Link { path, target }),
            Err(_) if path.is_dir() => libraries.push(Library::Directory(path)),
            Err(_) => {}
        }
    }
    Ok(libraries)
}

/// Whether a 64-bit program of the usual kind names no loader.
fn is_static(start: &[u8]) -> bool {
    const MAGIC: &[u8] = b"\x7fELF\x02\x01";
    const INTERPRETER: u32 = 3;
    let u16_at =
        |at: usize| start.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes).map(usize::from);
    let headers = || {
        let offset = u64::from_le_bytes(start.get(32..40)?.try_into().ok()?);
        Some((usize::try_from(offset).ok()?, u16_at(54)?, u16_at(56)?))
    };
    let Some((offset, size, n_headers)) = headers().filter(|_| start.starts_with(MAGIC)) else {
        return false;
    };
    // A header that lies further behind is taken for the loader's.
    let kind = |n: usize| {
        let at = n.checked_mul(size)?.checked_add(offset)?;
        start.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
    };
    (0..n_headers).all(|n| kind(n).is_some_and(|kind| kind != INTERPRETER))
}

#[derive(Debug, Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn add<A: AsRef<OsStr>>(&mut self, arguments: impl IntoIterator<Item = A>) -> &mut Self {
        self.0.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// What bubblewrap is told.
    fn jail(&mut self, id: SandboxId, view: &View) {
        self.add(["--info-fd", "3"]);
        self.add(["--unshare-user", "--disable-userns", "--unshare-pid"]);
        self.add(["--unshare-ipc", "--unshare-uts", "--unshare-cgroup"]);
        self.add(["--uid", "1000", "--gid", "1000", "--hostname", "vmm"]);
        self.add(["--as-pid-1", "--new-session", "--cap-drop", "ALL", "--clearenv"]);
        for library in &view.libraries {
            match library {
                Library::Directory(path) => self.add(["--ro-bind"]).add([path, path]),
                Library::Link { path, target } => self.add(["--symlink"]).add([target, path]),
            };
        }
        self.add(["--proc", "/proc", "--dev", "/dev"]);
        self.add(["--dev-bind"]).add([view.kvm.as_os_str(), OsStr::new("/dev/kvm")]);
        if let Some(tun) = &view.tun {
            self.add(["--dev-bind"]).add([tun.as_os_str(), OsStr::new("/dev/net/tun")]);
        }
        let vmm_inside = vmm_inside(id);
        for (from, to) in [
            (&view.vmm, vmm_inside.as_str()),
            (&view.kernel, KERNEL),
            (&view.initramfs, INITRAMFS),
            (&view.image, IMAGE),
        ] {
            self.add(["--ro-bind"]).add([from.as_os_str(), OsStr::new(to)]);
        }
        self.add(["--bind"]).add([view.run.as_os_str(), OsStr::new(RUN)]);
        self.add(["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--"]);
        self.add([&vmm_inside, "--api-socket", &format!("path={RUN}/{API}")]);
        // What it logs, a guest can cause without end; what fails is told by the API.
        self.add(["--seccomp", "true", "--log-file", "/dev/null"]);
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn view() -> View {
        View {
            vmm: "/usr/bin/cloud-hypervisor".into(),
            kernel: "/boot/vmlinux".into(),
            initramfs: "/images/initramfs".into(),
            image: "/images/base".into(),
            run: "/state/vm".into(),
            kvm: "/dev/kvm".into(),
            tun: Some("/dev/net/tun".into()),
            libraries: vec![
                Library::Directory("/usr".into()),
                Library::Link { path: "/lib".into(), target: "usr/lib".into() },
            ],
        }
    }

    #[test]
    fn a_jail_is_these_arguments() {
        let id = SandboxId::generate(DateTime::UNIX_EPOCH);
        let bwrap = Path::new("/usr/bin/bwrap");
        let shown = |user| {
            let (program, arguments) = command(id, &view(), user, bwrap, Path::new("/stage"));
            let mut text = program.into_os_string().into_string().unwrap();
            for argument in arguments {
                let argument = argument.into_string().unwrap().replace(&id.to_string(), "<id>");
                let argument = argument.replace(PREPARE, "<prepare>");
                text.push(if argument.starts_with("--") { '\n' } else { ' ' });
                text.push_str(&argument);
            }
            text
        };
        let text = shown(Some(User { uid: 7, kvm_group: Some(8), n_processes: 9 }));
        assert_eq!(text, include_str!("launch.golden").trim_end());
        // Any other than root starts the same, as itself and from where things are.
        let (_, jail) = text.split_once("/usr/bin/bwrap\n").unwrap();
        let jail = jail.replace("/stage/vmm", "/usr/bin/cloud-hypervisor");
        let jail =
            jail.replace("/stage/kernel", "/boot/vmlinux").replace("/stage/run", "/state/vm");
        let jail = jail
            .replace("/stage/kvm", "/dev/kvm")
            .replace("/stage/tun", "/dev/net/tun")
            .replace("/stage/", "/images/")
            .replace("/images/image", "/images/base");
        let before = "/bin/bash -ec <prepare> prepare\n-- /usr/bin/bwrap\n--unshare-net\n";
        assert_eq!(shown(None), format!("{before}{jail}"));
    }

    #[test]
    fn a_program_without_a_loader_sees_no_libraries() {
        let program = |kinds: &[u32]| {
            let mut bytes = vec![0; 64];
            bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
            bytes[32] = 64;
            bytes[54] = 56;
            bytes[56] = u8::try_from(kinds.len()).unwrap();
            for kind in kinds {
                bytes.extend(kind.to_le_bytes());
                bytes.extend([0; 52]);
            }
            bytes
        };
        for (bytes, wanted, why) in [
            (program(&[1, 2, 4]), true, "no loader"),
            (program(&[6, 3, 1]), false, "a loader"),
            (program(&[1; 3])[..170].to_vec(), false, "cut off"),
            (b"#!/bin/sh\n".to_vec(), false, "a script"),
            (Vec::new(), false, "nothing"),
        ] {
            assert_eq!(is_static(&bytes), wanted, "{why}");
        }
    }
}
