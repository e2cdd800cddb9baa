//! What an executable's sections give away about the compiler that made it. 64-bit little-endian files only.
//!
//! The file belongs to the watched process and may claim anything: section headers, names and contents are read
//! within fixed bounds, and a claim beyond them ends the reading.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Traces of the compilers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ElfTraces {
    /// The section table could be read: the absence of a trace means something.
    pub readable: bool,
    /// Made by the Go linker.
    pub go: bool,
    /// Holds the Rust standard library.
    pub rust: bool,
    /// A GraalVM native image.
    pub graal: bool,
    /// A .NET ahead-of-time image.
    pub dotnet: bool,
}

const MAX_SECTIONS: u16 = 4096;
const MAX_NAMES: u64 = 1 << 20;
const MAX_COMMENT: u64 = 64 * 1024;
const MAX_RODATA: u64 = 16 << 20;
const SECTION_HEADER_LEN: usize = 64;
const SHT_NOBITS: u32 = 8;

struct Section {
    name: u32,
    kind: u32,
    offset: u64,
    size: u64,
}

/// Reads the traces; a file that is no such ELF file has none and is not `readable`.
pub(super) fn read_traces(file: &File) -> ElfTraces {
    traces(file).unwrap_or_default()
}

fn traces(file: &File) -> Option<ElfTraces> {
    let mut header = [0_u8; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    // ELFCLASS64, ELFDATA2LSB
    if header[..6] != *b"\x7fELF\x02\x01" || u16_at(&header, 0x3a)? as usize != SECTION_HEADER_LEN {
        return None;
    }
    let count = u16_at(&header, 0x3c)?;
    if count == 0 || count > MAX_SECTIONS {
        return None;
    }
    let mut table = vec![0; usize::from(count) * SECTION_HEADER_LEN];
    file.read_exact_at(&mut table, u64_at(&header, 0x28)?).ok()?;
    let sections: Vec<Section> = table.chunks_exact(SECTION_HEADER_LEN).filter_map(parse_section).collect();
    let names = sections.get(usize::from(u16_at(&header, 0x3e)?))?;
    let names = read_bounded(file, names, MAX_NAMES)?;

    let mut found = ElfTraces { readable: true, ..ElfTraces::default() };
    for section in &sections {
        let name = names.get(section.name as usize..)?;
        match name.split(|&byte| byte == 0).next()? {
            b".go.buildinfo" | b".gopclntab" => found.go = true,
            b".svm_heap" => found.graal = true,
            b"__managedcode" | b".managed" => found.dotnet = true,
            b".comment" => {
                let comment = read_bounded(file, section, MAX_COMMENT)?;
                found.rust |= memchr::memmem::find(&comment, b"rustc version").is_some();
            }
            _ => {}
        }
    }
    if !found.go && !found.rust {
        found.rust = sections
            .iter()
            .filter(|section| {
                names.get(section.name as usize..).is_some_and(|name| name.starts_with(b".rodata\0"))
            })
            .any(|rodata| holds_rust_strings(file, rodata));
    }
    Some(found)
}

fn parse_section(bytes: &[u8]) -> Option<Section> {
    Some(Section {
        name: u32_at(bytes, 0)?,
        kind: u32_at(bytes, 4)?,
        offset: u64_at(bytes, 0x18)?,
        size: u64_at(bytes, 0x20)?,
    })
}

fn read_bounded(file: &File, section: &Section, max: u64) -> Option<Vec<u8>> {
    if section.kind == SHT_NOBITS || section.size > max {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(section.size).ok()?];
    file.read_exact_at(&mut bytes, section.offset).ok()?;
    Some(bytes)
}

/// Every program with Rust's std names this variable; panics name the compiler's source folder.
fn holds_rust_strings(file: &File, rodata: &Section) -> bool {
    const MARKS: [&[u8]; 2] = [b"RUST_BACKTRACE", b"/rustc/"];
    const OVERLAP: usize = 16;
    if rodata.kind == SHT_NOBITS {
        return false;
    }
    let mut chunk = vec![0; 64 * 1024];
    let mut at = 0;
    let end = rodata.size.min(MAX_RODATA);
    while at < end {
        let want = chunk.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let Some(position) = rodata.offset.checked_add(at) else { return false };
        let Ok(read) = file.read_at(&mut chunk[..want], position) else { return false };
        if MARKS.iter().any(|mark| memchr::memmem::find(&chunk[..read], mark).is_some()) {
            return true;
        }
        if read <= OVERLAP {
            return false;
        }
        at += (read - OVERLAP) as u64;
    }
    false
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn check(bytes: &[u8], expected: ElfTraces) {
        let path = std::env::temp_dir().join(format!("skep-elf-{}-{}", std::process::id(), bytes.len()));
        File::create(&path).unwrap().write_all(bytes).unwrap();
        let found = read_traces(&File::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found, expected);
    }

    /// A file of a header, `.rodata`-like contents, names and two sections.
    fn elf(section_name: &str, contents: &[u8]) -> Vec<u8> {
        let names = format!("\0{section_name}\0").into_bytes();
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file.extend_from_slice(contents);
        let names_at = file.len();
        file.extend_from_slice(&names);
        let table_at = file.len();
        for (name, offset, size) in [(1_u32, 64, contents.len()), (0, names_at, names.len())] {
            let mut section = [0; 64];
            section[..4].copy_from_slice(&name.to_le_bytes());
            section[4] = 1;
            section[0x18..0x20].copy_from_slice(&(offset as u64).to_le_bytes());
            section[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
            file.extend_from_slice(&section);
        }
        file[0x28..0x30].copy_from_slice(&(table_at as u64).to_le_bytes());
        file[0x3a] = 64;
        file[0x3c] = 2;
        file[0x3e] = 1;
        file
    }

    #[test]
    fn sections_tell_the_compiler() {
        let readable = ElfTraces { readable: true, ..ElfTraces::default() };
        check(&elf(".go.buildinfo", b""), ElfTraces { go: true, ..readable });
        check(&elf(".comment", b"\0rustc version 1.88.0\0"), ElfTraces { rust: true, ..readable });
        check(&elf(".comment", b"\0GCC: (Debian)\0"), readable);
        check(&elf(".rodata", b"..RUST_BACKTRACE.."), ElfTraces { rust: true, ..readable });
        check(&elf(".rodata", &[b'x'; 70_000]), readable);
    }

    #[test]
    fn broken_files_have_no_traces() {
        let whole = elf(".comment", b"rustc version");
        for cut in 0..whole.len() {
            check(&whole[..cut], ElfTraces::default());
        }
        let mut huge = elf(".comment", b"rustc version");
        huge[0x3c] = 0xff;
        huge[0x3d] = 0xff;
        check(&huge, ElfTraces::default());
    }

    #[test]
    fn this_test_is_written_in_rust() {
        assert!(read_traces(&File::open("/proc/self/exe").unwrap()).rust);
    }
}
