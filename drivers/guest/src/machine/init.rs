//! The first moments of a machine: the kernel's modules, the template's image below a disk that can be
//! written to, and what programs expect to find mounted. After that the initial file system is empty and
//! out of reach. Knows nothing of what the machine is for.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, chroot, symlink},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
};

/// Modules that the kernel needs to go on, in the order of their names.
const MODULES: &str = "/modules";
/// The template's image, the first disk.
const IMAGE: &str = "/dev/vda";
/// The sandbox's own disk, the second.
const DISK: &str = "/dev/vdb";
/// Where they are mounted, and where both together are.
const LOWER: &str = "/lower";
const UPPER: &str = "/upper";
const ROOT: &str = "/root";
/// What is left of the initial file system besides modules.
const SELF: &str = "/init";
/// The kernel finds its disks within this; it is slow where it is emulated.
const DISKS: Duration = Duration::from_secs(30);
const DISK_RETRY: Duration = Duration::from_millis(1);
/// How the names of programs' standard streams lead to what is open.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];
const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
/// The name that programs find the machine under.
const HOST_NAME: &str = "sandbox";

/// Makes a machine out of what the kernel has booted.
pub(super) fn prepare() -> io::Result<()> {
    file_system("devtmpfs", "/dev", MsFlags::MS_NOSUID, "")?;
    load_modules()?;
    join_disks()?;
    let inside = |path: &str| format!("{ROOT}{path}");
    file_system("devtmpfs", &inside("/dev"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "")?;
    file_system("proc", &inside("/proc"), QUIET, "")?;
    file_system("sysfs", &inside("/sys"), QUIET | MsFlags::MS_RDONLY, "")?;
    file_system("tmpfs", &inside("/run"), QUIET, "mode=0755")?;
    file_system(
        "devpts",
        &inside("/dev/pts"),
        QUIET - MsFlags::MS_NODEV,
        "ptmxmode=0666,mode=0620",
    )?;
    file_system("tmpfs", &inside("/dev/shm"), QUIET, "mode=1777")?;
    leave()?;
    for (to, link) in LINKS {
        symlink(to, link).map_err(|error| told("link", link, error))?;
    }
    fs::write("/proc/sys/kernel/hostname", HOST_NAME)
        .map_err(|error| told("name", HOST_NAME, error))
}

/// Says what went wrong where an operator who looks for it finds it: in the kernel's log, which goes to
/// the console if the machine has one.
pub(super) fn complain(error: &io::Error) {
    let log = OpenOptions::new().write(true).open("/dev/kmsg");
    // There is nobody else to tell.
    let _ = log.and_then(|mut log| log.write_all(format!("crownest-guest: {error}").as_bytes()));
}

fn told(doing: &str, what: impl AsRef<Path>, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("cannot {doing} {}: {error}", what.as_ref().display()))
}

/// Mounts a file system, whose directory is made if the image has none.
fn file_system(kind: &str, at: &str, flags: MsFlags, options: &str) -> io::Result<()> {
    mount_at(kind, kind, at, flags, options)
}

fn mount_at(source: &str, kind: &str, at: &str, flags: MsFlags, options: &str) -> io::Result<()> {
    directory(at)?;
    let mounted = mount(Some(source), at, Some(kind), flags, Some(options));
    mounted.map_err(|errno| told(&format!("mount {source} at"), at, errno))
}

fn directory(path: &str) -> io::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|error| told("make", path, error))
}

fn load_modules() -> io::Result<()> {
    let mut modules: Vec<PathBuf> = match fs::read_dir(MODULES) {
        // A kernel that has all of it built in.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?,
    };
    modules.sort_unstable();
    for module in modules {
        let loaded = File::open(&module)
            .and_then(|file| Ok(finit_module(file, c"", ModuleInitFlags::empty())?));
        match loaded {
            Err(error) if error.raw_os_error() != Some(Errno::EEXIST as i32) => {
                return Err(told("load", &module, error));
            }
            Ok(()) | Err(_) => {}
        }
        // It is loaded; the memory that the file takes is the sandbox's.
        fs::remove_file(&module).map_err(|error| told("remove", &module, error))?;
    }
    Ok(())
}

/// Lays the disk over the image.
fn join_disks() -> io::Result<()> {
    let kind = kind_of(&await_disk(IMAGE)?)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at(IMAGE, kind, LOWER, flags | MsFlags::MS_RDONLY, "")?;
    await_disk(DISK)?;
    mount_at(DISK, "ext4", UPPER, flags | MsFlags::MS_NOATIME, "")?;
    let (changes, work) = (format!("{UPPER}/changes"), format!("{UPPER}/work"));
    directory(&changes)?;
    directory(&work)?;
    let options = format!("lowerdir={LOWER},upperdir={changes},workdir={work}");
    mount_at("overlay", "overlay", ROOT, flags | MsFlags::MS_NOATIME, &options)
}

fn await_disk(path: &str) -> io::Result<File> {
    let begun = Instant::now();
    loop {
        match File::open(path) {
            Ok(disk) => return Ok(disk),
            Err(error) if begun.elapsed() > DISKS => return Err(told("find", path, error)),
            Err(_) => thread::sleep(DISK_RETRY),
        }
    }
}

/// The kind of a read-only image, by what it begins with.
fn kind_of(mut image: impl io::Read) -> io::Result<&'static str> {
    const EROFS: [u8; 4] = 0xE0F5_E1E2_u32.to_le_bytes();
    let mut start = [0; 1028];
    image.read_exact(&mut start)?;
    match start {
        [.., a, b, c, d] if [a, b, c, d] == EROFS => Ok("erofs"),
        [b'h', b's', b'q', b's', ..] => Ok("squashfs"),
        _ => Err(io::Error::other("the image is neither EROFS nor squashfs")),
    }
}

/// Moves to the new root. What is left behind takes memory, so it goes first.
fn leave() -> io::Result<()> {
    fs::remove_file(SELF).map_err(|error| told("remove", SELF, error))?;
    std::env::set_current_dir(ROOT)?;
    let moved = mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>);
    moved.map_err(|errno| told("move", ROOT, errno))?;
    chroot(".")?;
    std::env::set_current_dir("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_beginning() {
        let image = |at: usize, magic: &[u8]| {
            let mut bytes = vec![0; 4096];
            bytes[at..at + magic.len()].copy_from_slice(magic);
            kind_of(bytes.as_slice()).ok()
        };
        assert_eq!(image(1024, &[0xE2, 0xE1, 0xF5, 0xE0]), Some("erofs"));
        assert_eq!(image(0, b"hsqs"), Some("squashfs"));
        assert_eq!(image(1080, &[0x53, 0xEF]), None, "ext4");
        assert!(kind_of(&b"hsqs"[..]).is_err(), "too short");
    }
}
