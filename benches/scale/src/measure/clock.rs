//! The clocks: of the machine, which all processes share, and of processes.

use std::process::Child;
use std::time::Duration;

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that the call may write.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// `CLOCK_MONOTONIC`
pub(super) fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// The processor time of this process.
pub(super) fn processor_ns() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// The processor time of a child so far; 0 if it has ended.
pub(super) fn processor_ns_of(child: &Child) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/schedstat", child.id())).unwrap_or_default();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Waits until the two first processors are idle, for a time: what others do on them meanwhile
/// would be measured, too. Returns whether they are.
pub(super) fn wait_until_idle(patience: Duration) -> bool {
    const LOOK: Duration = Duration::from_millis(50);
    let until = now_ns() + patience.as_nanos() as u64;
    loop {
        let before = idle_ticks();
        std::thread::sleep(LOOK);
        let (Some(before), Some(after)) = (before, idle_ticks()) else { return true };
        // Of five ticks.
        if before.iter().zip(after).all(|(before, after)| after - before >= 4) {
            return true;
        }
        if now_ns() > until {
            return false;
        }
    }
}

/// How long each of the two first processors has been idle, in 1/100 s, to this moment.
fn idle_ticks() -> Option<[u64; 2]> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let ticks = |name: &str| {
        let mut words = stat.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
        let (idle, waits) = (words.nth(3)?, words.next()?);
        Some(idle.parse::<u64>().ok()? + waits.parse::<u64>().ok()?)
    };
    Some([ticks("cpu0 ")?, ticks("cpu1 ")?])
}

/// How often a child has slept so far; 0 if it has ended.
pub(super) fn sleeps_of(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}
