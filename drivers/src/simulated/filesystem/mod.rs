//! A sandbox's files as a tree in memory, and the walk that turns a path into a place in it. Knows
//! directories, regular files and symbolic links; no owners, modes or hard links.

mod address;
mod operations;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use protocol::Reason;

use self::address::workspace;
pub(super) use self::{
    address::{Address, Reach},
    operations::{Existing, Parents},
};

const MAX_LINKS: usize = 40;

/// Whether a symbolic link at the very end of a path is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Follow,
    Keep,
}

#[derive(Debug)]
enum Node {
    File { data: Vec<u8>, modified_at: DateTime<Utc> },
    Directory { entries: BTreeMap<String, Node>, modified_at: DateTime<Utc> },
    Link { target: String },
}

impl Node {
    fn directory(now: DateTime<Utc>) -> Self {
        Self::Directory { entries: BTreeMap::new(), modified_at: now }
    }

    fn n_bytes(&self) -> usize {
        match self {
            Self::File { data, .. } => data.len(),
            Self::Directory { entries, .. } => entries.values().map(Self::n_bytes).sum(),
            Self::Link { target } => target.len(),
        }
    }
}

/// Where a walk ended: the names that lead there without any link, and whether something is there.
#[derive(Debug)]
struct Place {
    names: Vec<String>,
    exists: bool,
}

/// The files of one sandbox.
#[derive(Debug)]
pub(super) struct Filesystem {
    root: Node,
    capacity_bytes: u64,
}

impl Filesystem {
    /// An empty workspace, with a little of a system around it for links to point at.
    pub fn new(capacity_bytes: u64, now: DateTime<Utc>) -> Self {
        let mut etc = BTreeMap::new();
        let passwd = b"user:x:1000:1000::/home/user:/bin/sh\n".to_vec();
        etc.insert("passwd".to_owned(), Node::File { data: passwd, modified_at: now });
        let mut root = BTreeMap::new();
        root.insert("etc".to_owned(), Node::Directory { entries: etc, modified_at: now });
        for name in [workspace(), "tmp", "home"] {
            root.insert(name.to_owned(), Node::directory(now));
        }
        Self { root: Node::Directory { entries: root, modified_at: now }, capacity_bytes }
    }

    /// Follows a path to its place. Only the last name may be missing.
    fn walk(&self, address: &Address, last: Last) -> Result<Place, Reason> {
        let mut place = Vec::new();
        let mut ahead: Vec<String> = address.names.iter().rev().cloned().collect();
        let mut n_links = 0;
        let mut exists = true;
        while let Some(name) = ahead.pop() {
            if !exists {
                return Err(Reason::FileNotFound);
            }
            if name == "." {
                continue;
            }
            if name == ".." {
                place.pop();
                within(address.reach, &place)?;
                continue;
            }
            let Some(Node::Directory { entries, .. }) = self.node(&place) else {
                return Err(Reason::NotDirectory);
            };
            match entries.get(&name) {
                Some(Node::Link { target }) if !ahead.is_empty() || last == Last::Follow => {
                    n_links += 1;
                    if n_links > MAX_LINKS {
                        return Err(Reason::InvalidPath);
                    }
                    let names = target.split('/').filter(|name| !name.is_empty());
                    if target.starts_with('/') {
                        place.clear();
                        // Like the agent, which does not go on from `/` to see where that leads.
                        let first: Vec<_> = names.clone().take(1).map(str::to_owned).collect();
                        within(address.reach, &first)?;
                    }
                    ahead.extend(names.rev().map(str::to_owned));
                }
                found => {
                    exists = found.is_some();
                    place.push(name);
                    within(address.reach, &place)?;
                }
            }
        }
        within(address.reach, &place)?;
        Ok(Place { names: place, exists })
    }

    fn node(&self, names: &[String]) -> Option<&Node> {
        names.iter().try_fold(&self.root, |node, name| match node {
            Node::Directory { entries, .. } => entries.get(name),
            Node::File { .. } | Node::Link { .. } => None,
        })
    }

    fn node_mut(&mut self, names: &[String]) -> Option<&mut Node> {
        names.iter().try_fold(&mut self.root, |node, name| match node {
            Node::Directory { entries, .. } => entries.get_mut(name),
            Node::File { .. } | Node::Link { .. } => None,
        })
    }

    /// Puts a node at a place whose directory exists, instead of whatever was there.
    fn put(&mut self, names: &[String], node: Node, now: DateTime<Utc>) -> Result<(), Reason> {
        let (name, parent) = names.split_last().ok_or(Reason::IsDirectory)?;
        let Some(Node::Directory { entries, modified_at }) = self.node_mut(parent) else {
            return Err(Reason::NotDirectory);
        };
        entries.insert(name.clone(), node);
        *modified_at = now;
        Ok(())
    }

    /// Takes a node out of the tree.
    fn take(&mut self, names: &[String], now: DateTime<Utc>) -> Result<Node, Reason> {
        let (name, parent) = names.split_last().ok_or(Reason::FileNotFound)?;
        let Some(Node::Directory { entries, modified_at }) = self.node_mut(parent) else {
            return Err(Reason::NotDirectory);
        };
        let node = entries.remove(name).ok_or(Reason::FileNotFound)?;
        *modified_at = now;
        Ok(node)
    }

    /// Refuses when the workspace could not hold `n_bytes` more.
    fn room_for(&self, n_bytes: usize) -> Result<(), Reason> {
        let used = self.node(&[workspace().to_owned()]).map_or(0, Node::n_bytes);
        let wanted = u64::try_from(used.saturating_add(n_bytes)).unwrap_or(u64::MAX);
        if wanted > self.capacity_bytes { Err(Reason::NoSpace) } else { Ok(()) }
    }
}

/// Refuses a place outside of what a path may lead through.
fn within(reach: Reach, place: &[String]) -> Result<(), Reason> {
    match reach {
        Reach::Sandbox => Ok(()),
        Reach::Workspace => match place.first() {
            Some(first) if first == workspace() => Ok(()),
            Some(_) | None => Err(Reason::OutsideWorkspace),
        },
    }
}
