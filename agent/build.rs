//! Builds the kernel programs and leaves the object where `src/probe` embeds it: `$OUT_DIR/skep.bpf.o`.
//!
//! The toolchain is found as `cargo xtask build-ebpf` finds it, and the same folder (`target/bpf`) is used, whatever
//! the profile of the agent: one build serves check, clippy, test and release. Inner and outer cargo lock
//! different folders, so they cannot wait for each other.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../xtask/src/ebpf_toolchain.rs"]
#[expect(dead_code, reason = "xtask uses more of it")]
mod ebpf_toolchain;

fn main() -> Result<(), Box<dyn Error>> {
    let manifest_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = manifest_dir.parent().ok_or("agent lies in no folder")?;
    for input in [
        "agent-ebpf/src",
        "agent-ebpf/Cargo.toml",
        "agent-ebpf/Cargo.lock",
        "agent-common/src",
        "agent-common/Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-env-changed={}", ebpf_toolchain::CHOICE_VARIABLE);

    let toolchain = ebpf_toolchain::find(root)?;
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let object = ebpf_toolchain::build(&toolchain, root, &root.join("target").join("bpf"), &arch)?;
    fs::copy(object, Path::new(&env::var("OUT_DIR")?).join("skep.bpf.o"))?;
    Ok(())
}
