//! Bytes of many traces in blocks of one size: what is freed serves the next trace, so memory neither grows beyond
//! its bound nor falls apart.
//!
//! In: bytes to append to a chain of blocks. Out: the bytes of a chain, in order. Grows a slice at a time up to the
//! bound, and never shrinks.

/// Bytes of one block.
pub(super) const BLOCK: usize = 128;
/// Blocks that are added at a time.
const GROWTH: usize = 2048;
/// End of a chain.
pub(super) const NONE: u32 = u32::MAX;

/// A chain of blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    head: u32,
    tail: u32,
    /// Bytes in it.
    pub(super) bytes: u32,
}

impl Default for Chain {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, bytes: 0 }
    }
}

impl Chain {
    /// Blocks that it takes.
    pub(super) fn blocks(&self) -> usize {
        (self.bytes as usize).div_ceil(BLOCK)
    }
}

/// All blocks.
#[derive(Debug)]
pub(super) struct Arena {
    data: Vec<u8>,
    next: Vec<u32>,
    free: u32,
    free_blocks: usize,
    max_blocks: usize,
}

impl Arena {
    /// An empty one that may take so many bytes in all.
    pub(super) fn new(max_bytes: usize) -> Self {
        let max_blocks = (max_bytes / (BLOCK + 4)).max(1);
        Self { data: Vec::new(), next: Vec::new(), free: NONE, free_blocks: 0, max_blocks }
    }

    /// Blocks that can still be used.
    pub(super) fn room(&self) -> usize {
        self.free_blocks + self.max_blocks - self.next.len()
    }

    pub(super) fn max_blocks(&self) -> usize {
        self.max_blocks
    }

    /// Memory taken from the system.
    pub(super) fn memory(&self) -> usize {
        self.data.capacity() + self.next.capacity() * 4
    }

    /// Blocks that appending so many bytes to a chain would take.
    pub(super) fn blocks_for(chain: &Chain, bytes: usize) -> usize {
        (chain.bytes as usize + bytes).div_ceil(BLOCK) - chain.blocks()
    }

    /// Appends; the caller has made sure of the room.
    pub(super) fn append(&mut self, chain: &mut Chain, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = chain.bytes as usize % BLOCK;
            if used == 0 {
                let Some(block) = self.take() else { return };
                if chain.tail == NONE {
                    chain.head = block;
                } else {
                    self.next[chain.tail as usize] = block;
                }
                chain.tail = block;
            }
            let count = bytes.len().min(BLOCK - used);
            let at = chain.tail as usize * BLOCK + used;
            self.data[at..at + count].copy_from_slice(&bytes[..count]);
            chain.bytes += count as u32;
            bytes = &bytes[count..];
        }
    }

    /// Copies the bytes of a chain.
    pub(super) fn read(&self, chain: &Chain, out: &mut Vec<u8>) {
        out.clear();
        let (mut block, mut left) = (chain.head, chain.bytes as usize);
        while block != NONE && left > 0 {
            let count = left.min(BLOCK);
            let at = block as usize * BLOCK;
            out.extend_from_slice(&self.data[at..at + count]);
            left -= count;
            block = self.next[block as usize];
        }
    }

    /// Gives the blocks of a chain back.
    pub(super) fn release(&mut self, chain: &mut Chain) {
        if chain.tail != NONE {
            self.next[chain.tail as usize] = self.free;
            self.free = chain.head;
            self.free_blocks += chain.blocks();
        }
        *chain = Chain::default();
    }

    fn take(&mut self) -> Option<u32> {
        if self.free == NONE {
            self.grow();
        }
        let block = self.free;
        if block == NONE {
            return None;
        }
        self.free = self.next[block as usize];
        self.next[block as usize] = NONE;
        self.free_blocks -= 1;
        Some(block)
    }

    fn grow(&mut self) {
        let from = self.next.len();
        let to = (from + GROWTH).min(self.max_blocks);
        self.data.reserve_exact((to - from) * BLOCK);
        self.data.resize(to * BLOCK, 0);
        self.next.reserve_exact(to - from);
        for block in from..to {
            self.next.push(self.free);
            self.free = block as u32;
        }
        self.free_blocks += to - from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_keep_their_bytes_and_blocks_come_back() {
        let mut arena = Arena::new(64 * 1024);
        let room = arena.room();
        let mut chains: Vec<(Chain, Vec<u8>)> = Vec::new();
        for round in 0..300_usize {
            if chains.len() > 20 {
                let (mut chain, expected) = chains.remove(round % chains.len());
                let mut bytes = Vec::new();
                arena.read(&chain, &mut bytes);
                assert_eq!(bytes, expected);
                arena.release(&mut chain);
            }
            let (mut chain, mut expected) = (Chain::default(), Vec::new());
            for part in 0..round % 4 {
                let bytes = vec![(round * 7 + part) as u8; (round * 37 + part * 61) % 300];
                let needed = Arena::blocks_for(&chain, bytes.len());
                let before = arena.room();
                arena.append(&mut chain, &bytes);
                assert_eq!(arena.room(), before - needed);
                expected.extend(bytes);
            }
            chains.push((chain, expected));
        }
        for (mut chain, _) in chains {
            arena.release(&mut chain);
        }
        assert_eq!(arena.room(), room);
        assert!(arena.memory() <= 64 * 1024);
    }
}
