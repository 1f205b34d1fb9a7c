//! `getrandom(2)`: random numbers.
//!
//! Used by `transport/` for epochs, which must differ from all earlier ones, and by `rpc/`.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// 64 random bits. One system call; waits only while the kernel is still booting.
pub(crate) fn number() -> Result<u64, Errno> {
    let mut bytes = [0; 8];
    loop {
        match getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(filled) if filled == bytes.len() => return Ok(u64::from_ne_bytes(bytes)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
