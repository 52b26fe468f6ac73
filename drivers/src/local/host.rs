//! What the host lends to sandboxes: its programs and libraries, read-only. Looks only; what a
//! sandbox gets of it is decided in `arguments`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    jail::{
        failure::{Failure, Result},
        program::is_executable,
    },
    spec::Template,
};

/// A directory at the root of a file system, such as `/lib`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TopLevel {
    /// A link, as on hosts with a merged `/usr`.
    Link { path: PathBuf, target: PathBuf },
    /// A directory of its own.
    Directory(PathBuf),
}

/// The parts of the host that sandboxes see.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub top_level: Vec<TopLevel>,
    pub python: Option<PathBuf>,
    pub node: Option<PathBuf>,
    /// Files and directories of `/etc` that programs need and that tell nothing of the host.
    pub etc: Vec<PathBuf>,
}

const TOP_LEVEL: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
const ETC: [&str; 7] = [
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
];
const PROGRAMS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

impl Host {
    pub fn look() -> Self {
        Self {
            top_level: TOP_LEVEL.iter().filter_map(|path| top_level(Path::new(path))).collect(),
            python: program("python3"),
            node: program("node").or_else(|| program("nodejs")),
            etc: ETC.iter().map(PathBuf::from).filter(|path| path.exists()).collect(),
        }
    }

    /// Refuses a template whose interpreters the host does not have, or that nobody knows.
    pub fn supports(&self, template: &Template) -> Result<()> {
        let needs: &[(&str, &Option<PathBuf>)] = match template.slug.as_str() {
            "base" => &[],
            "python" => &[("python3", &self.python)],
            "node" => &[("node", &self.node)],
            "python-node" => &[("python3", &self.python), ("node", &self.node)],
            slug => {
                return Err(Failure::unsupported(format!("there is no template {slug:?} here")));
            }
        };
        match needs.iter().find(|(_, path)| path.is_none()) {
            None => Ok(()),
            Some((name, _)) => Err(Failure::unsupported(format!(
                "template {:?} needs {name} in /usr/local/bin or /usr/bin of the host; \
                 install it with the system's package manager",
                template.slug
            ))),
        }
    }
}

/// Finds a program that runs with nothing but what sandboxes see of the host.
fn program(name: &str) -> Option<PathBuf> {
    let seen = |path: &PathBuf| {
        fs::canonicalize(path).is_ok_and(|real| {
            (real.starts_with("/usr") || TOP_LEVEL.iter().any(|top| real.starts_with(top)))
                && is_executable(&real)
        })
    };
    PROGRAMS.iter().map(|directory| Path::new(directory).join(name)).find(seen)
}

fn top_level(path: &Path) -> Option<TopLevel> {
    match fs::read_link(path) {
        Ok(target) => Some(TopLevel::Link { path: path.to_owned(), target }),
        Err(_) if path.is_dir() => Some(TopLevel::Directory(path.to_owned())),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use domain::id::TemplateVersionId;

    use super::*;

    #[test]
    fn a_template_needs_its_interpreters() {
        let found = Some(PathBuf::from("/usr/bin/found"));
        let version_id = TemplateVersionId::generate(chrono::DateTime::UNIX_EPOCH);
        for (slug, python, node, wanted) in [
            ("base", None, None, None),
            ("python", None, found.clone(), Some("python3")),
            ("node", found.clone(), None, Some("node")),
            ("python-node", found.clone(), None, Some("node")),
            ("python-node", found.clone(), found.clone(), None),
            ("windows", found.clone(), found.clone(), Some("windows")),
        ] {
            let host = Host { top_level: Vec::new(), python, node, etc: Vec::new() };
            let refusal = host.supports(&Template { slug: slug.to_owned(), version_id }).err();
            let text = refusal.map(|refusal| refusal.to_string());
            match wanted {
                None => assert_eq!(text, None, "{slug}"),
                Some(named) => assert!(text.clone().unwrap().contains(named), "{slug}: {text:?}"),
            }
        }
    }
}
