//! The modules that a kernel needs before it has a file system: for the machine's disks, its network
//! card and the way to the host, and whatever those depend on, in an order in which they load.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::{BuildError, Doing, Result, elf, read, unfit, unpack::Packing};

/// A module, uncompressed.
#[derive(Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name as the kernel has it, with `_` for `-`.
    pub name: String,
    /// The file.
    pub content: Vec<u8>,
}

/// What every machine needs.
const NEEDED: [&str; 7] = [
    "virtio_pci",
    "virtio_blk",
    "vmw_vsock_virtio_transport",
    "virtio_net",
    "erofs",
    "ext4",
    "overlay",
];
/// What it uses where the kernel has it: the other format of images.
const USED: [&str; 1] = ["squashfs"];
const ENDINGS: [&str; 4] = [".ko", ".ko.gz", ".ko.xz", ".ko.zst"];
/// No chain of dependencies is longer, and no folder lies deeper.
const DEEPEST: usize = 32;

/// The modules that a kernel of this release needs, each after those that it depends on. The folder is
/// what `/lib/modules/<release>` is on a host.
///
/// # Errors
/// When the folder lacks one that the kernel has not built in, or has one of another kernel.
pub async fn modules(folder: &Path, release: &str) -> Result<Vec<Module>> {
    let mut chosen = Chosen {
        release,
        built_in: built_in(&folder.join("modules.builtin"))?,
        files: BTreeMap::new(),
        order: Vec::new(),
    };
    find(folder, 0, &mut chosen.files)?;
    for name in NEEDED {
        chosen.add(name).await?;
    }
    for name in USED {
        if chosen.files.contains_key(name) {
            chosen.add(name).await?;
        }
    }
    Ok(chosen.order)
}

struct Chosen<'a> {
    release: &'a str,
    built_in: BTreeSet<String>,
    files: BTreeMap<String, PathBuf>,
    order: Vec<Module>,
}

impl Chosen<'_> {
    /// Adds a module behind all that it depends on.
    async fn add(&mut self, name: &str) -> Result<()> {
        // A module is opened when its turn comes, and put in order once all that it needs is there.
        let mut open: Vec<(Module, Vec<String>)> = Vec::new();
        let mut next = Some(name.to_owned());
        loop {
            if let Some(name) = next.take()
                && !self.has(&name)
            {
                if open.len() >= DEEPEST || open.iter().any(|(module, _)| module.name == name) {
                    return unfit(format!("module {name} depends on itself"));
                }
                open.push(self.load(&name).await?);
            }
            let Some((_, needs)) = open.last_mut() else { return Ok(()) };
            next = needs.pop();
            if next.is_none()
                && let Some((module, _)) = open.pop()
            {
                self.order.push(module);
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.built_in.contains(name) || self.order.iter().any(|module| module.name == name)
    }

    /// Reads a module, and the names of those that it depends on, the first one last.
    async fn load(&self, name: &str) -> Result<(Module, Vec<String>)> {
        let Some(path) = self.files.get(name) else {
            return unfit(format!(
                "the kernel has no module {name}, which machines need, and has not built it in"
            ));
        };
        let wrong = |why: &str| BuildError::Unfit(format!("{}: {why}", path.display()));
        let packed = read(path)?;
        let content = match Packing::of(&packed) {
            Some(packing) => {
                packing.unpack(&packed).await.map_err(|error| wrong(&error.to_string()))?
            }
            None => packed,
        };
        let facts = elf::module_facts(&content).ok_or_else(|| wrong("it is no module"))?;
        let fact =
            |wanted| facts.iter().find_map(|fact| fact.strip_prefix(wanted)?.strip_prefix('='));
        let of = fact("vermagic").and_then(|magic| magic.split(' ').next()).unwrap_or_default();
        if of != self.release {
            return Err(wrong(&format!("it is of kernel {of:?}, not {:?}", self.release)));
        }
        let needs = fact("depends").unwrap_or_default().split(',').filter(|name| !name.is_empty());
        let needs = needs.map(plain).rev().collect();
        Ok((Module { name: name.to_owned(), content }, needs))
    }
}

/// A name as the kernel compares it.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

fn name_of(file: &str) -> Option<String> {
    ENDINGS.iter().find_map(|ending| file.strip_suffix(ending)).map(plain)
}

/// The names in a list such as `kernel/fs/ext4/ext4.ko`, a line each.
fn built_in(list: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(list).doing("read", list)?;
    let files = text.lines().map(|line| line.rsplit('/').next().unwrap_or(line));
    Ok(files.filter_map(name_of).collect())
}

fn find(folder: &Path, depth: usize, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    if depth > DEEPEST {
        return unfit(format!("{} lies too deep", folder.display()));
    }
    for entry in fs::read_dir(folder).doing("list", folder)? {
        let entry = entry.doing("list", folder)?;
        let path = entry.path();
        // Links, such as `build`, lead away from the modules.
        let kind = entry.file_type().doing("look at", &path)?;
        if kind.is_dir() {
            find(&path, depth + 1, files)?;
        } else if kind.is_file()
            && let Some(name) = entry.file_name().to_str().and_then(name_of)
        {
            files.insert(name, path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: &str = "6.1.0-40-cloud-amd64";

    fn file(folder: &Path, name: &str, depends: &str, release: &str) {
        let magic = format!("vermagic={release} SMP preempt");
        let content = elf::tests::module(&["license=GPL", &format!("depends={depends}"), &magic]);
        let path = folder.join("kernel/drivers").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A kernel with all that is needed, some of it built in, some with dependencies.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let list = "kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio-pci.ko\n";
        fs::write(root.join("modules.builtin"), list).unwrap();
        for (name, depends) in [
            ("virtio/virtio.ko", ""),
            ("virtio/virtio_ring.ko", "virtio"),
            ("block/virtio_blk.ko", "virtio,virtio_ring"),
            ("vmw_vsock_virtio_transport.ko", "vmw-vsock-virtio-transport-common"),
            ("vmw-vsock-virtio-transport-common.ko", "vsock,virtio_ring"),
            ("vsock.ko", "ext4"),
            ("net/virtio_net.ko", "net_failover"),
            ("net/net_failover.ko", ""),
            ("erofs.ko", ""),
            ("overlay.ko", ""),
            ("unneeded.ko", "absent"),
        ] {
            file(root, name, depends, RELEASE);
        }
        std::os::unix::fs::symlink("/nowhere", root.join("build")).unwrap();
        folder
    }

    async fn order(folder: &Path) -> Result<String> {
        let found = modules(folder, RELEASE).await?;
        Ok(found.into_iter().map(|module| module.name).collect::<Vec<_>>().join(" "))
    }

    #[tokio::test]
    async fn each_comes_behind_what_it_depends_on() {
        let folder = folder();
        let wanted = "virtio virtio_ring virtio_blk vsock vmw_vsock_virtio_transport_common \
                      vmw_vsock_virtio_transport net_failover virtio_net erofs overlay";
        assert_eq!(order(folder.path()).await.unwrap(), wanted);
        file(folder.path(), "squashfs.ko", "", RELEASE);
        assert_eq!(order(folder.path()).await.unwrap(), format!("{wanted} squashfs"));
    }

    #[tokio::test]
    async fn a_compressed_one_is_unpacked() {
        let folder = folder();
        let path = folder.path().join("kernel/drivers/erofs.ko");
        let plain = fs::read(&path).unwrap();
        assert!(std::process::Command::new("xz").arg(&path).status().unwrap().success());
        let found = modules(folder.path(), RELEASE).await.unwrap();
        let erofs = found.iter().find(|module| module.name == "erofs").unwrap();
        assert_eq!(erofs.content, plain);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_named() {
        let lacks = folder();
        fs::remove_file(lacks.path().join("kernel/drivers/overlay.ko")).unwrap();
        let deep = folder();
        fs::remove_file(deep.path().join("kernel/drivers/virtio/virtio.ko")).unwrap();
        let other = folder();
        file(other.path(), "erofs.ko", "", "6.12.1");
        let circle = folder();
        file(circle.path(), "net/net_failover.ko", "virtio_net", RELEASE);
        let broken = folder();
        fs::write(broken.path().join("kernel/drivers/erofs.ko"), "no").unwrap();
        let bare = tempfile::tempdir().unwrap();
        for (folder, wanted) in [
            (lacks, "no module overlay"),
            (deep, "no module virtio,"),
            (other, "erofs.ko: it is of kernel \"6.12.1\", not \"6.1.0-40-cloud-amd64\""),
            (circle, "virtio_net depends on itself"),
            (broken, "erofs.ko: it is no module"),
            (bare, "modules.builtin"),
        ] {
            let text = order(folder.path()).await.unwrap_err().to_string();
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
}
