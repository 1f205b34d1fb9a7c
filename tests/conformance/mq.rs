//! `mq:`.

use slipring::transport::mq::{CAPABILITIES, remove};

use super::queues::{QueuePermit, queue_permit};
use super::subject::{Keeps, Meeting, Subject, unique};

pub fn subject() -> Subject {
    // 10 messages of 8192 bytes, or the system's limits if they are lower.
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

struct Remove(String, #[allow(dead_code, reason = "dropped after the queue")] QueuePermit);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = remove(&self.0);
    }
}

fn meet() -> Meeting {
    let permit = queue_permit();
    let name = format!("/{}", unique());
    let endpoint = format!("mq:{name}");
    Meeting::new(endpoint.clone(), endpoint, Remove(name, permit))
}
