//! The running kernel's structure offsets, as the kernel programs want them. A member that is missing everywhere is
//! an error that names it; nothing here knows a kernel version.

use std::{fs, io, path::Path};

use agent_common::globals::KernelOffsets;
use thiserror::Error;

use super::btf::{Btf, BtfError};

/// Where the kernel shows its own type information.
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why the offsets could not be found.
#[derive(Debug, Error)]
pub enum OffsetsError {
    /// The file is not there or may not be read.
    #[error("read {path}: {source}; Skep needs a kernel with CONFIG_DEBUG_INFO_BTF")]
    Read {
        /// The BTF file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not BTF, or lacks a member.
    #[error("{path}: {source}")]
    Btf {
        /// The BTF file.
        path: String,
        /// What is wrong with it.
        source: BtfError,
    },
}

const STRUCTS: &[&str] = &[
    "task_struct",
    "signal_struct",
    "files_struct",
    "fdtable",
    "file",
    "inode",
    "socket",
    "socket_alloc",
    "sock_common",
    "sock",
    "net",
    "tcp_sock",
    "pt_regs",
];

/// Registers that hold a system call's number and its six arguments, by architecture.
#[cfg(target_arch = "x86_64")]
const REGS: (&[&str], &[&str]) = (&["orig_ax", "orig_rax"], &["di", "si", "dx", "r10", "r8", "r9"]);
#[cfg(target_arch = "aarch64")]
const REGS: (&[&str], &[&str]) = (&["syscallno"], &[]);
/// Word of the thread's information and its bits that mark a 32-bit call.
#[cfg(target_arch = "x86_64")]
const COMPAT: (&str, u32) = ("thread_info.status", 0x2); // TS_COMPAT, arch/x86/include/asm/thread_info.h
#[cfg(target_arch = "aarch64")]
const COMPAT: (&str, u32) = ("thread_info.flags", 1 << 22); // TIF_32BIT, arch/arm64/include/asm/thread_info.h

/// Reads the offsets from a BTF file.
///
/// # Errors
/// [`OffsetsError`] names the file and the member.
pub fn read(path: &Path) -> Result<KernelOffsets, OffsetsError> {
    let name = || path.display().to_string();
    let bytes = fs::read(path).map_err(|source| OffsetsError::Read { path: name(), source })?;
    find(&bytes).map_err(|source| OffsetsError::Btf { path: name(), source })
}

fn find(bytes: &[u8]) -> Result<KernelOffsets, BtfError> {
    let btf = Btf::parse(bytes, STRUCTS)?;
    let at = |structure, member| btf.member(structure, member).map(|(offset, _)| offset);
    let skc = |member| at("sock_common", member);
    let (sk_protocol, sk_protocol_size) = btf.member("sock", "sk_protocol")?;
    Ok(KernelOffsets {
        task_files: at("task_struct", "files")?,
        task_tgid: at("task_struct", "tgid")?,
        task_signal: at("task_struct", "signal")?,
        signal_live: at("signal_struct", "live")?,
        files_fdt: at("files_struct", "fdt")?,
        fdtable_max_fds: at("fdtable", "max_fds")?,
        fdtable_fd: at("fdtable", "fd")?,
        file_f_op: at("file", "f_op")?,
        file_f_inode: at("file", "f_inode")?,
        file_private_data: at("file", "private_data")?,
        inode_i_mode: at("inode", "i_mode")?,
        socket_sk: at("socket", "sk")?,
        socket_type: at("socket", "type")?,
        skc_family: skc("skc_family")?,
        skc_state: skc("skc_state")?,
        skc_daddr: skc("skc_daddr")?,
        skc_rcv_saddr: skc("skc_rcv_saddr")?,
        skc_dport: skc("skc_dport")?,
        skc_num: skc("skc_num")?,
        // Absent without IPv6: then no socket has that family, and the offset is never used.
        skc_v6_daddr: skc("skc_v6_daddr").unwrap_or(0),
        skc_v6_rcv_saddr: skc("skc_v6_rcv_saddr").unwrap_or(0),
        skc_net: skc("skc_net")?,
        net_inum: at("net", "ns.inum")?,
        sk_protocol,
        sk_protocol_size: sk_protocol_size.min(2),
        sk_shutdown: at("sock", "sk_shutdown")?,
        sk_err: at("sock", "sk_err")?,
        sk_socket: at("sock", "sk_socket")?,
        tcp_bytes_received: at("tcp_sock", "bytes_received")?,
        tcp_bytes_acked: at("tcp_sock", "bytes_acked")?,
        tcp_rcv_nxt: at("tcp_sock", "rcv_nxt")?,
        tcp_copied_seq: at("tcp_sock", "copied_seq")?,
        tcp_write_seq: at("tcp_sock", "write_seq")?,
        tcp_snd_una: at("tcp_sock", "snd_una")?,
        task_pid: at("task_struct", "pid")?,
        sk_type: at("sock", "sk_type")?,
        inode_i_ino: at("inode", "i_ino")?,
        socket_alloc_vfs_inode: at("socket_alloc", "vfs_inode")?,
        compat_word: at("task_struct", COMPAT.0)?,
        compat_mask: COMPAT.1,
        regs_syscall: syscall_register(&btf)?,
        regs_args: argument_registers(&btf)?,
        plain_loads: 1,
    })
}

fn syscall_register(btf: &Btf<'_>) -> Result<u32, BtfError> {
    let mut last = Err(BtfError::Malformed("no register"));
    for name in REGS.0 {
        last = btf.member("pt_regs", name).map(|(offset, _)| offset);
        if last.is_ok() {
            break;
        }
    }
    last
}

#[cfg(target_arch = "x86_64")]
fn argument_registers(btf: &Btf<'_>) -> Result<[u32; 6], BtfError> {
    let mut out = [0; 6];
    for (slot, name) in out.iter_mut().zip(REGS.1) {
        *slot = btf.member("pt_regs", name)?.0;
    }
    Ok(out)
}

/// The first argument's register is overwritten by the result: the kernel keeps it in `orig_x0`.
#[cfg(target_arch = "aarch64")]
fn argument_registers(btf: &Btf<'_>) -> Result<[u32; 6], BtfError> {
    let regs = btf.member("pt_regs", "regs")?.0;
    Ok([btf.member("pt_regs", "orig_x0")?.0, regs + 8, regs + 16, regs + 24, regs + 32, regs + 40])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_running_kernel_has_every_member() {
        let path = Path::new(super::VMLINUX_BTF);
        if !path.exists() {
            eprintln!("SKIPPED: this kernel shows no BTF");
            return;
        }
        let offsets = super::read(path).unwrap();
        assert_ne!(offsets.task_files, 0);
        assert_ne!(offsets.tcp_write_seq, 0);
        assert_ne!(offsets.regs_args[0], offsets.regs_args[1]);
    }
}
