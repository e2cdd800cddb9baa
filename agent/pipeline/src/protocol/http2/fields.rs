//! Room for the fields of one header block: filled by the decoder, read once, used again for the next one.

use crate::protocol::http2::field::Field;
use crate::protocol::http2::hpack::{self, Item};
use crate::protocol::http2::table::Table;

/// Bytes of values of one block; what goes beyond is left out.
const VALUES_MAX: usize = 32 * 1024;
/// Allocations up to this size are kept.
const KEPT: usize = 16 * 1024;

/// The fields of one block that matter, in order.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    values: Vec<u8>,
    items: Vec<(Field, usize, usize)>,
    strings: Vec<u8>,
    incomplete: bool,
}

impl Fields {
    /// Decodes a block; false if it is not one, or cut off. What came before that is there.
    pub(super) fn decode(&mut self, block: &[u8], table: &mut Table) -> bool {
        let Self { values, items, strings, incomplete } = self;
        values.clear();
        items.clear();
        *incomplete = false;
        let decoded = hpack::decode(block, table, strings, &mut |item| match item {
            Item::Known(field, value) if values.len() + value.len() <= VALUES_MAX => {
                items.push((field, values.len(), value.len()));
                values.extend_from_slice(value);
            }
            _ => *incomplete = true,
        });
        *incomplete |= decoded.is_err();
        decoded.is_ok()
    }

    /// Every field whose name and value are known.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Field, &[u8])> {
        self.items.iter().map(|&(field, start, len)| (field, &self.values[start..start + len]))
    }

    /// Value of a field, if there is one.
    pub(super) fn get(&self, field: Field) -> Option<&[u8]> {
        self.iter().find(|(other, _)| *other == field).map(|(_, value)| value)
    }

    /// Some field refers to what was sent before the connection was seen, or the block was cut off.
    pub(super) fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Gives large allocations back.
    pub(super) fn shrink(&mut self) {
        for buffer in [&mut self.values, &mut self.strings] {
            if buffer.capacity() > KEPT {
                *buffer = Vec::new();
            }
        }
        if self.items.capacity() > 256 {
            self.items = Vec::new();
        }
    }
}
