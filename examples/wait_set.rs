//! One loop for everything: three rings, a timer, a Unix socket and a signal.
//!
//! ```text
//! cargo run --release --example wait_set
//! ```
//!
//! Three producers, which run this program, have a ring each. The consumer waits for all of them in
//! one call, with a timer that prints a line of statistics, a socket on which it is asked for its
//! state, and a signal (SIGTERM, or Ctrl-C) that would end it early. No thread of the program does
//! anything else, and nothing polls.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use slipring::{Options, Readiness, Ring, Token, WaitSet, spsc};

const RINGS: usize = 3;
const FRAMES: u64 = 200_000;
// The tokens below RINGS are those of the rings.
const TIMER: Token = Token(10);
const SOCKET: Token = Token(11);
const SIGNAL: Token = Token(12);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [name] => Ok(produce(name)?),
        _ => consume(),
    }
}

fn options() -> Options {
    Options::spsc(1 << 16)
}

fn produce(name: &str) -> slipring::Result<()> {
    let mut tx = spsc::Producer::open(name, &options())?;
    for n in 0..FRAMES {
        tx.send(&n.to_le_bytes())?;
    }
    tx.close();
    Ok(())
}

fn consume() -> Result<(), Box<dyn Error>> {
    let names: Vec<_> = (0..RINGS).map(|ring| format!("example-wait-set-{ring}-{}", std::process::id())).collect();
    let signals = signals()?; // blocked before any thread starts
    let mut rings = names.iter().map(|name| spsc::Consumer::open(name, &options())).collect::<Result<Vec<_>, _>>()?;
    let timer = timer(Duration::from_millis(100))?;
    let (operator, mut socket) = UnixStream::pair()?;

    let mut set = WaitSet::new()?;
    for (number, ring) in rings.iter().enumerate() {
        set.add(Token(number), ring.readable())?;
    }
    set.add(TIMER, Readiness::readable_fd(&timer)?)?;
    set.add(SOCKET, Readiness::readable_fd(&socket)?)?;
    set.add(SIGNAL, Readiness::readable_fd(&signals)?)?;

    let producers: Vec<Child> =
        names.iter().map(|name| Command::new(std::env::current_exe()?).arg(name).spawn()).collect::<Result<_, _>>()?;
    let asking = std::thread::spawn(move || ask(operator)); // another program, normally

    let start = Instant::now();
    let (mut received, mut open, mut waits) = ([0u64; RINGS], RINGS, 0u64);
    while open > 0 {
        waits += 1;
        let ready: Vec<Token> = set.wait()?.collect();
        for token in ready {
            match token {
                Token(ring) if ring < RINGS => match drain(&mut rings[ring], &mut received[ring]) {
                    Err(slipring::Error::Empty) => {}
                    Err(slipring::Error::Closed) => {
                        set.remove(token);
                        open -= 1;
                    }
                    Err(death) => return Err(death.into()),
                    Ok(()) => {}
                },
                TIMER => {
                    rustix::io::read(&timer, &mut [0; 8])?;
                    println!("{:4} ms: {received:?} frames", start.elapsed().as_millis());
                }
                SOCKET => {
                    let mut line = String::new();
                    if BufReader::new(&socket).read_line(&mut line)? == 0 {
                        set.remove(SOCKET);
                    } else {
                        writeln!(socket, "{} frames", received.iter().sum::<u64>())?;
                    }
                }
                SIGNAL => {
                    println!("interrupted");
                    open = 0;
                }
                _ => unreachable!(),
            }
        }
    }
    println!("{received:?} frames in {:?}, {waits} waits", start.elapsed());
    drop((rings, socket, set));
    println!("the operator was told: {}", asking.join().unwrap()?.trim());
    for (mut producer, name) in producers.into_iter().zip(&names) {
        let _ = producer.kill(); // it has exited, unless a signal came
        producer.wait()?;
        Ring::remove(name, &options())?;
    }
    Ok(())
}

/// Receives what is there, up to a thousand frames: then it is the others' turn.
fn drain(ring: &mut spsc::Consumer, received: &mut u64) -> slipring::Result<()> {
    for _ in 0..1000 {
        let frame = ring.try_recv()?;
        assert_eq!(*frame, received.to_le_bytes());
        *received += 1;
    }
    Ok(())
}

/// Asks for the state once, after a moment.
fn ask(mut operator: UnixStream) -> std::io::Result<String> {
    std::thread::sleep(Duration::from_millis(5));
    writeln!(operator, "state?")?;
    let mut answer = String::new();
    BufReader::new(operator).read_line(&mut answer)?;
    Ok(answer)
}

fn timer(interval: Duration) -> rustix::io::Result<OwnedFd> {
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let time = Timespec { tv_sec: 0, tv_nsec: i64::from(interval.subsec_nanos()) };
    let every = Itimerspec { it_interval: time, it_value: time };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
    Ok(timer)
}

/// A descriptor that is readable when SIGINT or SIGTERM has come.
fn signals() -> std::io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: fills the set that it is passed.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the set was filled above.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: the set was filled above; the old one is not wanted.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) };
    // SAFETY: the set was filled above.
    let fd = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: just made, and owned by no other value.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
