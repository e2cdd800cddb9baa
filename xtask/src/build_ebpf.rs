//! `cargo xtask build-ebpf`: builds the kernel programs, says with what, and where the object lies.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::{ebpf_toolchain, setup};

pub(crate) fn run(root: &Path) -> Result<()> {
    let toolchain = setup::kernel_toolchain(root)?;
    println!("kernel programs: {toolchain}");
    let target_dir = root.join("target").join("bpf");
    let object = ebpf_toolchain::build(&toolchain, root, &target_dir, std::env::consts::ARCH)
        .map_err(|message| anyhow!(message))?;
    let bytes = object.metadata()?.len();
    println!("object: {} ({bytes} bytes)", object.display());
    Ok(())
}
