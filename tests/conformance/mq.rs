//! `mq:`.

use slipring::transport::mq::{CAPABILITIES, remove};

use super::subject::{Meeting, Subject, unique};

pub fn subject() -> Subject {
    // 10 messages of 8192 bytes, as far as the system allows.
    Subject {
        capabilities: &CAPABILITIES,
        meet,
        longest: 1 << 20,
        edges: &[8176, 16_352],
        sees_receiver_go: false,
        wire: None,
    }
}

struct Remove(String);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = remove(&self.0);
    }
}

fn meet() -> Meeting {
    let name = format!("/{}", unique());
    let endpoint = format!("mq:{name}");
    Meeting::new(endpoint.clone(), endpoint, Remove(name))
}
