//! `mq:`.

use std::sync::{Condvar, Mutex};

use slipring::transport::mq::{CAPABILITIES, remove};

use super::subject::{Meeting, Subject, unique};

pub fn subject() -> Subject {
    // 10 messages of 8192 bytes, or the system's limits if they are lower.
    Subject {
        capabilities: &CAPABILITIES,
        meet,
        longest: 1 << 20,
        edges: &[8176, 16_352],
        sees_receiver_go: false,
        wire: None,
    }
}

/// A user's queues share `RLIMIT_MSGQUEUE`, 800 KiB by default: this many can exist at a time.
const AT_ONCE: usize = 4;
static TAKEN: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

struct Remove(String);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = remove(&self.0);
        *TAKEN.0.lock().unwrap() -= 1;
        TAKEN.1.notify_one();
    }
}

fn meet() -> Meeting {
    *TAKEN.1.wait_while(TAKEN.0.lock().unwrap(), |taken| *taken == AT_ONCE).unwrap() += 1;
    let name = format!("/{}", unique());
    let endpoint = format!("mq:{name}");
    Meeting::new(endpoint.clone(), endpoint, Remove(name))
}
