//! Three rings, a timer and a socket in a loop around `epoll`: what any library on top of it does,
//! such as mio, glib or libuv. Two of the rings are received from, and one is sent to.
//!
//! ```text
//! cargo run --release --example epoll
//! ```
//!
//! A [`Doorbell`] makes a ring's readiness a descriptor. The rule of the loop: receive until the
//! ring is empty, arm the bell, look once more, then poll. A sender with a doorbell polls writable:
//! send until the ring is full, then poll. Its consumer stalls for a while, and the loop goes on.

use std::error::Error;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use slipring::frame::Header;
use slipring::transport::{Doorbell, FrameSender, ring};
use slipring::{Options, Ring, spsc};

const RINGS: usize = 2;
const FRAMES: u64 = 200_000;
const ORDERS: u64 = 50_000;
// The data of an event below RINGS is the number of a ring.
const TIMER: u64 = 10;
const SOCKET: u64 = 11;
const ROOM: u64 = 12;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [role, name] if role == "produce" => Ok(produce(name)?),
        [role, name] if role == "obey" => Ok(obey(name)?),
        _ => run(),
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

/// Receives the orders, and stalls once.
fn obey(name: &str) -> slipring::Result<()> {
    let mut rx = spsc::Consumer::open(name, &options())?;
    for n in 0..ORDERS {
        assert_eq!(*rx.recv()?, n.to_le_bytes());
        if n == 1000 {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    assert!(matches!(rx.recv(), Err(slipring::Error::Closed)));
    Ok(())
}

fn run() -> Result<(), Box<dyn Error>> {
    let name = |ring: usize| format!("example-epoll-{ring}-{}", std::process::id());
    let (names, orders): (Vec<_>, _) = ((0..RINGS).map(name).collect(), name(RINGS));
    let mut rings = names.iter().map(|name| spsc::Consumer::open(name, &options())).collect::<Result<Vec<_>, _>>()?;
    let mut sender = ring::Sender::from(spsc::Producer::open(&orders, &options())?).with_doorbell()?;
    let bells = rings.iter().map(|ring| Doorbell::eventfd(ring.ring())).collect::<Result<Vec<_>, _>>()?;
    let timer = timer(Duration::from_millis(50))?;
    let (mut socket, mut operator) = UnixStream::pair()?;

    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (number, bell) in bells.iter().enumerate() {
        epoll::add(&epoll, bell, EventData::new_u64(number as u64), EventFlags::IN)?;
    }
    epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
    epoll::add(&epoll, &socket, EventData::new_u64(SOCKET), EventFlags::IN)?;
    epoll::add(&epoll, sender.poll_fd().ok_or("an eventfd to poll")?, EventData::new_u64(ROOM), EventFlags::OUT)?;

    let start = |role: &str, name: &str| Command::new(std::env::current_exe()?).args([role, name]).spawn();
    let producers: Vec<Child> = names.iter().map(|name| start("produce", name)).collect::<Result<_, _>>()?;
    let mut obeying = start("obey", &orders)?;
    operator.write_all(b"?")?; // another program, normally

    let (mut received, mut open, mut waits) = ([0u64; RINGS], RINGS, 0u64);
    let (mut sent, mut fillings) = (0u64, 0u64);
    for ring in 0..RINGS {
        open -= usize::from(!drain(&mut rings[ring], &bells[ring], &mut received[ring])?);
    }
    let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); 8];
    while open > 0 || sent < ORDERS {
        waits += 1;
        for event in epoll::wait(&epoll, &mut buffer, None)?.0 {
            match event.data.u64() {
                TIMER => {
                    rustix::io::read(&timer, &mut [0; 8])?;
                    println!("{received:?} frames, {sent} orders");
                }
                ROOM => {
                    fillings += 1;
                    if fill(&mut sender, &mut sent)? {
                        // With room and nothing to send, it polls writable all the time.
                        epoll::delete(&epoll, sender.poll_fd().ok_or("an eventfd to poll")?)?;
                    }
                }
                SOCKET => {
                    socket.read_exact(&mut [0])?;
                    writeln!(socket, "{} frames", received.iter().sum::<u64>())?;
                }
                ring => {
                    let ring = ring as usize;
                    if !drain(&mut rings[ring], &bells[ring], &mut received[ring])? {
                        epoll::delete(&epoll, &bells[ring])?;
                        open -= 1;
                    }
                }
            }
        }
    }
    println!("{received:?} frames, {sent} orders in {fillings} fillings, {waits} waits");
    drop((bells, rings, sender));
    for (mut producer, name) in producers.into_iter().zip(&names) {
        producer.wait()?;
        Ring::remove(name, &options())?;
    }
    let obeyed = obeying.wait()?.success();
    Ring::remove(&orders, &options())?;
    if obeyed { Ok(()) } else { Err("the orders did not arrive".into()) }
}

/// Sends until the ring is full and its bell is armed, or all orders are sent; true then.
fn fill(sender: &mut ring::Sender, sent: &mut u64) -> slipring::Result<bool> {
    while *sent < ORDERS {
        match sender.try_send(Header::PLAIN, &sent.to_le_bytes()) {
            Ok(()) => *sent += 1,
            Err(slipring::Error::Full) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
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
