//! Who stands behind an address: learned from the servers that are seen to listen there, and from traces.
//!
//! In: far ends of client requests, listening ends of servers. Out: a small number per peer, its label, and the
//! service behind it once that is known, whichever was seen first.

use rustc_hash::FxHashMap;

use super::names::{Names, OTHER};
use super::record::Endpoint;

/// Nobody, or a server's caller that is not known.
pub(super) const NOBODY: u16 = 0;
/// A server request that nobody is known to have made.
pub(super) const OUTSIDE: u16 = 1;
/// Peers beyond the bound.
const REST: u16 = 2;

#[derive(Debug)]
struct Peer {
    label: u16,
    service: Option<u16>,
    address: Option<Endpoint>,
}

/// All peers.
#[derive(Debug)]
pub(super) struct Peers {
    by_address: FxHashMap<Endpoint, u16>,
    by_label: FxHashMap<u16, u16>,
    all: Vec<Option<Peer>>,
    free: Vec<u16>,
    max: usize,
}

impl Peers {
    pub(super) fn new(max: usize) -> Self {
        let fixed = || Some(Peer { label: OTHER, service: None, address: None });
        Self {
            by_address: FxHashMap::default(),
            by_label: FxHashMap::default(),
            all: vec![fixed(), fixed(), fixed()],
            free: Vec::new(),
            max,
        }
    }

    /// A service was seen to listen there.
    pub(super) fn listens(&mut self, address: &Endpoint, service: u16) {
        if *address == [0; 18] {
            return;
        }
        match self.by_address.get(address) {
            Some(&peer) => self.serves(peer, service),
            None => {
                let peer =
                    self.insert(Peer { label: service, service: Some(service), address: Some(*address) });
                if peer != REST {
                    self.by_address.insert(*address, peer);
                }
            }
        }
    }

    /// The peer at an address, or of that label where there is none. The label is asked for only once.
    pub(super) fn find(
        &mut self,
        address: &Endpoint,
        names: &mut Names,
        label: impl FnOnce() -> String,
    ) -> u16 {
        if *address != [0; 18] {
            if let Some(&peer) = self.by_address.get(address) {
                return peer;
            }
            let label = names.intern(&label());
            let peer = self.insert(Peer { label, service: None, address: Some(*address) });
            if peer != REST {
                self.by_address.insert(*address, peer);
            }
            return peer;
        }
        let label = names.intern(&label());
        if let Some(&peer) = self.by_label.get(&label) {
            return peer;
        }
        let peer = self.insert(Peer { label, service: None, address: None });
        if peer != REST {
            self.by_label.insert(label, peer);
        }
        peer
    }

    /// This service stands behind a peer.
    pub(super) fn serves(&mut self, peer: u16, service: u16) {
        if peer > REST
            && let Some(Some(peer)) = self.all.get_mut(usize::from(peer))
        {
            peer.service = Some(service);
        }
    }

    pub(super) fn service(&self, peer: u16) -> Option<u16> {
        self.all.get(usize::from(peer))?.as_ref()?.service
    }

    pub(super) fn label(&self, peer: u16) -> u16 {
        self.all.get(usize::from(peer)).and_then(Option::as_ref).map_or(OTHER, |peer| peer.label)
    }

    pub(super) fn is_full(&self) -> bool {
        self.all.len() - self.free.len() >= self.max
    }

    /// Forgets the peers that are not used.
    pub(super) fn keep(&mut self, used: &[bool]) {
        for index in usize::from(REST) + 1..self.all.len() {
            if !used.get(index).copied().unwrap_or(false)
                && let Some(peer) = self.all[index].take()
            {
                match peer.address {
                    Some(address) => drop(self.by_address.remove(&address)),
                    None => drop(self.by_label.remove(&peer.label)),
                }
                self.free.push(index as u16);
            }
        }
    }

    /// Names that are in use here.
    pub(super) fn names(&self) -> impl Iterator<Item = u16> + '_ {
        self.all.iter().flatten().flat_map(|peer| [Some(peer.label), peer.service]).flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn memory(&self) -> usize {
        self.all.capacity() * size_of::<Option<Peer>>()
            + self.by_address.capacity() * 22
            + self.by_label.capacity() * 6
    }

    fn insert(&mut self, peer: Peer) -> u16 {
        if let Some(free) = self.free.pop() {
            self.all[usize::from(free)] = Some(peer);
            return free;
        }
        if self.all.len() >= self.max {
            return REST;
        }
        self.all.push(Some(peer));
        (self.all.len() - 1) as u16
    }
}
