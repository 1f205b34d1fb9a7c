//! `sysv:`.

use slipring::transport::sysv::{CAPABILITIES, Key, remove};

use super::subject::{Keeps, Meeting, Place, Subject};

pub fn subject() -> Subject {
    Subject {
        capabilities: &CAPABILITIES,
        meet,
        longest: 1 << 20,
        edges: &[8176, 16_352],
        keeps: Keeps::Everything,
        sees_receiver_go: false,
        wire: None,
    }
}

struct Remove(Key, #[allow(dead_code, reason = "dropped with the queue")] Place);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = remove(self.0);
    }
}

/// By number: the keys of two files may collide.
fn meet() -> Meeting {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = std::process::id() << 9 | NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) & 0x1FF;
    let endpoint = format!("sysv:{:#x}", number | 0x4000_0000);
    let key = Key::number(number | 0x4000_0000).unwrap();
    Meeting::new(endpoint.clone(), endpoint, Remove(key, Place::new()))
}
