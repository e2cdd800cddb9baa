//! The running kernel's structure offsets, as the kernel programs want them. A member that is missing everywhere is
//! an error that names it; nothing here knows a kernel version.

use std::{collections::HashMap, fs, io, path::Path};

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
    "msghdr",
    "iov_iter",
    "iter_type",
    "bpf_func_id",
    "tcp_recvmsg",
    "inet_accept",
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

/// What the running kernel's type information tells.
#[derive(Clone, Debug)]
pub struct Known {
    /// For the programs.
    pub offsets: KernelOffsets,
    /// Whether the programs can follow calls of the kernel's socket functions (fentry, kprobe).
    pub socket_calls: Result<(), String>,
    /// Whether programs have bpf_loop.
    pub has_loop: bool,
    /// Ids of the functions that were asked for and exist, by which fentry programs are attached.
    pub functions: HashMap<&'static str, u32>,
}

/// Reads the offsets from a BTF file, and looks for functions.
///
/// # Errors
/// [`OffsetsError`] names the file and the member.
pub fn read(path: &Path, functions: &[&'static str]) -> Result<Known, OffsetsError> {
    let name = || path.display().to_string();
    let bytes = fs::read(path).map_err(|source| OffsetsError::Read { path: name(), source })?;
    find(&bytes, functions).map_err(|source| OffsetsError::Btf { path: name(), source })
}

fn find(bytes: &[u8], functions: &[&'static str]) -> Result<Known, BtfError> {
    let wanted: Vec<&str> = STRUCTS.iter().copied().chain(functions.iter().copied()).collect();
    let btf = Btf::parse(bytes, &wanted)?;
    let mut offsets = always(&btf)?;
    let socket_calls = socket_calls(&btf, &mut offsets).map_err(|error| error.to_string());
    let functions = functions.iter().filter_map(|name| Some((*name, btf.function(name)?))).collect();
    let has_loop = has_helpers(&btf, &["BPF_FUNC_loop"]);
    Ok(Known { offsets, socket_calls, has_loop, functions })
}

/// A value that no kind of iterator has.
const NO_KIND: u32 = 0xff;

/// What only the programs on the kernel's socket functions read.
fn socket_calls(btf: &Btf<'_>, offsets: &mut KernelOffsets) -> Result<(), BtfError> {
    let at = |structure, member| btf.member(structure, member);
    let missing = |what: &str| BtfError::NotFound(what.to_owned());
    offsets.msg_name = at("msghdr", "msg_name")?.0;
    offsets.msg_iter = at("msghdr", "msg_iter")?.0;
    let (kind, size) = at("iov_iter", "iter_type").or_else(|_| at("iov_iter", "type"))?;
    offsets.iter_type = kind;
    // A word has the direction in its lowest bit.
    offsets.iter_kind_mask = if size == 1 { 0xff } else { 0xfe };
    offsets.iter_offset = at("iov_iter", "iov_offset")?.0;
    offsets.iter_iov = at("iov_iter", "__iov").or_else(|_| at("iov_iter", "iov"))?.0;
    offsets.iter_iovec = btf.enumerator("iter_type", "ITER_IOVEC").ok_or_else(|| missing("ITER_IOVEC"))?;
    offsets.iter_ubuf = btf.enumerator("iter_type", "ITER_UBUF").unwrap_or(NO_KIND);
    let arguments = btf.parameters("tcp_recvmsg").ok_or_else(|| missing("tcp_recvmsg"))?;
    offsets.recvmsg_args = arguments;
    offsets.recvmsg_flags = if arguments == 6 { 4 } else { 3 };
    offsets.accept_args = btf.parameters("inet_accept").ok_or_else(|| missing("inet_accept"))?;
    if kind >= 8 || !(4..=6).contains(&arguments) || !(3..=4).contains(&offsets.accept_args) {
        return Err(missing("a known layout of iov_iter, tcp_recvmsg and inet_accept"));
    }
    Ok(())
}

/// What every back end reads.
fn always(btf: &Btf<'_>) -> Result<KernelOffsets, BtfError> {
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
        regs_syscall: syscall_register(btf)?,
        regs_args: argument_registers(btf)?,
        plain_loads: u32::from(has_helpers(btf, &["BPF_FUNC_get_current_task_btf", "BPF_FUNC_task_pt_regs"])),
        ..KernelOffsets::default()
    })
}

/// Whether the kernel has these functions for programs.
fn has_helpers(btf: &Btf<'_>, names: &[&str]) -> bool {
    names.iter().all(|name| btf.enumerator("bpf_func_id", name).is_some())
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
        let known = super::read(path, &["tcp_sendmsg", "no_such_function"]).unwrap();
        let offsets = known.offsets;
        assert_eq!(known.socket_calls, Ok(()));
        assert!(known.functions.contains_key("tcp_sendmsg") && known.functions.len() == 1);
        assert_ne!(offsets.msg_iter, 0);
        assert_ne!(offsets.task_files, 0);
        assert_ne!(offsets.tcp_write_seq, 0);
        assert_ne!(offsets.regs_args[0], offsets.regs_args[1]);
    }
}
