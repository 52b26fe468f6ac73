//! Finds out which control group hierarchies a host has and where in them this server is. Reads text
//! that the kernel prints; changes nothing.

use std::{
    ffi::OsStr,
    iter,
    path::{Path, PathBuf},
};

/// The name of the group that the server moves itself to where it must not share one with others.
pub(super) const OWN_GROUP: &str = "crownest-server";

/// What a hierarchy can limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    Cpu,
    Memory,
    Pids,
}

impl Controller {
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Pids];

    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// The generation of a hierarchy's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// A hierarchy, and the groups in it below which sandboxes can have theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub version: Version,
    /// The group of this server.
    pub own: PathBuf,
    /// The topmost group that can be seen.
    pub top: PathBuf,
    /// For version 1, what it limits. For version 2 the files of each group say.
    pub controllers: Vec<Controller>,
}

/// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
pub(super) fn hierarchies(mounts: &str, memberships: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mounts.lines().filter_map(Mount::parse) {
        let controllers: Vec<_> =
            Controller::ALL.into_iter().filter(|one| mount.has(one.name())).collect();
        let version = match mount.kind {
            "cgroup2" => Version::Two,
            "cgroup" if !controllers.is_empty() => Version::One,
            _ => continue,
        };
        let Some(own) = own_group(memberships, version, &controllers) else { continue };
        let (own, top) = (mount.directory_of(own), PathBuf::from(mount.point));
        // A second mount of the same hierarchy adds nothing.
        if !found.iter().any(|other| other.version == version && other.controllers == controllers) {
            found.push(Hierarchy { version, own, top, controllers });
        }
    }
    found
}

/// A line of `mountinfo`: `id parent device root point options [tags] - kind source options`.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(3);
        let (root, point) = (front.next()?, front.next()?);
        let mut back = back.split(' ');
        let (kind, options) = (back.next()?, back.nth(1)?);
        Some(Self { root, point, kind, options })
    }

    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|option| option == controller)
    }

    /// The directory of a group, which is named from the root of the whole hierarchy. A container may
    /// see only a part of that, and be in no group that it can see; then it has what it sees.
    fn directory_of(&self, group: &str) -> PathBuf {
        let mut names: Vec<_> = match Path::new(group).strip_prefix(self.root) {
            Ok(below) if !group.contains("..") => below.iter().collect(),
            Ok(_) | Err(_) => Vec::new(),
        };
        names.pop_if(|name| *name == OWN_GROUP);
        iter::once(OsStr::new(self.point)).chain(names).collect()
    }
}

/// The group that this process is in: of `id:controllers:path`, the path.
fn own_group<'a>(
    memberships: &'a str,
    version: Version,
    controllers: &[Controller],
) -> Option<&'a str> {
    memberships.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        let ours = match version {
            Version::Two => names.is_empty(),
            Version::One => {
                controllers.iter().all(|one| names.split(',').any(|name| name == one.name()))
            }
        };
        ours.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(mounts: &str, memberships: &str) -> Vec<String> {
        let show = |one: Hierarchy| {
            let names: Vec<_> = one.controllers.iter().map(|one| one.name()).collect();
            format!("{:?} {} {}", one.version, one.own.display(), names.join(","))
        };
        hierarchies(mounts, memberships).into_iter().map(show).collect()
    }

    const UNIFIED: &str = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
    const HYBRID: &str = "\
42 35 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
46 35 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
47 35 0:34 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
48 35 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
49 35 0:33 / /mnt/again rw,relatime - cgroup cgroup rw,memory
";

    #[test]
    fn hierarchies_are_found_with_the_group_of_this_process() {
        let unified = |memberships| shown(UNIFIED, memberships);
        assert_eq!(unified("0::/\n"), ["Two /sys/fs/cgroup "]);
        assert_eq!(
            unified("0::/system.slice/crownest.service\n"),
            ["Two /sys/fs/cgroup/system.slice/crownest.service "]
        );
        assert_eq!(
            unified("0::/system.slice/crownest.service/crownest-server\n"),
            ["Two /sys/fs/cgroup/system.slice/crownest.service "],
            "the group that a server before this one moved to"
        );
        assert_eq!(
            shown(HYBRID, "6:memory:/a/b\n5:blkio:/\n2:cpu,cpuacct:/\n0::/c\n"),
            [
                "One /sys/fs/cgroup/cpu cpu",
                "One /sys/fs/cgroup/memory/a/b memory",
                "Two /sys/fs/cgroup/unified/c ",
            ]
        );
        assert_eq!(shown("", "0::/\n"), Vec::<String>::new());
    }

    #[test]
    fn a_container_that_sees_a_part_of_the_hierarchy_uses_that_part() {
        let mounts = "30 25 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        assert_eq!(shown(mounts, "0::/docker/x/y\n"), ["Two /sys/fs/cgroup/y "]);
        assert_eq!(shown(mounts, "0::/\n"), ["Two /sys/fs/cgroup "]);
        assert_eq!(shown(UNIFIED, "0::/../../x\n"), ["Two /sys/fs/cgroup "]);
    }
}
