//! Whose series they are: each watched process is a resource, and so is Skep itself.
//!
//! In: process numbers. Out: small numbers for keys. A resource lives until its process is forgotten and its last
//! series has expired.

use rustc_hash::FxHashMap;

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
    tgid: Option<u32>,
    series: usize,
}

impl<R: Clone> Resources<R> {
    pub(crate) fn new(own: R, max: usize) -> Self {
        let own = Resource { value: own, tgid: Some(0), series: 0 };
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
        if self.slots.len() - self.free.len() >= self.max {
            return None;
        }
        let resource = Some(Resource { value, tgid: Some(tgid), series: 0 });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = resource;
                slot
            }
            None => {
                self.slots.push(resource);
                (self.slots.len() - 1) as u32
            }
        };
        self.by_tgid.insert(tgid, slot);
        Some(slot)
    }

    /// The process is gone, or is another one from now on.
    pub(crate) fn forget_process(&mut self, tgid: u32) {
        let Some(slot) = self.by_tgid.remove(&tgid) else { return };
        if let Some(resource) = &mut self.slots[slot as usize] {
            resource.tgid = None;
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
        let unused = |resource: &Resource<R>| resource.tgid.is_none() && resource.series == 0;
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
}
