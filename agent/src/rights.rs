//! Capabilities: which Skep needs for what, and how it gives up each as soon as it can.
//!
//! Loading and attaching need CAP_BPF and CAP_PERFMON. Afterwards only processes are looked at, which takes CAP_SYS_PTRACE
//! and CAP_DAC_READ_SEARCH; the threads that talk to others ([`give_up_all`]) keep nothing. Capabilities belong to
//! threads, and new threads take their maker's: the order in `lib.rs` matters. docs/rights.md is the page about it.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs,
};

/// A capability and what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// As the kernel counts it (include/uapi/linux/capability.h).
    pub set: CapabilitySet,
    /// Its name.
    pub name: &'static str,
    /// What does not work without it.
    pub needed_to: &'static str,
    /// Whether Skep does not run without it.
    pub required: bool,
}

/// The smallest set with which everything works, in the order of the kernel's numbers.
pub const RIGHTS: [Right; 4] = [
    Right {
        set: CapabilitySet::DAC_READ_SEARCH,
        name: "CAP_DAC_READ_SEARCH",
        needed_to: "find processes of other users by --port, and read the programs of their containers",
        required: false,
    },
    Right {
        set: CapabilitySet::SYS_PTRACE,
        name: "CAP_SYS_PTRACE",
        needed_to: "find processes of other users by --exe or --port, and tell their names and languages",
        required: false,
    },
    Right {
        set: CapabilitySet::PERFMON,
        name: "CAP_PERFMON",
        needed_to: "let kernel programs read kernel memory and attach them",
        required: true,
    },
    Right {
        set: CapabilitySet::BPF,
        name: "CAP_BPF",
        needed_to: "make kernel maps and load kernel programs",
        required: true,
    },
];

/// What stays while processes are watched.
const WATCHING: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);
/// What kernels before 5.19 ask for with every call on a map or program that is open already.
const STEERING: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::SYS_ADMIN);

/// What this thread may do right now.
pub fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

/// Whether a right is there. CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON, which were split off it in 5.8.
pub fn has(right: &Right) -> bool {
    let mine = effective();
    let split_off = CapabilitySet::BPF.union(CapabilitySet::PERFMON);
    mine.contains(right.set) || (split_off.contains(right.set) && mine.contains(CapabilitySet::SYS_ADMIN))
}

/// The names of the rights that are missing, required or not.
pub fn missing(required: bool) -> Vec<&'static str> {
    RIGHTS.iter().filter(|right| right.required == required && !has(right)).map(|right| right.name).collect()
}

/// From now on, nothing that this process starts gets more rights than it has, whatever its file says.
///
/// # Errors
/// What the kernel said.
pub fn never_gain_any() -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}

/// Gives up for good what only loading and attaching needed. `steerable` tries a call on what is loaded: where it
/// fails without CAP_BPF, that one is kept.
///
/// # Errors
/// What the kernel said.
pub fn keep_what_watching_needs(steerable: impl Fn() -> bool) -> io::Result<CapabilitySet> {
    let before = capabilities(None)?;
    let watching = before.permitted.intersection(WATCHING);
    // The rest stays permitted for a moment, so that it can be taken back.
    let none = CapabilitySet::empty();
    let mut after = CapabilitySets { effective: watching, permitted: before.permitted, inheritable: none };
    clear_ambient()?;
    set_capabilities(None, after)?;
    if !steerable() {
        after.effective |= before.permitted.intersection(STEERING);
    }
    after.permitted = after.effective;
    set_capabilities(None, after)?;
    Ok(after.effective)
}

/// Gives up every capability of the calling thread for good, and of those that it will start.
///
/// # Errors
/// What the kernel said.
pub fn give_up_all() -> io::Result<()> {
    clear_ambient()?;
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

fn clear_ambient() -> io::Result<()> {
    match clear_ambient_capability_set() {
        // Seccomp filters of containers often know no ambient set: then there is nothing in it either.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The names in a set, for a log line.
pub fn names(set: CapabilitySet) -> String {
    let names: Vec<_> = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_gives_up_everything_and_the_others_keep_theirs() {
        let before = effective();
        let inside = thread::spawn(|| {
            give_up_all().unwrap();
            (effective(), thread::spawn(effective).join().unwrap())
        });
        assert_eq!(inside.join().unwrap(), (CapabilitySet::empty(), CapabilitySet::empty()));
        assert_eq!(effective(), before);
    }

    #[test]
    fn what_steering_needs_is_kept_only_if_it_is_needed() {
        let kept = |steerable: bool| {
            thread::spawn(move || keep_what_watching_needs(|| steerable).unwrap()).join().unwrap()
        };
        let before = capabilities(None).unwrap().permitted;
        assert_eq!(kept(true), before.intersection(WATCHING));
        assert_eq!(kept(false), before.intersection(WATCHING | STEERING));
    }

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(names(CapabilitySet::BPF | CapabilitySet::SYS_PTRACE), "CAP_SYS_PTRACE, CAP_BPF");
        assert_eq!(names(CapabilitySet::empty()), "none");
    }
}
