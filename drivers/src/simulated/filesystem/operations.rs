//! What guest calls and commands do with files, with the refusals of the guest protocol. Each
//! operation happens whole or not at all.

use chrono::{DateTime, Utc};
use protocol::{FileStat, FileType, Reason};

use super::{Address, Filesystem, Last, Node, Place};

const MAX_ENTRIES: usize = 10_000;

/// What becomes of something that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::simulated) enum Existing {
    Keep,
    Replace,
    /// Writes go to its end.
    Extend,
}

/// What becomes of directories that are missing on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::simulated) enum Parents {
    Require,
    Create,
}

impl Filesystem {
    pub fn stat(&self, address: &Address) -> Result<FileStat, Reason> {
        let place = self.existing(address, Last::Follow)?;
        let node = self.node(&place.names).ok_or(Reason::FileNotFound)?;
        Ok(describe(address, node))
    }

    pub fn read(&self, address: &Address) -> Result<(FileStat, Vec<u8>), Reason> {
        let place = self.existing(address, Last::Follow)?;
        match self.node(&place.names).ok_or(Reason::FileNotFound)? {
            node @ Node::File { data, .. } => Ok((describe(address, node), data.clone())),
            Node::Directory { .. } => Err(Reason::IsDirectory),
            Node::Link { .. } => Err(Reason::FileNotFound),
        }
    }

    pub fn list(&self, address: &Address) -> Result<Vec<FileStat>, Reason> {
        let place = self.existing(address, Last::Follow)?;
        let Some(Node::Directory { entries, .. }) = self.node(&place.names) else {
            return Err(Reason::NotDirectory);
        };
        if entries.len() > MAX_ENTRIES {
            return Err(Reason::TooManyEntries);
        }
        Ok(entries.keys().map(|name| self.entry(address, name)).collect())
    }

    /// An entry of a directory: what a link leads to, or an empty file if it leads nowhere.
    fn entry(&self, directory: &Address, name: &str) -> FileStat {
        let mut address = directory.clone();
        address.names.push(name.to_owned());
        self.stat(&address).unwrap_or_else(|_| FileStat {
            path: address.text(),
            name: name.to_owned(),
            r#type: FileType::File.into(),
            size_bytes: 0,
            modified_at_unix_micros: 0,
        })
    }

    /// Whether `write` would be refused as things are now, so that a client need not send the data.
    pub fn may_write(
        &self,
        address: &Address,
        existing: Existing,
        parents: Parents,
    ) -> Result<(), Reason> {
        match self.parent_of(address, parents)? {
            None => Ok(()),
            Some(place) => self.writable(&place, existing),
        }
    }

    pub fn write(
        &mut self,
        address: &Address,
        mut data: Vec<u8>,
        existing: Existing,
        parents: Parents,
        now: DateTime<Utc>,
    ) -> Result<FileStat, Reason> {
        self.may_write(address, existing, parents)?;
        self.room_for(data.len())?;
        self.create_parents(address, parents, now)?;
        let place = self.walk(address, Last::Follow)?;
        if existing == Existing::Extend
            && let Some(Node::File { data: old, .. }) = self.node(&place.names)
        {
            data = [old.as_slice(), data.as_slice()].concat();
        }
        self.put(&place.names, Node::File { data, modified_at: now }, now)?;
        self.stat(address)
    }

    fn writable(&self, place: &Place, existing: Existing) -> Result<(), Reason> {
        match self.node(&place.names) {
            Some(Node::Directory { .. }) => Err(Reason::IsDirectory),
            Some(Node::File { .. } | Node::Link { .. }) if existing == Existing::Keep => {
                Err(Reason::AlreadyExists)
            }
            Some(Node::File { .. } | Node::Link { .. }) | None => Ok(()),
        }
    }

    pub fn delete(&mut self, address: &Address, now: DateTime<Utc>) -> Result<(), Reason> {
        if address.is_workspace() {
            return Err(Reason::WorkspaceRoot);
        }
        let place = self.existing(address, Last::Keep)?;
        match self.node(&place.names) {
            Some(Node::Directory { entries, .. }) if !entries.is_empty() => {
                Err(Reason::DirectoryNotEmpty)
            }
            Some(_) | None => self.take(&place.names, now).map(drop),
        }
    }

    pub fn make_directory(
        &mut self,
        address: &Address,
        parents: Parents,
        now: DateTime<Utc>,
    ) -> Result<FileStat, Reason> {
        self.create_parents(address, parents, now)?;
        let last = if parents == Parents::Create { Last::Follow } else { Last::Keep };
        let place = self.walk(address, last).map_err(parent_missing)?;
        match self.node(&place.names) {
            Some(Node::Directory { .. }) if parents == Parents::Create => {}
            Some(_) => return Err(Reason::AlreadyExists),
            None => self.put(&place.names, Node::directory(now), now)?,
        }
        self.stat(address)
    }

    pub fn rename(
        &mut self,
        from: &Address,
        to: &Address,
        existing: Existing,
        now: DateTime<Utc>,
    ) -> Result<FileStat, Reason> {
        if from.is_workspace() || to.is_workspace() {
            return Err(Reason::WorkspaceRoot);
        }
        let source = self.existing(from, Last::Keep)?.names;
        let target = self.walk(to, Last::Keep).map_err(parent_missing)?.names;
        let moves_directory = matches!(self.node(&source), Some(Node::Directory { .. }));
        if moves_directory && target.starts_with(&source) && source != target {
            return Err(Reason::InvalidPath);
        }
        let replaced = self.node(&target).filter(|_| source != target);
        match replaced {
            None if existing == Existing::Keep && source == target => {
                return Err(Reason::AlreadyExists);
            }
            None => {}
            Some(_) if existing == Existing::Keep => return Err(Reason::AlreadyExists),
            Some(Node::Directory { .. }) if !moves_directory => return Err(Reason::IsDirectory),
            Some(Node::Directory { entries, .. }) if entries.is_empty() => {}
            Some(_) if moves_directory => return Err(Reason::AlreadyExists),
            Some(_) => {}
        }
        let node = self.take(&source, now)?;
        self.put(&target, node, now)?;
        self.stat(to).or_else(|_| Ok(describe_missing(to)))
    }

    /// Makes an empty file, or marks what is there as modified now.
    pub fn touch(&mut self, address: &Address, now: DateTime<Utc>) -> Result<(), Reason> {
        let place = self.walk(address, Last::Follow).map_err(parent_missing)?;
        match self.node_mut(&place.names) {
            Some(Node::File { modified_at, .. } | Node::Directory { modified_at, .. }) => {
                *modified_at = now;
                Ok(())
            }
            Some(Node::Link { .. }) => Err(Reason::FileNotFound),
            None => self.put(&place.names, Node::File { data: Vec::new(), modified_at: now }, now),
        }
    }

    /// Makes a symbolic link, whether or not its target is there.
    pub fn link(
        &mut self,
        target: &str,
        address: &Address,
        now: DateTime<Utc>,
    ) -> Result<(), Reason> {
        let place = self.walk(address, Last::Keep).map_err(parent_missing)?;
        if place.exists {
            return Err(Reason::AlreadyExists);
        }
        self.put(&place.names, Node::Link { target: target.to_owned() }, now)
    }

    /// Where a directory really is, for a command to work in.
    pub fn directory(&self, address: &Address) -> Result<Vec<String>, Reason> {
        let place = self.existing(address, Last::Follow)?;
        match self.node(&place.names) {
            Some(Node::Directory { .. }) => Ok(place.names),
            Some(_) | None => Err(Reason::NotDirectory),
        }
    }

    fn existing(&self, address: &Address, last: Last) -> Result<Place, Reason> {
        let place = self.walk(address, last)?;
        if place.exists { Ok(place) } else { Err(Reason::FileNotFound) }
    }

    /// Looks up where something is to be written; `None` when its parents are yet to be created.
    fn parent_of(&self, address: &Address, parents: Parents) -> Result<Option<Place>, Reason> {
        match self.walk(address, Last::Follow) {
            Ok(place) => Ok(Some(place)),
            Err(Reason::FileNotFound) if parents == Parents::Create => Ok(None),
            Err(reason) => Err(parent_missing(reason)),
        }
    }

    /// With `Parents::Create`, makes the directories that are missing above `address`.
    fn create_parents(
        &mut self,
        address: &Address,
        parents: Parents,
        now: DateTime<Utc>,
    ) -> Result<(), Reason> {
        if parents == Parents::Require {
            return Ok(());
        }
        for n_names in 1..address.names.len() {
            let (reach, names) = (address.reach, address.names[..n_names].to_vec());
            let place = self.walk(&Address { reach, names }, Last::Follow)?;
            if !place.exists {
                self.put(&place.names, Node::directory(now), now)?;
            }
        }
        Ok(())
    }
}

/// A name that is missing on the way to something new is a missing parent.
fn parent_missing(reason: Reason) -> Reason {
    if reason == Reason::FileNotFound { Reason::ParentNotFound } else { reason }
}

fn describe(address: &Address, node: &Node) -> FileStat {
    let (kind, size, modified_at) = match node {
        Node::File { data, modified_at } => (FileType::File, data.len(), *modified_at),
        Node::Directory { modified_at, .. } => (FileType::Directory, 0, *modified_at),
        Node::Link { .. } => return describe_missing(address),
    };
    FileStat {
        path: address.text(),
        name: address.name().to_owned(),
        r#type: kind.into(),
        size_bytes: u64::try_from(size).unwrap_or(u64::MAX),
        modified_at_unix_micros: modified_at.timestamp_micros(),
    }
}

/// A link that leads nowhere or outside.
fn describe_missing(address: &Address) -> FileStat {
    FileStat {
        path: address.text(),
        name: address.name().to_owned(),
        r#type: FileType::File.into(),
        size_bytes: 0,
        modified_at_unix_micros: 0,
    }
}
