//! Aborts a test program in which a test hangs, and prints where.
//!
//! The test harness waits in the main thread, and wakes up whenever a test has ended. A thread that
//! is started before `main` aborts the program if no test has ended for 30 seconds. Before that,
//! every thread prints its stack and its name, which is that of its test.
//!
//! On a busy machine it waits longer: a second counts less if there are more runnable threads than
//! processors. It does not watch the children that tests start, measurements (`--ignored`), and the
//! full form of the tests (`SLIPRING_TESTS=full`), which takes long. `SLIPRING_HANG=SECONDS` sets
//! another limit.

use std::backtrace::Backtrace;
use std::io::Write;
use std::time::Duration;

const STEP: Duration = Duration::from_secs(1);

/// The C library's start-up code calls it.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    let limit = match std::env::var("SLIPRING_HANG") {
        Ok(seconds) => seconds.parse().expect("SLIPRING_HANG: a number of seconds"),
        Err(_) => 30.0,
    };
    let is_apart = |argument: String| ["--exact", "--ignored", "--list"].contains(&argument.as_str());
    if std::env::var_os("SLIPRING_TESTS").is_none() && !std::env::args().any(is_apart) {
        let _ = std::thread::Builder::new().name("watchdog".into()).spawn(move || watch(limit));
    }
}

fn watch(limit: f64) {
    let main = std::process::id();
    let (mut last, mut idle) = (wake_ups(main), 0.0);
    while idle < limit {
        std::thread::sleep(STEP);
        let now = wake_ups(main);
        idle = if now == last { idle + STEP.as_secs_f64() / load() } else { 0.0 };
        last = now;
    }
    say(&format!("\nno test has ended for {limit} s: they hang in\n"));
    // SAFETY: the handler makes calls that are not async-signal-safe, and may block. The program is
    // aborted in any case.
    unsafe { libc::signal(libc::SIGQUIT, show as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    let me = rustix::thread::gettid().as_raw_nonzero().get();
    for tid in threads().filter(|tid| *tid != me && *tid != main as i32) {
        // SAFETY: takes numbers.
        unsafe { libc::syscall(libc::SYS_tgkill, main, tid, libc::SIGQUIT) };
        std::thread::sleep(STEP / 2);
    }
    std::process::abort();
}

extern "C" fn show(_: libc::c_int) {
    let thread = std::thread::current();
    say(&format!("{}:\n{}\n", thread.name().unwrap_or("a thread"), Backtrace::force_capture()));
}

/// Writes without `eprint!`, which the harness captures.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn threads() -> impl Iterator<Item = i32> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok())
}

/// The number of times that a thread has slept.
fn wake_ups(tid: u32) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/self/task/{tid}/status")).ok()?;
    status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).map(str::to_owned)
}

/// Runnable threads per processor over the last minute, at least 1.
fn load() -> f64 {
    let average = std::fs::read_to_string("/proc/loadavg").ok();
    let runnable = average.and_then(|text| text.split(' ').next()?.parse::<f64>().ok()).unwrap_or(1.0);
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    (runnable / processors as f64).max(1.0)
}
