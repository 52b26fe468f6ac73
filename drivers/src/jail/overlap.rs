//! Finds out to whom else this host has given the user ids of sandboxes: accounts, groups, and the
//! blocks of ids that rootless containers get. Reads the host's own files; does not ask the services
//! that an organization may keep its accounts in.

use std::{fs, ops::Range};

/// How the ids stand in the lines of a file.
#[derive(Debug, Clone, Copy)]
enum Layout {
    /// `name:password:uid:gid:...`
    Accounts,
    /// `name:password:gid:...`
    Groups,
    /// `name:first:count`
    Blocks,
}

const FILES: [(&str, Layout); 4] = [
    ("/etc/passwd", Layout::Accounts),
    ("/etc/group", Layout::Groups),
    ("/etc/subuid", Layout::Blocks),
    ("/etc/subgid", Layout::Blocks),
];

/// Who else has some of these ids, at most one for each file. A sandbox's group has the same number as
/// its user.
pub(crate) fn others(ids: &Range<u32>) -> Vec<String> {
    let ids = u64::from(ids.start)..u64::from(ids.end);
    let of_file = |(path, layout): &(&str, Layout)| {
        // A file that is missing gives nothing to anybody, and names may be anything.
        let text = fs::read(path).unwrap_or_default();
        let (name, theirs) = other(&ids, *layout, &String::from_utf8_lossy(&text))?;
        Some(format!("{path} gives {} to {name}", shown(&theirs)))
    };
    FILES.iter().filter_map(of_file).collect()
}

/// The first and the last of some ids.
pub(crate) fn shown(ids: &Range<impl Copy + Into<u64>>) -> String {
    let (first, last) = (ids.start.into(), ids.end.into().saturating_sub(1));
    if first == last { last.to_string() } else { format!("{first} to {last}") }
}

fn other(ids: &Range<u64>, layout: Layout, text: &str) -> Option<(String, Range<u64>)> {
    text.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let number = |at: usize| fields.get(at)?.trim().parse::<u32>().ok().map(u64::from);
        let one = |at: usize| number(at).map(|id| id..id + 1);
        let theirs = match layout {
            Layout::Accounts => [one(2), one(3)],
            Layout::Groups => [one(2), None],
            Layout::Blocks => [number(1).zip(number(2)).map(|(id, n)| id..id + n), None],
        };
        let shares = |theirs: &Range<u64>| {
            !theirs.is_empty() && theirs.start < ids.end && ids.start < theirs.end
        };
        let shared = theirs.into_iter().flatten().find(shares)?;
        Some(((*fields.first()?).to_owned(), shared))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jail::{FIRST_UID, N_UIDS};

    #[test]
    fn whoever_else_has_an_id_is_found() {
        let passwd = "root:x:0:0::/root:/bin/sh\n+::::::\nann:x:1000:2005::/home/ann:/bin/sh\n";
        let group = "root:x:0:\nnot a line\nstaff:x:2009:ann,bob\n";
        let subuid = "# comment\nnone:2005:0\nann:1900:100\n1001:2009:65536\n";
        for (layout, text, wanted, why) in [
            (Layout::Accounts, passwd, Some("ann 2005"), "the group of an account"),
            (Layout::Accounts, "bob:x:2000:5:", Some("bob 2000"), "the first id"),
            (Layout::Accounts, "bob:x:1999:5:", None, "the one before it"),
            (Layout::Groups, group, Some("staff 2009"), "the last id"),
            (Layout::Groups, "staff:x:2010:2005", None, "the one after it"),
            (Layout::Blocks, subuid, Some("1001 2009 to 67544"), "a block's first id"),
            (Layout::Blocks, "ann:1900:101", Some("ann 1900 to 2000"), "a block's last id"),
            (Layout::Blocks, "ann:1:4294967295", Some("ann 1 to 4294967295"), "all around"),
            (Layout::Blocks, "", None, "nobody has a block"),
        ] {
            let found = other(&(2000..2010), layout, text);
            let found = found.map(|(name, ids)| format!("{name} {}", shown(&ids)));
            assert_eq!(found.as_deref(), wanted, "{why}");
        }
    }

    #[test]
    fn the_usual_range_is_nobody_elses() {
        let (first, end) = (FIRST_UID, FIRST_UID + N_UIDS);
        for (others, who) in [
            (0..=60_000, "accounts (UID_MAX of login.defs)"),
            (60_001..=65_535, "systemd's homes and dynamic users, and nobody"),
            (100_000..=600_100_000, "subordinate ids (SUB_UID_MIN and SUB_UID_MAX of login.defs)"),
            (524_288..=1_879_048_191, "containers of systemd"),
            (200_000..=2_000_200_000, "accounts of Active Directory as SSSD numbers them"),
            (2_147_352_576..=2_147_418_111, "files of foreign systems, by systemd"),
            (2_147_483_647..=u32::MAX, "negative for programs that take ids for signed"),
        ] {
            assert!(end <= *others.start() || first > *others.end(), "{who}");
        }
    }
}
