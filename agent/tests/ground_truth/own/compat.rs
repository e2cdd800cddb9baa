//! A program that makes socket calls through the 32-bit entry of a 64-bit kernel.

use std::io::Write as _;

use anyhow::Result;

/// Says `ready` if there is such an entry, waits for a line, and makes the calls.
pub fn main() -> Result<()> {
    const GETPID: u32 = 20;
    if call(GETPID, [0; 3]) != i64::from(std::process::id()) {
        println!("absent");
        return Ok(());
    }
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().read_line(&mut String::new())?;
    // socketcall is not needed: socket, read and close are numbers of their own.
    const SOCKET: u32 = 359;
    const READ: u32 = 3;
    const CLOSE: u32 = 6;
    for _ in 0..10 {
        let fd = u32::try_from(call(SOCKET, [2, 1, 0])).unwrap_or(u32::MAX);
        call(READ, [fd, 0, 0]);
        call(CLOSE, [fd, 0, 0]);
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn call(number: u32, arguments: [u32; 3]) -> i64 {
    let mut result = u64::from(number);
    // SAFETY: the calls made here pass no memory; the 32-bit entry keeps all other registers but r8 to r11. rbx
    // cannot be named as an operand, so it is exchanged around the call.
    unsafe {
        std::arch::asm!(
            "xchg {first}, rbx",
            "int 0x80",
            "xchg {first}, rbx",
            first = inout(reg) u64::from(arguments[0]) => _,
            inout("rax") result,
            in("rcx") u64::from(arguments[1]),
            in("rdx") u64::from(arguments[2]),
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    i64::from(u32::try_from(result & 0xffff_ffff).unwrap_or(0).cast_signed())
}

#[cfg(not(target_arch = "x86_64"))]
fn call(_number: u32, _arguments: [u32; 3]) -> i64 {
    -1
}
