//! Finds programs, in a form that a sandbox's user can run. A server that is root may have one where
//! nobody else can look, such as below its home; then root keeps a copy of it that everybody can read.

use std::{
    env, fs, io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::failure::{Doing, Failure, Result};

/// A program that a driver needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program<'a> {
    /// What it is, such as `agent`.
    pub name: &'a str,
    pub path: &'a Path,
    /// How an operator gets one.
    pub remedy: &'a str,
}

impl Program<'_> {
    /// A path of it at which an ordinary user can run it.
    pub fn readable(self, copies: &Path) -> Result<PathBuf> {
        let program = self.existing()?;
        if everybody_reads(&program) { Ok(program) } else { copy(self.name, &program, copies) }
    }

    /// Its real path.
    pub fn existing(self) -> Result<PathBuf> {
        let Self { name, path, remedy } = self;
        let missing = |error: io::Error| {
            let path = path.display();
            Failure::unsupported(format!("there is no {name} at {path} ({error}); {remedy}"))
        };
        let real = fs::canonicalize(path).map_err(missing)?;
        let file = fs::metadata(&real).map_err(missing)?;
        if file.is_file() && file.permissions().mode() & 0o100 != 0 {
            Ok(real)
        } else {
            Err(Failure::unsupported(format!("{} is not a program; {remedy}", real.display())))
        }
    }
}

/// Finds a program of the host the way a shell does.
pub(crate) fn find(program: &Path) -> io::Result<PathBuf> {
    if program.components().count() > 1 {
        return fs::canonicalize(program);
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| is_executable(path))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "not found on PATH"))
}

/// Finds bubblewrap.
pub(crate) fn find_bwrap(bwrap: &Path) -> Result<PathBuf> {
    find(bwrap).map_err(|error| {
        let path = bwrap.display();
        Failure::unsupported(format!("there is no {path} ({error}); install bubblewrap"))
    })
}

pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn everybody_reads(program: &Path) -> bool {
    let allows = |path: &Path, mode: u32| {
        fs::metadata(path).is_ok_and(|found| found.permissions().mode() & mode == mode)
    };
    allows(program, 0o005) && program.ancestors().skip(1).all(|directory| allows(directory, 0o001))
}

/// Copies a program unless that was done before, and drops copies of other versions of it. Sandboxes
/// that run keep what they have, whatever its name becomes.
fn copy(name: &str, program: &Path, copies: &Path) -> Result<PathBuf> {
    let file = fs::metadata(program).doing("look at", program)?;
    let version = format!("{name}-{}-{}-{}", file.ino(), file.len(), file.mtime());
    let path = copies.join(&version);
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(copies).doing("create", copies)?;
    for entry in fs::read_dir(copies).doing("list", copies)? {
        let old = entry.doing("list", copies)?;
        if old.file_name().to_string_lossy().starts_with(&format!("{name}-")) {
            // Another server may be at it too; whatever stays is dropped next time.
            let _ = fs::remove_file(old.path());
        }
    }
    let draft = copies.join(format!("{version}.{}", std::process::id()));
    write_copy(program, &draft).doing("copy a program to", &draft)?;
    fs::rename(&draft, &path).doing("copy a program to", &path)?;
    Ok(path)
}

fn write_copy(program: &Path, draft: &Path) -> io::Result<()> {
    let mut target = fs::File::options().write(true).create_new(true).mode(0o755).open(draft)?;
    io::copy(&mut fs::File::open(program)?, &mut target)?;
    // The mode above is subject to the umask.
    target.set_permissions(fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(path: &Path) -> Program<'_> {
        Program { name: "agent", path, remedy: "build it with `cargo build -p guest`" }
    }

    #[test]
    fn an_agent_that_others_cannot_reach_is_copied_once_per_version() {
        let directory = tempfile::tempdir().unwrap();
        let hidden = directory.path().join("hidden");
        fs::create_dir(&hidden).unwrap();
        let (agent, copies) = (hidden.join("agent"), directory.path().join("copies"));
        fs::write(&agent, "one").unwrap();
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o700)).unwrap();

        let first = self::agent(&agent).readable(&copies).unwrap();
        assert_eq!(self::agent(&agent).readable(&copies).unwrap(), first);
        assert_eq!(fs::read(&first).unwrap(), b"one");
        assert_eq!(first.metadata().unwrap().permissions().mode() & 0o777, 0o755);

        fs::write(&agent, "another").unwrap();
        let second = self::agent(&agent).readable(&copies).unwrap();
        assert_eq!(fs::read(second).unwrap(), b"another");
        assert!(!first.exists());
    }

    #[test]
    fn a_missing_agent_says_how_to_get_one() {
        let error = agent(Path::new("/nowhere/agent")).existing().unwrap_err();
        assert_eq!(error.kind, crate::ErrorKind::Unsupported);
        assert!(error.to_string().contains("cargo build -p guest"), "{error}");
    }

    #[test]
    fn programs_are_found_like_a_shell_does() {
        assert!(find(Path::new("sh")).unwrap().is_absolute());
        assert!(find(Path::new("no-such-program-here")).is_err());
        assert!(find(Path::new("/bin/sh")).is_ok());
    }
}
