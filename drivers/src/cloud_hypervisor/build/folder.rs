//! The folder of what machines on this host are made from. Whatever is put there is complete once it has
//! its name: a crash leaves at most files that nobody looks at, which the next change removes.
//!
//! ```text
//! sha256-<digest>      an image, named by its content
//! tplv_<id>            the image of a template version: a link to one of them
//! boot-<digest>/       a kernel with the initramfs that fits it
//! boot                 a link to the one in use; `kernel` and `initramfs` lead there
//! ```

use std::{
    fs::{self, File, Permissions},
    io::{self, Read},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use domain::{id::TemplateVersionId, image::ImageDigest};
use sha2::{Digest as _, Sha256};

use super::{Doing, Kernel, Result, unfit};

/// What is on its way has a name that begins so.
const NEW: &str = ".new-";
/// So does a link, of which a crash may leave one; it takes no room.
const LINK: &str = ".link-";
const BOOT: &str = "boot";
const PARTS: [&str; 2] = ["kernel", "initramfs"];
const BUFFER: usize = 1 << 20;

/// The folder. It may be shared by several processes.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

/// An image that was put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// What it is called.
    pub digest: ImageDigest,
    /// Its size.
    pub bytes: u64,
}

/// What the folder has of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A file of this many bytes.
    There(u64),
    /// None.
    Missing,
    /// A file whose content is not what its name says.
    Changed,
}

impl Folder {
    /// A folder, which is made when something is put there.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts an image there; one that is there stays as it is.
    ///
    /// # Errors
    /// When it is no image, or the host refuses.
    pub fn add(&self, image: &Path) -> Result<Added> {
        let mut from = File::open(image).doing("open", image)?;
        check_kind(&mut from, image)?;
        let _changing = self.begin()?;
        let mut to = self.new_file()?;
        let mut hash = Hash { inner: from, sha: Sha256::new() };
        let bytes =
            io::copy(&mut io::BufReader::with_capacity(BUFFER, &mut hash), to.as_file_mut());
        let bytes = bytes.doing("copy", image)?;
        let digest = hash.digest();
        if self.verify(&digest)? != Found::There(bytes) {
            self.keep(to, &image_name(&digest))?;
        }
        Ok(Added { digest, bytes })
    }

    /// Makes an image that is there the one of a template version.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn link(&self, version: TemplateVersionId, digest: &ImageDigest) -> Result<()> {
        // Not in turn with others: a transaction waits for it.
        self.point(&version.to_string(), &image_name(digest))
    }

    /// Whether a version's machines are made from this image.
    #[must_use]
    pub fn is_linked(&self, version: TemplateVersionId, digest: &ImageDigest) -> bool {
        let target = fs::read_link(self.path.join(version.to_string()));
        target.is_ok_and(|target| target == Path::new(&image_name(digest)))
    }

    /// Whether an image is there; its content is not looked at.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn find(&self, digest: &ImageDigest) -> Result<Found> {
        let path = self.path.join(image_name(digest));
        match fs::metadata(&path) {
            Ok(file) => Ok(Found::There(file.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
            Err(error) => Err(error).doing("look at", &path),
        }
    }

    /// Whether an image is there and has the content that it is called by.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn verify(&self, digest: &ImageDigest) -> Result<Found> {
        let found = self.find(digest)?;
        let Found::There(_) = found else { return Ok(found) };
        let path = self.path.join(image_name(digest));
        let mut hash = Hash { inner: File::open(&path).doing("open", &path)?, sha: Sha256::new() };
        let read = io::copy(&mut io::BufReader::with_capacity(BUFFER, &mut hash), &mut io::sink());
        read.doing("read", &path)?;
        Ok(if hash.digest() == *digest { found } else { Found::Changed })
    }

    /// Lets machines start from a kernel and its initial file system from now on: from both new ones, or
    /// from both old ones, at any instant.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn boot_from(&self, kernel: &Kernel, initramfs: &[u8]) -> Result<()> {
        let _changing = self.begin()?;
        let contents = [kernel.image.as_slice(), initramfs];
        let mut sha = Sha256::new();
        for content in contents {
            sha.update(u64::try_from(content.len()).unwrap_or(u64::MAX).to_be_bytes());
            sha.update(content);
        }
        let name = format!("{BOOT}-{}", ImageDigest::from_bytes(sha.finalize().into()).short());
        let folder = tempfile::Builder::new().prefix(NEW).tempdir_in(&self.path);
        let folder = folder.doing("make a folder in", &self.path)?;
        for (part, content) in PARTS.into_iter().zip(contents) {
            let path = folder.path().join(part);
            fs::write(&path, content).doing("write", &path)?;
            for_everybody(&path, 0o644)?;
            sync(&path)?;
        }
        for_everybody(folder.path(), 0o755)?;
        sync(folder.path())?;
        let path = self.path.join(&name);
        let is_whole = PARTS
            .into_iter()
            .zip(contents)
            .all(|(part, content)| fs::read(path.join(part)).is_ok_and(|found| found == content));
        if !is_whole {
            if path.exists() {
                fs::remove_dir_all(&path).doing("remove", &path)?;
            }
            fs::rename(folder.path(), &path).doing("make", &path)?;
            sync(&self.path)?;
        }
        self.point(BOOT, &name)?;
        for part in PARTS {
            self.point(part, &format!("{BOOT}/{part}"))?;
        }
        Ok(())
    }

    /// Waits for its turn to change something, and removes what a process that was killed left behind.
    fn begin(&self) -> Result<File> {
        if !self.path.is_dir() {
            fs::create_dir_all(&self.path).doing("make", &self.path)?;
            for_everybody(&self.path, 0o755)?;
        }
        let path = self.path.join(".lock");
        let lock = File::create(&path).doing("make", &path)?;
        lock.lock().doing("lock", &path)?;
        for entry in fs::read_dir(&self.path).doing("list", &self.path)? {
            let entry = entry.doing("list", &self.path)?;
            if entry.file_name().as_encoded_bytes().starts_with(NEW.as_bytes()) {
                let path = entry.path();
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let removed =
                    if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.doing("remove", &path)?;
            }
        }
        Ok(lock)
    }

    fn new_file(&self) -> Result<tempfile::NamedTempFile> {
        let made = tempfile::Builder::new().prefix(NEW).tempfile_in(&self.path);
        made.doing("make a file in", &self.path)
    }

    /// Gives a file that is written its name.
    fn keep(&self, file: tempfile::NamedTempFile, name: &str) -> Result<()> {
        let path = self.path.join(name);
        for_everybody(file.path(), 0o644)?;
        file.as_file().sync_all().doing("write", &path)?;
        file.persist(&path).map_err(|error| error.error).doing("make", &path)?;
        sync(&self.path)
    }

    /// Makes `name` a link to `target`, whatever it was; at every instant it is one or the other.
    fn point(&self, name: &str, target: &str) -> Result<()> {
        let path = self.path.join(name);
        if fs::read_link(&path).is_ok_and(|found| found == Path::new(target)) {
            return Ok(());
        }
        // Nobody removes a link on its way, and it has a name of its own.
        let made =
            tempfile::Builder::new().prefix(LINK).make_in(&self.path, |new| symlink(target, new));
        let new = made.doing("make a link in", &self.path)?.into_temp_path();
        new.persist(&path).map_err(|error| error.error).doing("make", &path)?;
        sync(&self.path)
    }
}

fn image_name(digest: &ImageDigest) -> String {
    format!("sha256-{digest}")
}

/// Machines' VMMs read it as users of their own.
fn for_everybody(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).doing("change", path)
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).doing("write", path)
}

/// Refuses what machines could not mount, and goes back to the beginning.
fn check_kind(file: &mut File, path: &Path) -> Result<()> {
    const EROFS: [u8; 4] = 0xE0F5_E1E2_u32.to_le_bytes();
    const SQUASHFS: [u8; 4] = *b"hsqs";
    let mut start = Vec::new();
    file.take(1028).read_to_end(&mut start).doing("read", path)?;
    io::Seek::rewind(file).doing("read", path)?;
    if start.starts_with(&SQUASHFS) || start.get(1024..1028) == Some(&EROFS) {
        return Ok(());
    }
    unfit(format!("{} is neither an EROFS nor a squashfs image", path.display()))
}

/// Reads on, and hashes what it reads.
struct Hash {
    inner: File,
    sha: Sha256,
}

impl Hash {
    fn digest(self) -> ImageDigest {
        ImageDigest::from_bytes(self.sha.finalize().into())
    }
}

impl Read for Hash {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.sha.update(&buffer[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn erofs(content: &str) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image.extend_from_slice(&[0xE2, 0xE1, 0xF5, 0xE0]);
        image.extend_from_slice(content.as_bytes());
        image
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name != ".lock");
        names.sort();
        names
    }

    #[test]
    fn an_image_is_called_by_its_content() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().join("images"));
        let file = place.path().join("image");
        fs::write(&file, erofs("one")).unwrap();
        let one = folder.add(&file).unwrap();
        let path = folder.path().join(format!("sha256-{}", one.digest));
        assert_eq!((fs::read(&path).unwrap(), one.bytes), (erofs("one"), 1031));
        let first = fs::metadata(&path).unwrap();
        assert_eq!(first.mode() & 0o777, 0o644);
        // A server that was killed while it copied left this.
        fs::write(folder.path().join(".new-half"), "half").unwrap();
        assert_eq!(folder.add(&file).unwrap(), one);
        assert_eq!(fs::metadata(&path).unwrap().ino(), first.ino(), "it stays as it is");
        fs::write(&path, erofs("two")).unwrap();
        assert_eq!(folder.verify(&one.digest).unwrap(), Found::Changed);
        assert_eq!(folder.find(&one.digest).unwrap(), Found::There(1031));
        folder.add(&file).unwrap();
        assert_eq!(folder.verify(&one.digest).unwrap(), Found::There(1031), "it is mended");
        let other = ImageDigest::from_bytes([7; 32]);
        assert_eq!(folder.verify(&other).unwrap(), Found::Missing);
        assert_eq!(names(folder.path()), [format!("sha256-{}", one.digest)]);
    }

    #[test]
    fn what_no_machine_could_mount_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().join("images"));
        let file = place.path().join("image");
        for (content, is_image) in [
            (b"hsqs...".to_vec(), true),
            (erofs(""), true),
            (erofs("")[..1027].to_vec(), false),
            (b"hsq".to_vec(), false),
            (Vec::new(), false),
        ] {
            fs::write(&file, &content).unwrap();
            assert_eq!(folder.add(&file).is_ok(), is_image, "{} bytes", content.len());
        }
        let text = folder.add(Path::new("/nowhere/image")).unwrap_err().to_string();
        assert!(text.contains("/nowhere/image"), "{text}");
    }

    #[test]
    fn a_version_has_the_image_it_was_linked_to() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path());
        let version = TemplateVersionId::generate(chrono::DateTime::UNIX_EPOCH);
        let (one, two) = (ImageDigest::from_bytes([1; 32]), ImageDigest::from_bytes([2; 32]));
        assert!(!folder.is_linked(version, &one));
        for digest in [&one, &two, &two] {
            folder.link(version, digest).unwrap();
            assert!(folder.is_linked(version, digest));
        }
        assert!(!folder.is_linked(version, &one));
        assert_eq!(names(place.path()), [version.to_string()]);
    }

    #[test]
    fn a_kernel_is_never_without_its_modules() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path());
        // As an operator put them there.
        for part in PARTS {
            fs::write(place.path().join(part), "by hand").unwrap();
        }
        let kernel =
            |text: &str| Kernel { image: text.as_bytes().to_vec(), release: "6.1".to_owned() };
        let found = || PARTS.map(|part| fs::read_to_string(place.path().join(part)).unwrap());
        for (image, initramfs) in [("a", "b"), ("a", "b"), ("ab", ""), ("a", "b")] {
            folder.boot_from(&kernel(image), initramfs.as_bytes()).unwrap();
            assert_eq!(found(), [image, initramfs]);
        }
        let names = names(place.path());
        assert_eq!(names.len(), 5, "the link, its two ends, the two ways in: {names:?}");
        // One that is damaged is made anew.
        let kernel_file = fs::canonicalize(place.path().join("kernel")).unwrap();
        fs::write(&kernel_file, "x").unwrap();
        folder.boot_from(&kernel("a"), b"b").unwrap();
        assert_eq!(found(), ["a", "b"]);
    }
}
