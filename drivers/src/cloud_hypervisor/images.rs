//! What machines are made from on this host: the kernel, the initial file system with the agent, and an
//! image for each template. Only finds and checks files; making them is
//! `build`'s.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use domain::id::TemplateVersionId;

use crate::{
    jail::failure::{Doing, Failure, Result},
    spec::Template,
};

/// The templates of every installation, whose images may be there under these names.
const TEMPLATES: [&str; 4] = ["base", "python", "node", "python-node"];

/// The file of a template's image: that of the exact version, or else the one that has the template's
/// name, which is where versions are looked for that were never built on their own.
pub(super) fn image(directory: &Path, template: &Template) -> Result<PathBuf> {
    let slug = &template.slug;
    let is_plain = !slug.is_empty() && slug.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let version = template.version_id.to_string();
    let names = [Some(version.as_str()), is_plain.then_some(slug.as_str())];
    for name in names.into_iter().flatten() {
        let path = directory.join(name);
        match fs::canonicalize(&path) {
            Ok(path) if path.is_file() => return Ok(path),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).doing("look at", &path);
            }
            Ok(_) | Err(_) => {}
        }
    }
    Err(Failure::unsupported(format!(
        "there is no image of template {slug:?}, version {version}, in {}; `crownest template import` \
         puts it there",
        directory.display()
    )))
}

/// Whether there is an image of any template version.
pub(super) fn any(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return false };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_version = |name: &str| name.parse::<TemplateVersionId>().is_ok();
    let mut images = names.filter(|name| is_version(name) || TEMPLATES.contains(&name.as_str()));
    images.any(|name| directory.join(name).is_file())
}

/// A file that every machine needs.
pub(super) fn file(what: &str, path: &Path) -> Result<PathBuf> {
    let real = fs::canonicalize(path).and_then(|real| {
        let is_file = real.is_file();
        is_file.then_some(real).ok_or_else(|| io::Error::other("not a file"))
    });
    real.map_err(|error| {
        let path = path.display();
        Failure::unsupported(format!(
            "there is no {what} at {path} ({error}); make it with `crownest template kernel`, or correct \
             its path in the configuration"
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{contract, driver::ErrorKind};

    #[test]
    fn an_image_is_the_versions_or_the_templates() {
        let folder = tempfile::tempdir().unwrap();
        let template = |slug: &str| Template {
            slug: slug.to_owned(),
            version_id: contract::spec().template.version_id,
        };
        fs::create_dir(folder.path().join("images")).unwrap();
        let images = folder.path().join("images");
        fs::write(images.join("sha256-1"), "1").unwrap();
        fs::write(images.join("sha256-2"), "2").unwrap();
        fs::write(folder.path().join("secret"), "").unwrap();
        fs::create_dir(images.join("folder")).unwrap();
        assert!(!any(&images), "nobody's");
        symlink("sha256-1", images.join("base")).unwrap();
        let found =
            |template: &Template| image(&images, template).map(|path| fs::read(path).unwrap());
        let base = template("base");
        assert_eq!(found(&base).unwrap(), b"1");
        assert!(any(&images), "a template's");
        fs::remove_file(images.join("base")).unwrap();
        symlink("sha256-gone", images.join(base.version_id.to_string())).unwrap();
        assert!(!any(&images), "one that is gone");
        fs::remove_file(images.join(base.version_id.to_string())).unwrap();
        symlink("sha256-1", images.join("base")).unwrap();
        symlink("sha256-2", images.join(base.version_id.to_string())).unwrap();
        assert_eq!(found(&base).unwrap(), b"2", "its own");
        assert!(any(&images), "a version's");
        assert_eq!(found(&template("base")).unwrap(), b"1", "another version");
        for slug in ["python", "", "..", "../secret", "folder", "sha256-1\0"] {
            let failure = found(&template(slug)).unwrap_err();
            assert_eq!(failure.kind, ErrorKind::Unsupported, "{slug}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        for path in ["/nowhere/vmlinux", "/etc"] {
            let text = file("kernel", Path::new(path)).unwrap_err().to_string();
            assert!(text.contains("kernel") && text.contains(path), "{text}");
        }
    }
}
