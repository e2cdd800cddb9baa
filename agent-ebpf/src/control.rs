//! What user space changes in the maps' values, done here so that it never overwrites what the other programs
//! write: it runs this program (BPF_PROG_TEST_RUN) and never attaches it.

use agent_common::{
    capture::{Caps, CaptureMode},
    globals::control,
};
use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{conn, kernel::Kernel, maps::CONN_BY_SOCK, select, sock};

/// Arguments: see `agent_common::globals::control`.
#[raw_tracepoint(tracepoint = "control")]
pub fn control(ctx: RawTracePointContext) -> i32 {
    let operation: u64 = ctx.arg(0);
    let first: u64 = ctx.arg(1);
    let done = match operation {
        control::SELECT => select::add(first as u32),
        control::DESELECT => select::remove(first as u32),
        control::QUIET => select::set_quiet(first as u32, ctx.arg::<u64>(2) != 0),
        control::SET_MODE => set_mode(&ctx, first),
        control::REAP => return i32::from(reap(Kernel(first), ctx.arg(2))),
        _ => false,
    };
    i32::from(!done)
}

#[inline(always)]
fn set_mode(ctx: &RawTracePointContext, sock: u64) -> bool {
    let conn_id: u64 = ctx.arg(2);
    let Some(conn) = CONN_BY_SOCK.get_ptr_mut(sock) else { return false };
    // SAFETY: the pointer is to a map value.
    let conn = unsafe { &mut *conn };
    if conn.conn_id != conn_id {
        return false;
    }
    let mode: u64 = ctx.arg(3);
    let caps: [u64; 4] = [ctx.arg(4), ctx.arg(5), ctx.arg(6), ctx.arg(7)];
    conn.mode = CaptureMode {
        mode: mode as u32,
        reserved: 0,
        caps: [
            Caps { turn_cap: caps[0] as u32, call_cap: caps[1] as u32 },
            Caps { turn_cap: caps[2] as u32, call_cap: caps[3] as u32 },
        ],
    };
    true
}

/// Closes a connection whose sock belongs to no socket any more, or to another one.
#[inline(always)]
fn reap(sk: Kernel, conn_id: u64) -> bool {
    let Some(conn) = CONN_BY_SOCK.get_ptr_mut(sk.0) else { return true };
    // SAFETY: the pointer is to a map value.
    let (id, inode) = unsafe { ((*conn).conn_id, (*conn).inode) };
    if id != conn_id {
        return true;
    }
    if sock::inode_of(sk) == Some(inode) {
        return false;
    }
    conn::close(sk, conn, 0);
    let _ = CONN_BY_SOCK.remove(sk.0);
    true
}
