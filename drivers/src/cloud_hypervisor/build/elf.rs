//! The few facts of ELF files that matter to a machine. Judges nothing.

use object::{
    LittleEndian,
    elf::{EM_X86_64, FileHeader64, NoteType},
    read::elf::{FileHeader as _, ProgramHeader as _},
};

/// The note in which a kernel says where it can be entered without a boot sector.
const PVH_ENTRY: NoteType = NoteType(18);
const PVH_NAME: &[u8] = b"Xen";

/// How a program finds its libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Linkage {
    /// It has them all in it.
    Static,
    /// A loader is to find them.
    Dynamic,
}

type Header = FileHeader64<LittleEndian>;

fn header(file: &[u8]) -> Option<&Header> {
    let header = Header::parse(file).ok()?;
    (header.e_machine(LittleEndian) == EM_X86_64).then_some(header)
}

/// How a program for x86-64 is linked; `None` = it is none.
pub(super) fn linkage(file: &[u8]) -> Option<Linkage> {
    let segments = header(file)?.program_headers(LittleEndian, file).ok()?;
    // A relocatable file, such as a module, has none.
    segments.first()?;
    let is_static =
        segments.iter().all(|one| matches!(one.interpreter(LittleEndian, file), Ok(None)));
    Some(if is_static { Linkage::Static } else { Linkage::Dynamic })
}

/// Whether a file is a kernel for x86-64 that a VMM can enter.
pub(super) fn has_pvh_entry(file: &[u8]) -> bool {
    let Some(segments) =
        header(file).and_then(|header| header.program_headers(LittleEndian, file).ok())
    else {
        return false;
    };
    segments.iter().any(|segment| {
        let Ok(Some(mut notes)) = segment.notes(LittleEndian, file) else { return false };
        std::iter::from_fn(|| notes.next().ok().flatten())
            .any(|note| note.n_type(LittleEndian) == PVH_ENTRY && note.name() == PVH_NAME)
    })
}

/// What a module says of itself, as `name=value`.
pub(super) fn module_facts(file: &[u8]) -> Option<Vec<&str>> {
    let sections = header(file)?.sections(LittleEndian, file).ok()?;
    let (_, section) = sections.section_by_name(LittleEndian, b".modinfo")?;
    let facts = object::read::elf::SectionHeader::data(section, LittleEndian, file).ok()?;
    let facts = facts.split(|byte| *byte == 0).filter(|fact| !fact.is_empty());
    facts.map(|fact| std::str::from_utf8(fact).ok()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file of one segment and one section, as little as these readers ask for.
    pub(in super::super) fn file(segment: u32, content: &[u8], section: &str) -> Vec<u8> {
        let names = format!("\0{section}\0.shstrtab\0");
        let (head, segment_at) = (64_u64, 64_u64);
        let content_at = head + 56;
        let content_length = u64::try_from(content.len()).unwrap();
        let names_at = content_at + content_length;
        let names_length = u64::try_from(names.len()).unwrap();
        let sections_at = names_at + names_length;
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        let put = |bytes: &mut Vec<u8>, width: usize, value: u64| {
            bytes.extend_from_slice(&value.to_le_bytes()[..width]);
        };
        for (width, value) in [
            (2, 2),
            (2, 62),
            (4, 1),
            (8, 0),
            (8, segment_at),
            (8, sections_at),
            (4, 0),
            (2, 64),
            (2, 56),
            (2, u64::from(segment != 0)),
            (2, 64),
            (2, 3),
            (2, 2),
        ] {
            put(&mut bytes, width, value);
        }
        for (width, value) in [
            (4, u64::from(segment)),
            (4, 4),
            (8, content_at),
            (8, 0),
            (8, 0),
            (8, content_length),
            (8, content_length),
            (8, 4),
        ] {
            put(&mut bytes, width, value);
        }
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(names.as_bytes());
        bytes.resize(bytes.len() + 64, 0);
        let section_name = u64::try_from(section.len() + 2).unwrap();
        for (name, kind, at, length) in
            [(1, 1, content_at, content_length), (section_name, 3, names_at, names_length)]
        {
            for (width, value) in [
                (4, name),
                (4, kind),
                (8, 0),
                (8, 0),
                (8, at),
                (8, length),
                (4, 0),
                (4, 0),
                (8, 1),
                (8, 0),
            ] {
                put(&mut bytes, width, value);
            }
        }
        bytes
    }

    pub(in super::super) fn program(linkage: Linkage) -> Vec<u8> {
        match linkage {
            Linkage::Static => file(1, b"code", ".text"),
            Linkage::Dynamic => file(3, b"/lib64/ld.so\0", ".interp"),
        }
    }

    pub(in super::super) fn vmlinux(release: &str) -> Vec<u8> {
        let mut content = Vec::new();
        for word in [4, 8, PVH_ENTRY.0] {
            content.extend_from_slice(&word.to_le_bytes());
        }
        content.extend_from_slice(b"Xen\0\0\0\0\x01\0\0\0\0");
        let mut kernel = file(4, &content, ".notes");
        kernel.extend_from_slice(format!("\0Linux version {release} (x)").as_bytes());
        kernel
    }

    pub(in super::super) fn module(facts: &[&str]) -> Vec<u8> {
        file(0, format!("{}\0", facts.join("\0")).as_bytes(), ".modinfo")
    }

    #[test]
    fn a_program_says_how_it_is_linked() {
        assert_eq!(linkage(&program(Linkage::Static)), Some(Linkage::Static));
        assert_eq!(linkage(&program(Linkage::Dynamic)), Some(Linkage::Dynamic));
        let mut other = program(Linkage::Static);
        other[18] = 183;
        for (file, why) in [
            (other, "of another processor"),
            (module(&["name=a"]), "a module"),
            (b"#!/bin/sh".to_vec(), "a script"),
            (b"\x7fELF\x02\x01\x01".to_vec(), "cut off"),
        ] {
            assert_eq!(linkage(&file), None, "{why}");
        }
    }

    #[test]
    fn a_kernel_says_where_it_is_entered() {
        assert!(has_pvh_entry(&vmlinux("6.1")));
        assert!(!has_pvh_entry(&program(Linkage::Static)));
        assert!(!has_pvh_entry(&file(4, &[4, 0, 0, 0, 0xFF, 0, 0, 0], ".notes")), "cut off");
    }

    #[test]
    fn a_module_tells_facts() {
        let found = module(&["name=erofs", "depends=libcrc32c"]);
        assert_eq!(module_facts(&found), Some(vec!["name=erofs", "depends=libcrc32c"]));
        assert_eq!(module_facts(&program(Linkage::Static)), None);
    }
}
