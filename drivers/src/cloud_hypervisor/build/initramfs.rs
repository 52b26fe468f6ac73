//! The file system that a kernel starts with: the agent as its first process, and the modules it loads.

use std::io::{self, Write as _};

use cpio::newc::{self, Builder, ModeFileType};

use super::{BuildError, Module, Result};

/// Packs an initial file system. The same content makes the same bytes.
///
/// # Errors
/// When something in it is larger than the format allows.
pub fn initramfs(agent: &[u8], modules: &[Module]) -> Result<Vec<u8>> {
    pack(agent, modules)
        .map_err(|error| BuildError::Unfit(format!("the initramfs cannot be packed: {error}")))
}

fn pack(agent: &[u8], modules: &[Module]) -> io::Result<Vec<u8>> {
    let mut archive = Archive { bytes: Vec::new(), n_entries: 0 };
    archive.add("dev", 0o755, ModeFileType::Directory, &[])?;
    // The kernel starts the first process without any, if there is no console; a library would open
    // whatever it needs first as its standard input.
    archive.device("dev/null", 0o666, (1, 3))?;
    archive.add("modules", 0o755, ModeFileType::Directory, &[])?;
    for (number, module) in (0_u32..).zip(modules) {
        let name = format!("modules/{number:03}-{}.ko", module.name);
        archive.add(&name, 0o644, ModeFileType::Regular, &module.content)?;
    }
    archive.add("init", 0o755, ModeFileType::Regular, agent)?;
    newc::trailer(archive.bytes)
}

struct Archive {
    bytes: Vec<u8>,
    n_entries: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, kind: ModeFileType) -> Builder {
        self.n_entries += 1;
        Builder::new(name).ino(self.n_entries).mode(mode).set_mode_file_type(kind)
    }

    fn add(&mut self, name: &str, mode: u32, kind: ModeFileType, data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        let mut writer = self.entry(name, mode, kind).write(&mut self.bytes, length);
        writer.write_all(data)?;
        writer.finish()?;
        Ok(())
    }

    fn device(&mut self, name: &str, mode: u32, (major, minor): (u32, u32)) -> io::Result<()> {
        let entry = self.entry(name, mode, ModeFileType::Char);
        entry.rdev_major(major).rdev_minor(minor).write(&mut self.bytes, 0).finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cpio::newc::Reader;

    use super::*;

    #[test]
    fn the_archive_is_what_the_kernel_reads() {
        let module = |name: &str, content: &[u8]| Module {
            name: name.to_owned(),
            content: content.to_vec(),
        };
        let packed = initramfs(b"agent", &[module("virtio", b"one"), module("erofs", b"three")]);
        let packed = packed.unwrap();
        let (mut rest, mut listing) = (packed.as_slice(), String::new());
        loop {
            let mut reader = Reader::new(rest).unwrap();
            let entry = reader.entry().clone();
            let mut content = String::new();
            io::Read::read_to_string(&mut reader, &mut content).unwrap();
            rest = reader.finish().unwrap();
            if entry.is_trailer() {
                break;
            }
            listing += &format!(
                "{} {:06o} {}:{} {},{} {} {content:?}\n",
                entry.ino(),
                entry.mode(),
                entry.uid(),
                entry.gid(),
                entry.rdev_major(),
                entry.rdev_minor(),
                entry.name(),
            );
        }
        let wanted = "\
1 040755 0:0 0,0 dev \"\"
2 020666 0:0 1,3 dev/null \"\"
3 040755 0:0 0,0 modules \"\"
4 100644 0:0 0,0 modules/000-virtio.ko \"one\"
5 100644 0:0 0,0 modules/001-erofs.ko \"three\"
6 100755 0:0 0,0 init \"agent\"
";
        assert_eq!(listing, wanted);
        assert_eq!(packed.len() % 4, 0);
    }
}
