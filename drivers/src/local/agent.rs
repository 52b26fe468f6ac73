//! Finds the agent in a form that a sandbox's user can run. A server that is root may have it where
//! nobody else can look, such as below `/root`; then root keeps a copy of it that everybody can read.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::failure::{Doing, Failure, Result};

/// The path of an agent that an ordinary user can run.
pub(super) fn readable(agent: &Path, copies: &Path) -> Result<PathBuf> {
    let agent = existing(agent)?;
    if everybody_reads(&agent) { Ok(agent) } else { copy(&agent, copies) }
}

/// The agent's real path.
pub(super) fn existing(agent: &Path) -> Result<PathBuf> {
    let remedy = "build it with `cargo build -p guest` or correct its path in the configuration";
    let missing = |error: io::Error| {
        let path = agent.display();
        Failure::unsupported(format!("there is no agent at {path} ({error}); {remedy}"))
    };
    let real = fs::canonicalize(agent).map_err(missing)?;
    let file = fs::metadata(&real).map_err(missing)?;
    if file.is_file() && file.permissions().mode() & 0o100 != 0 {
        Ok(real)
    } else {
        Err(Failure::unsupported(format!("{} is not a program; {remedy}", real.display())))
    }
}

fn everybody_reads(agent: &Path) -> bool {
    let allows = |path: &Path, mode: u32| {
        fs::metadata(path).is_ok_and(|found| found.permissions().mode() & mode == mode)
    };
    allows(agent, 0o005) && agent.ancestors().skip(1).all(|directory| allows(directory, 0o001))
}

/// Copies the agent unless that was done before, and drops copies of other versions of it. Sandboxes
/// that run keep what they have, whatever its name becomes.
fn copy(agent: &Path, copies: &Path) -> Result<PathBuf> {
    let file = fs::metadata(agent).doing("look at", agent)?;
    let version = format!("guest-{}-{}-{}", file.ino(), file.len(), file.mtime());
    let path = copies.join(&version);
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(copies).doing("create", copies)?;
    for entry in fs::read_dir(copies).doing("list", copies)? {
        let old = entry.doing("list", copies)?.path();
        // Another server may be at it too; whatever stays is dropped next time.
        let _ = fs::remove_file(old);
    }
    let draft = copies.join(format!("{version}.{}", std::process::id()));
    write_copy(agent, &draft).doing("copy the agent to", &draft)?;
    fs::rename(&draft, &path).doing("copy the agent to", &path)?;
    Ok(path)
}

fn write_copy(agent: &Path, draft: &Path) -> io::Result<()> {
    let mut target = fs::File::options().write(true).create_new(true).mode(0o755).open(draft)?;
    io::copy(&mut fs::File::open(agent)?, &mut target)?;
    // The mode above is subject to the umask.
    target.set_permissions(fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_others_cannot_reach_is_copied_once_per_version() {
        let directory = tempfile::tempdir().unwrap();
        let hidden = directory.path().join("hidden");
        fs::create_dir(&hidden).unwrap();
        let (agent, copies) = (hidden.join("agent"), directory.path().join("copies"));
        fs::write(&agent, "one").unwrap();
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o700)).unwrap();

        let first = readable(&agent, &copies).unwrap();
        assert_eq!(readable(&agent, &copies).unwrap(), first);
        assert_eq!(fs::read(&first).unwrap(), b"one");
        assert_eq!(first.metadata().unwrap().permissions().mode() & 0o777, 0o755);

        fs::write(&agent, "another").unwrap();
        let second = readable(&agent, &copies).unwrap();
        assert_eq!(fs::read(second).unwrap(), b"another");
        assert!(!first.exists());
    }

    #[test]
    fn a_missing_agent_says_how_to_get_one() {
        let error = existing(Path::new("/nowhere/agent")).unwrap_err();
        assert_eq!(error.kind, crate::ErrorKind::Unsupported);
        assert!(error.to_string().contains("cargo build -p guest"), "{error}");
    }
}
