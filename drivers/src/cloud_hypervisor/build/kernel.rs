//! The kernel of machines. A distribution ships it compressed behind a boot sector; a VMM starts faster
//! from what is in there, and maps it as it is.

use std::path::Path;

use super::{Result, elf, read, unfit, unpack::Packing};

/// A kernel that a VMM can enter.
#[derive(Debug)]
pub struct Kernel {
    /// The file, uncompressed.
    pub image: Vec<u8>,
    /// Its version as modules name it, such as `6.1.0-40-cloud-amd64`.
    pub release: String,
}

/// Where the boot sector has what. Its fields are described in the kernel's documentation of the x86
/// boot protocol, whose version 2.08 was the first with a payload.
const SETUP_SECTORS: usize = 0x1F1;
const MAGIC: std::ops::Range<usize> = 0x202..0x206;
const PROTOCOL: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24C;
const SECTOR: usize = 512;
const FIRST_WITH_PAYLOAD: u16 = 0x0208;
/// What stands before the version in every kernel.
const BANNER: &[u8] = b"Linux version ";

impl Kernel {
    /// Reads a kernel: a boot image such as `/boot/vmlinuz-*`, or a `vmlinux`.
    ///
    /// # Errors
    /// When it cannot be read or unpacked, or is no kernel that a machine can be started from.
    pub async fn read(path: &Path) -> Result<Self> {
        let file = read(path)?;
        match Self::from_file(file).await {
            Err(super::BuildError::Unfit(why)) => unfit(format!("{}: {why}", path.display())),
            made => made,
        }
    }

    async fn from_file(file: Vec<u8>) -> Result<Self> {
        let image = if file.get(MAGIC) == Some(b"HdrS") { unpacked(&file).await? } else { file };
        if !elf::has_pvh_entry(&image) {
            return unfit(
                "it is no kernel for x86-64 with a PVH entry (CONFIG_PVH), where machines begin",
            );
        }
        let Some(release) = release(&image) else { return unfit("it does not say its version") };
        Ok(Self { release, image })
    }
}

async fn unpacked(file: &[u8]) -> Result<Vec<u8>> {
    let payload = match payload(file) {
        Ok(payload) => payload,
        Err(why) => return unfit(why),
    };
    match Packing::of(payload) {
        // Its own format has the length in the end, the kernel's build adds it to the others.
        Some(Packing::Gzip) => Packing::Gzip.unpack(payload).await,
        Some(packing @ (Packing::Lz4 | Packing::Xz | Packing::Zstd)) => {
            let Some((packed, length)) = payload.split_last_chunk::<4>() else {
                return unfit("it is cut off");
            };
            let image = packing.unpack(packed).await?;
            if usize::try_from(u32::from_le_bytes(*length)) != Ok(image.len()) {
                return unfit("it is not as long as it says; the file is damaged");
            }
            Ok(image)
        }
        None if payload.starts_with(b"\x7fELF") => Ok(payload.to_vec()),
        None => unfit("it is compressed in a way that is neither gzip, lz4, xz nor zstd"),
    }
}

fn payload(file: &[u8]) -> std::result::Result<&[u8], &'static str> {
    let protocol = u16::from_le_bytes(bytes(file, PROTOCOL)?);
    if protocol < FIRST_WITH_PAYLOAD {
        return Err("its boot sector is of a kernel too old for machines");
    }
    // 0 stands for 4, for the sake of boot loaders of old.
    let [sectors] = bytes(file, SETUP_SECTORS)?;
    let sectors = if sectors == 0 { 4 } else { usize::from(sectors) };
    let at = |field| number(file, field);
    let start = (sectors + 1) * SECTOR + at(PAYLOAD_OFFSET)?;
    let found = start.checked_add(at(PAYLOAD_LENGTH)?).and_then(|end| file.get(start..end));
    found.ok_or("it is cut off")
}

fn number(file: &[u8], at: usize) -> std::result::Result<usize, &'static str> {
    usize::try_from(u32::from_le_bytes(bytes(file, at)?)).map_err(|_| "it is too large")
}

fn bytes<const N: usize>(file: &[u8], at: usize) -> std::result::Result<[u8; N], &'static str> {
    file.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or("it is cut off")
}

fn release(image: &[u8]) -> Option<String> {
    const LONGEST: usize = 64;
    let starts = image.windows(BANNER.len()).enumerate().filter(|(_, window)| *window == BANNER);
    starts
        .filter_map(|(at, _)| {
            let rest = &image[at + BANNER.len()..];
            let end = rest.iter().take(LONGEST + 1).position(|byte| *byte == b' ')?;
            // A format such as `%s` stands there as well.
            let word = std::str::from_utf8(&rest[..end]).ok()?;
            word.starts_with(|first: char| first.is_ascii_digit()).then(|| word.to_owned())
        })
        .next()
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;

    fn packed(program: &str, arguments: &[&str], content: &[u8]) -> Vec<u8> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        child.wait_with_output().unwrap().stdout
    }

    /// As the kernel's build makes it: a boot sector, setup code, then something before the payload.
    fn boot_image(payload: &[u8], sectors: u8) -> Vec<u8> {
        let n_sectors = if sectors == 0 { 4 } else { usize::from(sectors) };
        let mut file = vec![0; (n_sectors + 1) * SECTOR];
        file[SETUP_SECTORS] = sectors;
        file[MAGIC].copy_from_slice(b"HdrS");
        file[PROTOCOL..PROTOCOL + 2].copy_from_slice(&0x020F_u16.to_le_bytes());
        file[PAYLOAD_OFFSET..][..4].copy_from_slice(&100_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        file[PAYLOAD_LENGTH..][..4].copy_from_slice(&length.to_le_bytes());
        file.extend_from_slice(&[0xCC; 100]);
        file.extend_from_slice(payload);
        file.extend_from_slice(b"signature");
        file
    }

    fn with_length(mut packed: Vec<u8>, of: &[u8]) -> Vec<u8> {
        packed.extend_from_slice(&u32::try_from(of.len()).unwrap().to_le_bytes());
        packed
    }

    #[tokio::test]
    async fn a_kernel_is_found_in_its_boot_image() {
        let plain = elf::tests::vmlinux("6.1.0-40-cloud-amd64");
        let lz4 = packed("lz4", &["-l", "-c"], &plain);
        let xz = packed("xz", &["-c", "--check=crc32"], &plain);
        let zstd = packed("zstd", &["-c"], &plain);
        for (payload, sectors) in [
            (packed("gzip", &["-c"], &plain), 39),
            (with_length(lz4, &plain), 0),
            (with_length(xz, &plain), 1),
            (with_length(zstd, &plain), 255),
            (plain.clone(), 4),
        ] {
            let kernel = Kernel::from_file(boot_image(&payload, sectors)).await.unwrap();
            assert_eq!(kernel.release, "6.1.0-40-cloud-amd64");
            assert_eq!(kernel.image, plain);
        }
        let kernel = Kernel::from_file(plain.clone()).await.unwrap();
        assert_eq!(kernel.image, plain, "one that is unpacked already");
    }

    #[tokio::test]
    async fn what_is_no_kernel_is_refused_for_a_reason() {
        let plain = elf::tests::vmlinux("6.1");
        let good = boot_image(&with_length(packed("zstd", &["-c"], &plain), &plain), 4);
        let changed = |at: usize, bytes: &[u8]| {
            let mut file = good.clone();
            file[at..at + bytes.len()].copy_from_slice(bytes);
            file
        };
        let payload_at = 5 * SECTOR + 100;
        let short = boot_image(&with_length(packed("zstd", &["-c"], &plain), b"short"), 4);
        let program = elf::tests::program(elf::Linkage::Static);
        for (file, wanted) in [
            (b"#!/bin/sh\n".to_vec(), "no kernel"),
            (program, "CONFIG_PVH"),
            (good[..1_000].to_vec(), "cut off"),
            (good[..0x210].to_vec(), "cut off"),
            (changed(PROTOCOL, &[7, 2]), "too old"),
            (changed(PAYLOAD_LENGTH, &[0xFF; 4]), "cut off"),
            (changed(payload_at, b"LZO!"), "neither gzip"),
            (changed(payload_at + 4, &[0xFF; 9]), "cannot be unpacked"),
            (short, "damaged"),
            (elf::tests::vmlinux("%s"), "version"),
        ] {
            let text = Kernel::from_file(file).await.unwrap_err().to_string();
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }

    #[tokio::test]
    async fn a_file_is_named_in_what_is_wrong_with_it() {
        let path = Path::new("/etc/passwd");
        let text = Kernel::read(path).await.unwrap_err().to_string();
        assert!(text.contains("/etc/passwd: it is no kernel"), "{text}");
        let text = Kernel::read(Path::new("/nowhere/vmlinux")).await.unwrap_err().to_string();
        assert!(text.contains("/nowhere/vmlinux"), "{text}");
    }
}
