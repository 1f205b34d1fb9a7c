//! Waits until a child process sleeps: it has then reached the point at which the test kills it.

use std::process::Child;
use std::time::{Duration, Instant};

/// Returns when every thread of `child` has been found asleep several times in a row.
#[track_caller]
pub fn wait_until_asleep(child: &Child) {
    let start = Instant::now();
    let mut asleep = 0;
    while asleep < 20 {
        assert!(start.elapsed() < Duration::from_secs(60), "the child does not sleep");
        let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
        let all = threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
        });
        asleep = if all { asleep + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(1));
    }
}
