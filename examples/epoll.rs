//! Two rings, a timer and a socket in a loop around `epoll`: what any library on top of it does,
//! such as mio, glib or libuv.
//!
//! ```text
//! cargo run --release --example epoll
//! ```
//!
//! A [`Doorbell`] makes a ring's readiness a descriptor. The rule of the loop: receive until the
//! ring is empty, arm the bell, look once more, then poll.

use std::error::Error;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use slipring::transport::Doorbell;
use slipring::{Options, Ring, spsc};

const RINGS: usize = 2;
const FRAMES: u64 = 200_000;
// The data of an event below RINGS is the number of a ring.
const TIMER: u64 = 10;
const SOCKET: u64 = 11;

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
        if n % 10_000 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

fn consume() -> Result<(), Box<dyn Error>> {
    let names: Vec<_> = (0..RINGS).map(|ring| format!("example-epoll-{ring}-{}", std::process::id())).collect();
    let mut rings = names.iter().map(|name| spsc::Consumer::open(name, &options())).collect::<Result<Vec<_>, _>>()?;
    let bells = rings.iter().map(|ring| Doorbell::eventfd(ring.ring())).collect::<Result<Vec<_>, _>>()?;
    let timer = timer(Duration::from_millis(50))?;
    let (mut socket, mut operator) = UnixStream::pair()?;

    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (number, bell) in bells.iter().enumerate() {
        let fd = bell.eventfd_to_poll().ok_or("an eventfd to poll")?;
        epoll::add(&epoll, fd, EventData::new_u64(number as u64), EventFlags::IN)?;
    }
    epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
    epoll::add(&epoll, &socket, EventData::new_u64(SOCKET), EventFlags::IN)?;

    let producers: Vec<Child> =
        names.iter().map(|name| Command::new(std::env::current_exe()?).arg(name).spawn()).collect::<Result<_, _>>()?;
    operator.write_all(b"?")?; // another program, normally

    let (mut received, mut open, mut waits) = ([0u64; RINGS], RINGS, 0u64);
    for ring in 0..RINGS {
        open -= usize::from(!drain(&mut rings[ring], &bells[ring], &mut received[ring])?);
    }
    let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); 8];
    while open > 0 {
        waits += 1;
        for event in epoll::wait(&epoll, &mut buffer, None)?.0 {
            match event.data.u64() {
                TIMER => {
                    rustix::io::read(&timer, &mut [0; 8])?;
                    println!("{received:?} frames");
                }
                SOCKET => {
                    socket.read_exact(&mut [0])?;
                    writeln!(socket, "{} frames", received.iter().sum::<u64>())?;
                }
                ring => {
                    let ring = ring as usize;
                    if !drain(&mut rings[ring], &bells[ring], &mut received[ring])? {
                        epoll::delete(&epoll, bells[ring].eventfd_to_poll().ok_or("an eventfd to poll")?)?;
                        open -= 1;
                    }
                }
            }
        }
    }
    println!("{received:?} frames, {waits} waits");
    drop((bells, rings));
    for (mut producer, name) in producers.into_iter().zip(&names) {
        producer.wait()?;
        Ring::remove(name, &options())?;
    }
    Ok(())
}

/// Receives until the ring is empty and its bell is armed; false at its end.
fn drain(ring: &mut spsc::Consumer, bell: &Doorbell, received: &mut u64) -> slipring::Result<bool> {
    loop {
        match ring.try_recv() {
            Ok(frame) => assert_eq!(*frame, received.to_le_bytes()),
            Err(slipring::Error::Empty) if bell.arm() => continue, // look once more
            Err(slipring::Error::Empty) => return Ok(true),
            Err(slipring::Error::Closed) => return Ok(false),
            Err(death) => return Err(death),
        }
        *received += 1;
    }
}

fn timer(interval: Duration) -> rustix::io::Result<OwnedFd> {
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let time = Timespec { tv_sec: 0, tv_nsec: i64::from(interval.subsec_nanos()) };
    let every = Itimerspec { it_interval: time, it_value: time };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
    Ok(timer)
}
