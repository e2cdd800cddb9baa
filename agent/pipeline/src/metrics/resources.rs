//! Whose series they are: each watched process is a resource, and so is Skep itself.
//!
//! In: process numbers. Out: small numbers for keys. A resource lives until its processes are forgotten and its last
//! series has expired. Processes that are one target to a reader share a resource: a reader could not tell their
//! series apart.

use rustc_hash::FxHashMap;

use crate::metrics::Named;

/// Skep itself; also whose series those are for which there is no room.
pub const OWN: u32 = 0;

/// All resources.
#[derive(Debug)]
pub(crate) struct Resources<R> {
    by_tgid: FxHashMap<u32, u32>,
    slots: Vec<Option<Resource<R>>>,
    free: Vec<u32>,
    max: usize,
}

#[derive(Debug)]
struct Resource<R> {
    value: R,
    processes: usize,
    series: usize,
}

impl<R: Clone + Named> Resources<R> {
    pub(crate) fn new(own: R, max: usize) -> Self {
        let own = Resource { value: own, processes: 1, series: 0 };
        Self { by_tgid: FxHashMap::default(), slots: vec![Some(own)], free: Vec::new(), max }
    }

    /// The resource of a process; `None` if there is no room for another one.
    #[inline]
    pub(crate) fn of(&mut self, tgid: u32, value: impl FnOnce() -> R) -> Option<u32> {
        match self.by_tgid.get(&tgid) {
            Some(&slot) => Some(slot),
            None => self.insert(tgid, value()),
        }
    }

    fn insert(&mut self, tgid: u32, value: R) -> Option<u32> {
        let same = |slot: &Option<Resource<R>>| {
            slot.as_ref().is_some_and(|known| known.value.is_same_target(&value))
        };
        let slot = match self.slots.iter().position(same) {
            Some(slot) => slot as u32,
            None if self.len() >= self.max => return None,
            None => {
                let resource = Some(Resource { value: value.clone(), processes: 0, series: 0 });
                match self.free.pop() {
                    Some(slot) => {
                        self.slots[slot as usize] = resource;
                        slot
                    }
                    None => {
                        self.slots.push(resource);
                        (self.slots.len() - 1) as u32
                    }
                }
            }
        };
        if let Some(resource) = &mut self.slots[slot as usize] {
            resource.value = value;
            resource.processes += 1;
        }
        self.by_tgid.insert(tgid, slot);
        Some(slot)
    }

    /// The process is gone, or is another one from now on.
    pub(crate) fn forget_process(&mut self, tgid: u32) {
        let Some(slot) = self.by_tgid.remove(&tgid) else { return };
        if let Some(resource) = &mut self.slots[slot as usize] {
            resource.processes -= 1;
        }
        self.free_if_unused(slot);
    }

    pub(crate) fn add_series(&mut self, slot: u32) {
        if let Some(Some(resource)) = self.slots.get_mut(slot as usize) {
            resource.series += 1;
        }
    }

    pub(crate) fn remove_series(&mut self, slot: u32) {
        if let Some(Some(resource)) = self.slots.get_mut(slot as usize) {
            resource.series -= 1;
        }
        self.free_if_unused(slot);
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&R> {
        Some(&self.slots.get(slot as usize)?.as_ref()?.value)
    }

    /// By slot.
    pub(crate) fn values(&self) -> Vec<Option<R>> {
        self.slots.iter().map(|slot| slot.as_ref().map(|resource| resource.value.clone())).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn free_if_unused(&mut self, slot: u32) {
        let unused = |resource: &Resource<R>| resource.processes == 0 && resource.series == 0;
        if self.slots[slot as usize].as_ref().is_some_and(unused) {
            self.slots[slot as usize] = None;
            self.free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_lives_as_long_as_its_process_and_its_series() {
        let mut resources = Resources::new("skep", 3);
        let slot = resources.of(7, || "shop").unwrap();
        resources.add_series(slot);
        resources.forget_process(7);
        assert_eq!(resources.values()[slot as usize], Some("shop"));
        // The number belongs to another process now.
        let other = resources.of(7, || "cart").unwrap();
        assert_ne!(other, slot);
        assert_eq!(resources.of(8, || "full"), None);
        resources.remove_series(slot);
        assert_eq!(resources.of(8, || "fits"), Some(slot));
        resources.forget_process(7);
        assert_eq!(resources.len(), 2);
        assert_eq!(resources.values()[OWN as usize], Some("skep"));
    }

    #[test]
    fn what_a_reader_cannot_tell_apart_is_one_resource() {
        let mut resources = Resources::new("skep", 9);
        let slot = resources.of(7, || "shop");
        assert_eq!(resources.of(8, || "shop"), slot);
        resources.forget_process(7);
        assert_eq!(resources.len(), 2, "one process is left");
        assert_eq!(resources.of(7, || "shop"), slot);
        resources.forget_process(7);
        resources.forget_process(8);
        assert_eq!(resources.len(), 1);
    }
}
