//! A reader of BTF type information that does one thing: look up what is asked for by name, which is byte offsets of
//! structure members, prototypes of functions, and values of enumerations.
//!
//! Of the libraries, one is copyleft, one takes over a second for vmlinux and one hides members; a scan that keeps
//! one offset per type needs 20 ms and 1 MB. In: the bytes of `/sys/kernel/btf/vmlinux` (untrusted: every access is
//! checked). Format: Linux Documentation/bpf/btf.rst.

use std::collections::{HashMap, HashSet};

use thiserror::Error;

/// Why type information could not be used.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The bytes are not BTF of a layout that this reader knows.
    #[error("malformed BTF: {0}")]
    Malformed(&'static str),
    /// A structure or member that is asked for does not exist.
    #[error("no member {0} in this kernel's BTF")]
    NotFound(String),
}

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_TYPEDEF: u32 = 8;
/// Kinds that are looked up by name.
const NAMED: [u32; 5] = [KIND_STRUCT, KIND_UNION, KIND_ENUM, KIND_TYPEDEF, KIND_FUNC];
/// Words behind the three of every type: fixed ones and ones per element, by kind.
const EXTRA_WORDS: [(u32, u32); 20] = [
    (0, 0),
    (1, 0),
    (0, 0),
    (3, 0),
    (0, 3),
    (0, 3),
    (0, 2),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 2),
    (1, 0),
    (0, 3),
    (0, 0),
    (1, 0),
    (0, 0),
    (0, 3),
];

/// A parsed index over BTF bytes.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Position of each type in `types`, by id; id 0 is void.
    positions: Vec<u32>,
    /// Ids of the structures and unions that are asked for, by name.
    structs: HashMap<&'a [u8], Vec<u32>>,
    /// Ids of the functions and type names that are asked for, by name.
    functions: HashMap<&'a [u8], u32>,
}

#[derive(Clone, Copy)]
struct Type {
    kind: u32,
    elements: u32,
    bit_fields: bool,
    size_or_type: u32,
    position: usize,
}

impl<'a> Btf<'a> {
    /// Indexes `bytes`, remembering the structures, enumerations and functions named in `wanted`.
    ///
    /// # Errors
    /// [`BtfError::Malformed`] for anything that is not BTF in this machine's byte order.
    pub fn parse(bytes: &'a [u8], wanted: &[&str]) -> Result<Self, BtfError> {
        let word = |at: usize| read_u32(bytes, at).ok_or(BtfError::Malformed("header cut short"));
        let magic = bytes.get(..2).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
        if magic != Some(MAGIC) {
            return Err(BtfError::Malformed("wrong magic number"));
        }
        let header_len = word(4)? as usize;
        let section = |offset: u32, len: u32| {
            let start = header_len.checked_add(offset as usize)?;
            bytes.get(start..start.checked_add(len as usize)?)
        };
        let types = section(word(8)?, word(12)?).ok_or(BtfError::Malformed("type section out of bounds"))?;
        let strings =
            section(word(16)?, word(20)?).ok_or(BtfError::Malformed("string section out of bounds"))?;
        let mut btf = Self {
            types,
            strings,
            positions: vec![u32::MAX],
            structs: HashMap::new(),
            functions: HashMap::new(),
        };
        let wanted = wanted.iter().map(|name| name.as_bytes()).collect();
        btf.index(&wanted)?;
        Ok(btf)
    }

    fn index(&mut self, wanted: &HashSet<&[u8]>) -> Result<(), BtfError> {
        let mut position = 0;
        while position < self.types.len() {
            let ty = self.type_at(position)?;
            let id = self.positions.len() as u32;
            self.positions.push(position as u32);
            if NAMED.contains(&ty.kind) {
                let name = self.name(read_u32(self.types, position).unwrap_or(0));
                if wanted.contains(name) {
                    if ty.kind == KIND_FUNC || ty.kind == KIND_TYPEDEF {
                        self.functions.insert(name, id);
                    } else {
                        self.structs.entry(name).or_default().push(id);
                    }
                }
            }
            let (fixed, each) = EXTRA_WORDS[ty.kind as usize];
            position += 12 + 4 * (fixed as usize + each as usize * ty.elements as usize);
        }
        Ok(())
    }

    fn type_at(&self, position: usize) -> Result<Type, BtfError> {
        let word =
            |n: usize| read_u32(self.types, position + 4 * n).ok_or(BtfError::Malformed("type cut short"));
        let info = word(1)?;
        let kind = info >> 24 & 0x1f;
        if kind == 0 || kind as usize >= EXTRA_WORDS.len() {
            return Err(BtfError::Malformed("unknown kind of type"));
        }
        Ok(Type {
            kind,
            elements: info & 0xffff,
            bit_fields: info >> 31 == 1,
            size_or_type: word(2)?,
            position,
        })
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn by_id(&self, id: u32) -> Option<Type> {
        self.type_at(*self.positions.get(id as usize)? as usize).ok()
    }

    /// Follows typedefs and qualifiers; bounded, because untrusted types may form a circle.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..32 {
            let ty = self.by_id(id)?;
            // TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG
            if !(KIND_TYPEDEF..=11).contains(&ty.kind) && ty.kind != 18 {
                return Some(ty);
            }
            id = ty.size_or_type;
        }
        None
    }

    /// Byte offset and size of `path` (`member.member…`, anonymous members are passed through) in a structure. Where
    /// several structures share the name, the first that has the member counts.
    ///
    /// # Errors
    /// [`BtfError::NotFound`].
    pub fn member(&self, structure: &str, path: &str) -> Result<(u32, u32), BtfError> {
        let ids = self.structs.get(structure.as_bytes()).map(Vec::as_slice).unwrap_or_default();
        ids.iter()
            .filter_map(|id| self.by_id(*id))
            .find_map(|ty| self.walk(ty, path.split('.')))
            .ok_or_else(|| BtfError::NotFound(format!("{structure}.{path}")))
    }

    /// Id of a function, by which a program is attached to it.
    pub fn function(&self, name: &str) -> Option<u32> {
        self.functions.get(name.as_bytes()).copied()
    }

    /// Number of a function's parameters.
    pub fn parameters(&self, name: &str) -> Option<u32> {
        let function = self.by_id(self.function(name)?)?;
        let prototype = self.by_id(function.size_or_type).filter(|ty| ty.kind == KIND_FUNC_PROTO)?;
        Some(prototype.elements)
    }

    /// A function's prototype in C, without the names of its parameters: `int f(struct sock *, int)`.
    pub fn prototype(&self, name: &str) -> Option<String> {
        let function = self.by_id(self.function(name)?).filter(|ty| ty.kind == KIND_FUNC)?;
        self.spelled_prototype(function.size_or_type, name, 0)
    }

    /// The same of a tracepoint; `btf_trace_NAME` must have been asked for.
    pub fn tracepoint(&self, name: &str) -> Option<String> {
        let alias = self.by_id(self.function(&format!("btf_trace_{name}"))?)?;
        let pointer = self.by_id(alias.size_or_type)?;
        // Its first parameter is the kernel's own.
        self.spelled_prototype(pointer.size_or_type, name, 1)
    }

    fn spelled_prototype(&self, id: u32, name: &str, skip: usize) -> Option<String> {
        let prototype = self.by_id(id).filter(|ty| ty.kind == KIND_FUNC_PROTO)?;
        let mut parameters = Vec::new();
        for element in skip..prototype.elements as usize {
            let id = read_u32(self.types, prototype.position + 12 + 8 * element + 4)?;
            parameters.push(self.spelled(id, 0));
        }
        if parameters.is_empty() {
            parameters.push("void".to_owned());
        }
        Some(format!("{} {name}({})", self.spelled(prototype.size_or_type, 0), parameters.join(", ")))
    }

    /// A type in C.
    fn spelled(&self, id: u32, depth: u32) -> String {
        if id == 0 || depth > 8 {
            return "void".to_owned();
        }
        let Some(ty) = self.by_id(id) else { return "?".to_owned() };
        let name = || {
            String::from_utf8_lossy(self.name(read_u32(self.types, ty.position).unwrap_or(0))).into_owned()
        };
        let inner = || self.spelled(ty.size_or_type, depth + 1);
        match ty.kind {
            2 => format!("{} *", inner()).replace("* *", "**"),
            KIND_STRUCT => format!("struct {}", name()),
            KIND_UNION => format!("union {}", name()),
            KIND_ENUM | 19 => format!("enum {}", name()),
            // A declaration ahead of a structure, or of a union.
            7 => format!("{} {}", if ty.bit_fields { "union" } else { "struct" }, name()),
            9 => format!("volatile {}", inner()),
            10 => format!("const {}", inner()),
            11 | 18 => inner(),
            _ => name(),
        }
    }

    /// Value of a word of an enumeration.
    pub fn enumerator(&self, enumeration: &str, word: &str) -> Option<u32> {
        let ids = self.structs.get(enumeration.as_bytes())?;
        let types = ids.iter().filter_map(|id| self.by_id(*id)).filter(|ty| ty.kind == KIND_ENUM);
        types.into_iter().find_map(|ty| {
            (0..ty.elements as usize).find_map(|element| {
                let at = ty.position + 12 + 8 * element;
                let found = self.name(read_u32(self.types, at)?) == word.as_bytes();
                found.then(|| read_u32(self.types, at + 4)).flatten()
            })
        })
    }

    fn walk<'p>(&self, ty: Type, mut path: impl Iterator<Item = &'p str> + Clone) -> Option<(u32, u32)> {
        let Some(name) = path.next() else { return Some((0, self.size(ty))) };
        let (bits, member) = self.find(ty, name.as_bytes(), 0)?;
        let (offset, size) = self.walk(member, path)?;
        Some((bits / 8 + offset, size))
    }

    /// Bit offset and type of a member, through anonymous members at most eight deep.
    fn find(&self, ty: Type, name: &[u8], depth: u32) -> Option<(u32, Type)> {
        if depth > 8 || (ty.kind != KIND_STRUCT && ty.kind != KIND_UNION) {
            return None;
        }
        for element in 0..ty.elements as usize {
            let at = ty.position + 12 + 12 * element;
            let member_name = self.name(read_u32(self.types, at)?);
            let member = self.resolve(read_u32(self.types, at + 4)?);
            let raw = read_u32(self.types, at + 8)?;
            let bits = if ty.bit_fields { raw & 0xff_ffff } else { raw };
            if member_name == name {
                return Some((bits, member?));
            }
            if member_name.is_empty()
                && let Some((inner, found)) = member.and_then(|member| self.find(member, name, depth + 1))
            {
                return Some((bits + inner, found));
            }
        }
        None
    }

    fn size(&self, ty: Type) -> u32 {
        match ty.kind {
            KIND_INT | KIND_STRUCT | KIND_UNION | 6 | 16 | 19 => ty.size_or_type,
            KIND_ARRAY => 0,
            _ => 8,
        }
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Btf, BtfError, MAGIC};

    /// BTF with one structure: `struct a { int x; struct { int y; struct b { int z; } n; }; }` and its int.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0a\0x\0b\0z\0y\0n\0";
        let mut types: Vec<u32> = vec![1, 1 << 24, 4, 32]; // 1: int
        types.extend([9, 4 << 24 | 1, 4, 11, 1, 0]); // 2: struct b { int z @0 }
        types.extend([0, 4 << 24 | 2, 8, 13, 1, 0, 15, 2, 32]); // 3: struct { int y @0; struct b n @32 }
        types.extend([5, 4 << 24 | 2, 12, 7, 1, 0, 0, 3, 32]); // 4: struct a { int x @0; 3 @32 }
        let mut out = Vec::new();
        out.extend(MAGIC.to_ne_bytes());
        out.extend([1, 0]);
        for word in [24, 0, types.len() as u32 * 4, types.len() as u32 * 4, strings.len() as u32] {
            out.extend(word.to_ne_bytes());
        }
        types.iter().for_each(|word| out.extend(word.to_ne_bytes()));
        out.extend(strings);
        out
    }

    #[test]
    fn members_are_found_through_anonymous_ones() {
        let bytes = sample();
        let btf = Btf::parse(&bytes, &["a", "b"]).unwrap();
        assert_eq!(btf.member("a", "x").unwrap(), (0, 4));
        assert_eq!(btf.member("a", "y").unwrap(), (4, 4));
        assert_eq!(btf.member("a", "n.z").unwrap(), (8, 4));
        assert!(matches!(btf.member("a", "q"), Err(BtfError::NotFound(name)) if name == "a.q"));
    }

    /// BTF with `int f(struct a *p)` and `enum e { A = 3 }`.
    #[test]
    fn prototypes_and_enumerators_are_found_by_name() {
        let strings = b"\0int\0a\0f\0e\0A\0p\0";
        let mut types: Vec<u32> = vec![1, 1 << 24, 4, 32]; // 1: int
        types.extend([5, 4 << 24, 0]); // 2: struct a {}
        types.extend([0, 2 << 24, 2]); // 3: struct a *
        types.extend([0, 13 << 24 | 1, 1, 13, 3]); // 4: int (struct a *p)
        types.extend([7, 12 << 24, 4]); // 5: f
        types.extend([9, 6 << 24 | 1, 4, 11, 3]); // 6: enum e { A = 3 }
        let mut out = Vec::new();
        out.extend(MAGIC.to_ne_bytes());
        out.extend([1, 0]);
        for word in [24, 0, types.len() as u32 * 4, types.len() as u32 * 4, strings.len() as u32] {
            out.extend(word.to_ne_bytes());
        }
        types.iter().for_each(|word| out.extend(word.to_ne_bytes()));
        out.extend(strings);
        let btf = Btf::parse(&out, &["f", "e"]).unwrap();
        assert_eq!(btf.function("f"), Some(5));
        assert_eq!(btf.parameters("f"), Some(1));
        assert_eq!(btf.prototype("f").unwrap(), "int f(struct a *)");
        assert_eq!(btf.enumerator("e", "A"), Some(3));
        assert_eq!(btf.enumerator("e", "B"), None);
        assert_eq!(btf.function("g"), None);
    }

    #[test]
    fn cut_or_changed_bytes_never_panic() {
        let bytes = sample();
        for len in 0..bytes.len() {
            if let Ok(btf) = Btf::parse(&bytes[..len], &["a"]) {
                let _ = btf.member("a", "n.z");
            }
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 4, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                if let Ok(btf) = Btf::parse(&changed, &["a"]) {
                    let _ = btf.member("a", "n.z");
                }
            }
        }
    }
}
