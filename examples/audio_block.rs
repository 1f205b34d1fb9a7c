//! Audio from a process that may be late to one that must not be: without allocations and system
//! calls in the callback, which is proven.
//!
//! ```text
//! cargo run --release --example audio_block
//! ```
//!
//! The program renders a stereo tone into a stream, block by block. It starts itself as the "sound
//! card": a process whose callback must produce a block every 2.67 ms. Two guards watch the
//! callback:
//!
//! * The global allocator counts what this thread allocates.
//! * A seccomp filter kills the process at any system call but two: the one with which the *driver*
//!   sleeps until the next period, and the one that ends the process. The callback may not even
//!   call `write` or `futex`. To prove that the filter works, a second sound card makes one
//!   harmless system call, and must be killed for it.
//!
//! The statistics are sent through a ring as well.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::error::Error;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use slipring::{Options, Ring, WakeMode, stream};

const RATE: u64 = 48_000;
const CHANNELS: usize = 2;
const FRAMES: usize = 128;
/// Bytes of a block of interleaved samples.
const BLOCK: usize = FRAMES * CHANNELS * size_of::<f32>();
const PERIOD_NS: u64 = FRAMES as u64 * 1_000_000_000 / RATE;
const CALLBACKS: u64 = 750; // two seconds

/// A stream for real-time threads: no participant sleeps on it, so none makes a system call to wake
/// another; and all its pages are in memory.
fn options(bytes: usize) -> Options {
    Options::stream(bytes).wake_mode(WakeMode::Poll).prefault(true).lock_memory(true).best_effort(true)
}

/// Sample `n` of the tone, computed alike on both sides.
fn sample(n: u64) -> f32 {
    (n % 109) as f32 / 54.5 - 1.0
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [name, misbehave] => sound_card(name, misbehave == "misbehave"),
        _ => {
            assert_eq!(render("misbehave")?, None, "the sound card survived a system call in its callback");
            let Some([played, xruns, wrong, allocations]) = render("behave")? else {
                return Err("the callback made a system call".into());
            };
            println!(
                "{played} blocks of {FRAMES} frames played, {xruns} xruns, {allocations} allocations, no system call"
            );
            assert_eq!((played + xruns, wrong, allocations), (CALLBACKS, 0, 0));
            Ok(())
        }
    }
}

/// Plays to a sound card. Returns its report, or `None` if it was killed for a system call.
fn render(behaviour: &str) -> Result<Option<[u64; 4]>, Box<dyn Error>> {
    let name = format!("example-audio-{}", std::process::id());
    let reply = format!("{name}-reply");
    let mut tx = stream::Producer::open(&name, &options(16 * BLOCK))?;
    let mut reports = stream::Consumer::open(&reply, &options(4096))?;
    tx.ring().downgrades().iter().for_each(|lacking| println!("note: {lacking}"));
    let mut card = Command::new(std::env::current_exe()?).args([&name, behaviour]).spawn()?;

    let mut n = 0;
    let status = loop {
        // Room for a block as one slice, even at the end of the ring: samples are written in place.
        match tx.reserve_deadline(BLOCK, Duration::from_millis(5)) {
            Ok(mut grant) => {
                grant.as_values_mut::<f32>()?.iter_mut().zip(n..).for_each(|(s, n)| *s = sample(n));
                grant.commit(BLOCK);
                n += (FRAMES * CHANNELS) as u64;
            }
            Err(slipring::Error::Timeout | slipring::Error::PeerDead) => {} // the stream is full, or the sound card has ended
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = card.try_wait()? {
            break status;
        }
    };
    Ring::remove(&name, &options(1))?;
    Ring::remove(&reply, &options(1))?;
    let mut report = [0; 4];
    match status.signal() {
        Some(libc::SIGSYS) => Ok(None),
        _ if status.success() && reports.try_read_values(&mut report)? == 4 => Ok(Some(report)),
        _ => Err(format!("the sound card: {status}").into()),
    }
}

fn sound_card(name: &str, misbehave: bool) -> Result<(), Box<dyn Error>> {
    let mut rx = stream::Consumer::open(name, &options(1))?;
    let mut tx = stream::Producer::open(&format!("{name}-reply"), &options(1))?;
    rx.read_view_deadline(8 * BLOCK, Instant::now() + Duration::from_secs(10))?.keep(); // wait for some blocks, then start
    let mut speaker = [0f32; FRAMES * CHANNELS];
    let (mut played, mut xruns, mut wrong, mut n) = (0, 0, 0, 0);
    // The driver's state. Periods are absolute times, so that they do not drift.
    let mut wake = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    forbid_system_calls()?;
    ALLOCATIONS.set(0);
    for _ in 0..CALLBACKS {
        // --- the callback ---
        match rx.try_read_view(BLOCK) {
            Ok(view) => {
                speaker.copy_from_slice(view.as_values()?);
                view.release(BLOCK);
                played += 1;
                wrong += speaker.iter().zip(n..).filter(|(s, n)| **s != sample(*n)).count() as u64;
                n += speaker.len() as u64;
            }
            Err(_) => {
                speaker.fill(0.0); // no block in time: play silence
                xruns += 1;
            }
        }
        if misbehave {
            let _ = std::process::id(); // getpid, a harmless call
        }
        // --- the driver ---
        wake.tv_nsec += PERIOD_NS as i64;
        if wake.tv_nsec >= 1_000_000_000 {
            wake = rustix::time::Timespec { tv_sec: wake.tv_sec + 1, tv_nsec: wake.tv_nsec - 1_000_000_000 };
        }
        while rustix::thread::clock_nanosleep_absolute(rustix::thread::ClockId::Monotonic, &wake).is_err() {}
    }
    let reported = tx.try_write_values(&[played, xruns, wrong, ALLOCATIONS.get()]);
    // SAFETY: ends the process; nothing of it is used afterwards. No destructor runs, which could
    // make system calls.
    unsafe { libc::_exit(i32::from(reported.is_err())) }
}

/// From here on, any system call of this thread except the driver's sleep and the exit kills the
/// process with SIGSYS.
fn forbid_system_calls() -> std::io::Result<()> {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let allow_if = |call: libc::c_long, jump| instruction(libc::BPF_JMP | libc::BPF_JEQ, jump, 0, call as u32);
    let mut program = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0), // the number of the call
        allow_if(libc::SYS_clock_nanosleep, 2),
        allow_if(libc::SYS_exit_group, 1),
        instruction(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        instruction(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: takes numbers only. The flag keeps programs that this process would start from
    // gaining privileges; it starts none.
    let unprivileged = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: `program` points to a filter of `len` instructions, which outlives the call; the
    // kernel copies and checks it.
    let guarded = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if unprivileged == 0 && guarded == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// The system's allocator, counting per thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed to the system's allocator unchanged. The counter, a
// constant-initialised cell without a destructor, allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1); // freeing counts, too
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}
