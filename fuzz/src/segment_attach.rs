//! A forged segment: whatever it contains, opening, checking, attaching and 64 operations only
//! succeed or return an error.
//!
//! No panic, no access outside (address sanitizer), no endless loop. Inside one trust domain a
//! forger can only make others receive wrong data. Relies on the documented layout, which a forger
//! knows as well.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use slipring::broadcast::{self, SlowPolicy, Start};
use slipring::{Event, Kind, Mutex, Options, Redelivery, Result, Ring, Semaphore, SignalSemaphore};
use slipring::{latest, mpmc, mpsc, spsc, stream};

use super::draw::Draw;
use super::shared::{CONSUMER_PAGE, LINE, PAGE, PRODUCER_PAGE, Shared, len_of, reseal_header, sealed};

const OPERATIONS: usize = 64;
const KINDS: [Kind; 10] = [
    Kind::Spsc,
    Kind::Mpmc,
    Kind::Stream,
    Kind::Latest,
    Kind::Semaphore,
    Kind::SignalSemaphore,
    Kind::Event,
    Kind::Mutex,
    Kind::Mpsc,
    Kind::Broadcast,
];

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let kind = draw.one_of(&KINDS);
    let (mut image, data_offset) = template(&mut draw, kind);
    let honest = image.len();
    if draw.below(16) == 15 {
        image = draw.bytes(4096).to_vec();
    }
    let len = draw.one_of(&[honest, honest, honest, honest, honest + PAGE, honest - PAGE, 100, 1 << 20]);
    for _ in 0..draw.below(24) {
        forge(&mut draw, &mut image, data_offset);
    }
    if draw.below(8) != 7 && image.len() >= 128 {
        reseal_header(&mut image);
    }
    // Mostly as what it was made, or it is refused for that alone.
    let kind = if draw.below(8) == 7 { draw.one_of(&KINDS) } else { kind };
    match kind {
        Kind::Semaphore => drop(Semaphore::from_fd(sealed(&image, len)).map(|it| use_semaphore(&mut draw, &it))),
        Kind::SignalSemaphore => {
            drop(SignalSemaphore::from_fd(sealed(&image, len)).map(|it| use_signals(&mut draw, &it)))
        }
        Kind::Event => drop(Event::from_fd(sealed(&image, len)).map(|it| use_event(&mut draw, &it))),
        Kind::Mutex => drop(Mutex::from_fd(sealed(&image, len)).map(|it| use_mutex(&mut draw, &it))),
        _ if draw.below(8) == 7 => by_name(&mut draw, &image),
        _ => by_descriptor(&mut draw, sealed(&image, len)),
    }
}

/// A segment as a correct creator makes it, with some frames, and the offset of its data.
fn template(draw: &mut Draw<'_>, kind: Kind) -> (Vec<u8>, usize) {
    let policy = draw.one_of(&[Redelivery::AtLeastOnce, Redelivery::AtMostOnce]);
    let set = |options: Options| options.participants(4).redelivery(policy);
    let read = |ring: &Ring| {
        let memfd = ring.as_fd();
        let data_offset = len_of(memfd) - ring.capacity().next_multiple_of(PAGE);
        (Shared::map(memfd).to_vec(), data_offset)
    };
    let of_primitive = |memfd| {
        let image = Shared::map(memfd).to_vec();
        let data_offset = image.len() - PAGE;
        (image, data_offset)
    };
    let fill = draw.below(64);
    match kind {
        Kind::Spsc => {
            let ring = Ring::create_anonymous(&set(Options::spsc(PAGE))).unwrap();
            let mut tx = spsc::Producer::attach(&ring).unwrap();
            (0..fill).for_each(|i| drop(tx.try_send(&vec![i as u8; i])));
            read(&ring)
        }
        Kind::Mpmc => {
            let ring = Ring::create_anonymous(&set(Options::mpmc(8, 40))).unwrap();
            let tx = mpmc::Producer::attach(&ring).unwrap();
            let rx = mpmc::Consumer::attach(&ring).unwrap();
            for i in 0..fill {
                let _ = tx.try_send(&[i as u8; 40]);
                if i % 3 == 0 {
                    let _ = rx.try_recv();
                }
            }
            read(&ring)
        }
        Kind::Stream => {
            let ring = Ring::create_anonymous(&set(Options::stream(PAGE))).unwrap();
            let mut tx = stream::Producer::attach(&ring).unwrap();
            let _ = tx.try_write(&vec![7; 100 * fill]);
            read(&ring)
        }
        Kind::Mpsc => {
            let ring = Ring::create_anonymous(&set(Options::mpsc(PAGE, 3))).unwrap();
            let mut producers = [mpsc::Producer::attach(&ring).unwrap(), mpsc::Producer::attach(&ring).unwrap()];
            (0..fill).for_each(|i| drop(producers[i % 2].try_send(&vec![i as u8; i])));
            read(&ring)
        }
        Kind::Latest => {
            let ring = Ring::create_anonymous(&set(Options::latest(8, 48))).unwrap();
            let mut tx = latest::Writer::attach(&ring).unwrap();
            (0..fill).for_each(|i| drop(tx.write(i * i % 8, &vec![i as u8; i % 49])));
            read(&ring)
        }
        Kind::Broadcast => {
            let ring = Ring::create_anonymous(&set(Options::broadcast(PAGE))).unwrap();
            let mut tx = broadcast::Publisher::attach(&ring).unwrap();
            let mut rx = broadcast::Subscriber::attach(&ring, Start::Oldest).unwrap();
            let _lossy = broadcast::LossySubscriber::attach(&ring, Start::Oldest).unwrap();
            for i in 0..3 * fill {
                let _ = tx.try_send(&vec![i as u8; 3 * i]);
                if i % 8 != 0 {
                    let _ = rx.try_recv();
                }
            }
            read(&ring)
        }
        Kind::Semaphore => of_primitive(Semaphore::create_anonymous(1 + fill).unwrap().as_fd()),
        Kind::SignalSemaphore => {
            let semaphore = SignalSemaphore::create_anonymous().unwrap();
            semaphore.post_many(fill as u32).unwrap();
            of_primitive(semaphore.as_fd())
        }
        Kind::Event => {
            let event = Event::create_anonymous().unwrap();
            (0..fill).for_each(|i| drop(if i % 3 == 0 { event.reset().map(drop) } else { event.set() }));
            of_primitive(event.as_fd())
        }
        _ => of_primitive(Mutex::create_anonymous(fill).unwrap().as_fd()),
    }
}

/// Changes one important word, or any word.
fn forge(draw: &mut Draw<'_>, image: &mut [u8], data_offset: usize) {
    let (mut at, word) = match draw.below(12) {
        0 => (8 * draw.below(16), draw.nasty()),
        1 => (PRODUCER_PAGE + LINE * draw.below(2), draw.nasty()),
        2 => (CONSUMER_PAGE + draw.one_of(&[0, LINE, LINE + 8]), draw.nasty()),
        3 => (3 * PAGE + LINE * draw.below(14), draw.nasty()),
        4 => (4 * PAGE + LINE * draw.below(5) + 8 * draw.below(2), record(draw)),
        5 => (data_offset + 8 * draw.below(512), frame_word(draw)),
        6 => match draw.below(3) {
            0 => (data_offset + 64 * draw.below(8), slot_word(draw)),
            // The two arrays of slot owners: after five records of 256 bytes, 128 bytes for up to
            // 16 slots.
            array => (4 * PAGE + 5 * 256 + 128 * (array - 1) + 8 * draw.below(8), slot_word(draw)),
        },
        7 => {
            // The same word at equal distances: endless cycles.
            let (word, step) = (frame_word(draw), 8 << draw.below(6));
            let mut at = data_offset;
            while at + 8 <= image.len() {
                image[at..at + 8].copy_from_slice(&word.to_le_bytes());
                at += step;
            }
            return;
        }
        // The heads of eight cells of latest values, and the first two words of their slots.
        8 => match draw.below(4) {
            0 => (data_offset + 8 * draw.below(8), draw.nasty()),
            // The states of three lanes: epoch, owner, phase; and their words. Behind six records.
            1 => (LANES + 8 * draw.below(3), draw.nasty() << 15 | (draw.below(7) as u64) << 3 | draw.below(8) as u64),
            2 => (LANES + LINE + LINE * draw.below(12) + 8 * draw.below(2), draw.nasty()),
            _ => (data_offset + 128 + 64 * draw.below(32) + 8 * draw.below(2), draw.nasty()),
        },
        // What subscribers are: a state and an entry each.
        9 => (4 * PAGE + 5 * 256 + 8 * draw.below(224), draw.nasty()),
        // The floor of a broadcast ring, and its boundaries.
        10 => (PRODUCER_PAGE + LINE + 8 * draw.below(160), draw.nasty()),
        _ => (8 * draw.below(image.len() / 8 + 1), draw.word()),
    };
    at = at.min(image.len().saturating_sub(8));
    if let Some(into) = image.get_mut(at..at + 8) {
        into.copy_from_slice(&word.to_le_bytes());
    }
}

/// The lanes of an mpsc ring of three: behind the records of its participants.
const LANES: usize = 4 * PAGE + 6 * 256;

/// The first word of a short header.
fn frame_word(draw: &mut Draw<'_>) -> u64 {
    let flags = draw.one_of(&[3, 0, 7, 0x0B, 0x13]);
    let len = draw.one_of(&[0, 8, 48, 1000, 4072, 4073, 1 << 30, u32::MAX]);
    u64::from(len) << 32 | flags << 24 | 0x12_52B7
}

/// A slot's commit word, or a word about its owners: lap, reading flag, attempt, owner or state.
fn slot_word(draw: &mut Draw<'_>) -> u64 {
    let lap = draw.one_of(&[0, 1, 2, 8, (1 << 40) - 1, 1 << 39]);
    let (reading, attempt, owner) = (draw.below(2) as u64, u64::from(draw.byte()), draw.below(7) as u64);
    lap << 24 | reading << 23 | attempt << 12 | owner
}

/// A participant's state word: state, role, ticket.
fn record(draw: &mut Draw<'_>) -> u64 {
    (draw.below(7) as u64) << 56 | (draw.below(3) as u64) << 48 | draw.nasty() & 0xFFFF_FFFF_FFFF
}

/// The file in a private directory, under a name.
fn by_name(draw: &mut Draw<'_>, image: &[u8]) {
    thread_local! {
        static PLACE: PathBuf = {
            let thread = format!("{:?}", std::thread::current().id()).replace(|c: char| !c.is_ascii_digit(), "");
            let path = PathBuf::from(format!("/dev/shm/slipring-fuzz-{}-{thread}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            path
        };
    }
    let directory = PLACE.with(Clone::clone);
    let _removed = Removed(directory.clone());
    std::fs::create_dir_all(&directory).unwrap();
    for (path, mode) in [(directory.clone(), 0o700), (directory.join("x"), 0o600)] {
        if mode == 0o600 {
            std::fs::write(&path, image).unwrap();
        }
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    if let Ok(ring) = Ring::open("x", &Options::any().directory(&directory)) {
        use_ring(draw, &ring);
    }
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn by_descriptor(draw: &mut Draw<'_>, fd: OwnedFd) {
    if draw.below(8) == 7 {
        if let Ok(mut rx) = spsc::UntrustedConsumer::from_fd(fd) {
            let mut buffer = vec![0; 256];
            for _ in 0..OPERATIONS {
                let _ = rx.try_recv_into(&mut buffer);
            }
        }
    } else if let Ok(ring) = Ring::from_fd(fd, &Options::any()) {
        use_ring(draw, &ring);
    }
}

fn use_ring(draw: &mut Draw<'_>, ring: &Ring) {
    let mut seats = Seats::default();
    for _ in 0..OPERATIONS {
        let _ = operate(draw, ring, &mut seats);
    }
}

/// The handles that are open at the moment.
#[derive(Default)]
struct Seats {
    spsc: (Option<spsc::Producer>, Option<spsc::Consumer>),
    mpmc: (Option<mpmc::Producer>, Option<mpmc::Consumer>),
    stream: (Option<stream::Producer>, Option<stream::Consumer>),
    latest: (Option<latest::Writer>, Option<latest::Reader>),
    mpsc: (Vec<mpsc::Producer>, Option<mpsc::Consumer>),
    broadcast: (Option<broadcast::Publisher>, Option<broadcast::Subscriber>, Option<broadcast::LossySubscriber>),
}

fn operate(draw: &mut Draw<'_>, ring: &Ring, seats: &mut Seats) -> Result<()> {
    let payload = [0xA5; 64];
    let mut buffer = [0; 300];
    // Mostly the operations of a normal user; those of an operator are rarer and more expensive.
    match draw.below(48) {
        0..=11 if ring.kind() == Kind::Latest => match draw.below(2) {
            0 => seats.latest.0 = Some(latest::Writer::attach(ring)?),
            _ => seats.latest.1 = Some(latest::Reader::attach(ring)?),
        },
        0..=11 if ring.kind() == Kind::Mpsc => match draw.below(2) {
            0 => seats.mpsc.0.push(mpsc::Producer::attach(ring)?),
            _ => seats.mpsc.1 = Some(mpsc::Consumer::attach(ring)?),
        },
        at @ 0..=11 if ring.kind() == Kind::Broadcast => {
            let start = if at % 2 == 0 { Start::Oldest } else { Start::Latest };
            match draw.below(3) {
                0 => seats.broadcast.0 = Some(broadcast::Publisher::attach(ring)?),
                1 => seats.broadcast.1 = Some(broadcast::Subscriber::attach(ring, start)?),
                _ => seats.broadcast.2 = Some(broadcast::LossySubscriber::attach(ring, start)?),
            }
        }
        0..=2 => {
            seats.spsc.0 = Some(spsc::Producer::attach(ring)?);
        }
        3..=5 => {
            seats.spsc.1 = Some(spsc::Consumer::attach(ring)?);
        }
        6..=7 => {
            seats.mpmc.0 = Some(mpmc::Producer::attach(ring)?);
        }
        8..=9 => {
            seats.mpmc.1 = Some(mpmc::Consumer::attach(ring)?);
        }
        10 => {
            seats.stream.0 = Some(stream::Producer::attach(ring)?);
        }
        11 => {
            seats.stream.1 = Some(stream::Consumer::attach(ring)?);
        }
        12 => {
            let _ = (ring.stats(), ring.lanes());
        }
        13 => {
            ring.verify()?;
        }
        14 => {
            ring.participants()?;
        }
        15 => {
            ring.reap_dead()?;
        }
        16 => {
            let mut frames = 0;
            ring.inspect(|frame| {
                frames += 1;
                assert!(frame.payload.len() <= ring.max_payload() && frames <= ring.capacity());
                true
            })?;
        }
        17 => *seats = Seats::default(),
        18..=27 => send(draw, seats, &payload)?,
        28..=45 => receive(draw, seats, &mut buffer)?,
        46 => {
            let _ = (ring.is_idle()?, ring.stats().used(), ring.subscribers());
        }
        _ => {
            seats.spsc.0 = None;
            seats.mpmc.1 = None;
            seats.latest.0 = None;
            seats.mpsc.0.pop();
            seats.broadcast.0 = None;
        }
    }
    Ok(())
}

fn send(draw: &mut Draw<'_>, seats: &mut Seats, payload: &[u8]) -> Result<()> {
    let len = draw.below(payload.len() + 1);
    let payload = &payload[..len];
    if let Some(tx) = &mut seats.spsc.0 {
        match draw.below(4) {
            0 => tx.try_send(payload)?,
            1 => tx.try_reserve(len)?.commit(len / 2),
            2 => {
                let mut batch = tx.batch();
                batch.push(payload)?;
                batch.push(payload)?;
                batch.commit();
            }
            _ => tx.send_deadline(payload, Duration::ZERO)?,
        }
    }
    let producers = seats.mpsc.0.len();
    if producers > 0 {
        let tx = &mut seats.mpsc.0[draw.below(producers)];
        match draw.below(3) {
            0 => tx.try_send(payload)?,
            1 => tx.try_reserve(len)?.commit(len / 2),
            _ => tx.send_deadline(payload, Duration::ZERO)?,
        }
    }
    if let Some(tx) = &seats.mpmc.0 {
        match draw.below(3) {
            0 => tx.try_send(payload)?,
            1 => std::mem::forget(tx.try_reserve(len.min(40))?),
            _ => tx.send_deadline(payload, Duration::ZERO)?,
        }
    }
    if let Some(tx) = &mut seats.stream.0 {
        let _ = tx.try_write(payload)?;
    }
    if let Some(tx) = &mut seats.broadcast.0 {
        match draw.below(5) {
            0 => tx.set_policy(SlowPolicy::Evict { after: Duration::ZERO }),
            1 => tx.send_deadline(payload, Duration::ZERO)?,
            2 => {
                let mut batch = tx.batch();
                batch.push(payload)?;
                batch.push(payload)?;
                batch.commit();
            }
            _ => tx.try_send(&[payload; 4].concat())?,
        }
    }
    if let Some(tx) = &mut seats.latest.0 {
        tx.write(draw.below(9), payload)?;
    }
    Ok(())
}

fn receive(draw: &mut Draw<'_>, seats: &mut Seats, buffer: &mut [u8]) -> Result<()> {
    fn touch(payload: &[u8]) {
        std::hint::black_box(payload.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
    }
    if let Some(rx) = &mut seats.spsc.1 {
        match draw.below(5) {
            0 => touch(&rx.try_recv()?),
            1 => drop(rx.try_recv_into(buffer)?),
            2 => {
                let capacity = rx.ring().capacity();
                let frames =
                    rx.try_recv_batch(usize::MAX)?.iter().inspect(|frame| touch(frame.payload)).take(capacity).count();
                assert!(frames <= capacity / 16, "a batch spans at most one ring");
            }
            3 => rx.try_recv()?.keep(),
            _ => touch(&rx.recv_deadline(Duration::ZERO)?),
        }
    }
    if let Some(rx) = &mut seats.mpsc.1 {
        match draw.below(4) {
            0 => rx.try_recv()?.frame().iter().for_each(|view| touch(view)),
            1 => drop(rx.try_recv_into(buffer)?),
            2 => {
                for frame in rx.try_recv_batch(usize::MAX)?.frame().iter_mut().flat_map(|batch| batch.iter()) {
                    touch(frame.payload);
                }
            }
            _ => rx.recv_deadline(Duration::ZERO)?.frame().into_iter().for_each(|view| view.keep()),
        }
    }
    if let Some(rx) = &seats.mpmc.1 {
        match draw.below(4) {
            0 => touch(&rx.try_recv()?),
            1 => drop(rx.try_recv_into(buffer)?),
            2 => rx.try_recv_batch(8)?.iter().for_each(|frame| touch(frame.payload)),
            _ => touch(&rx.recv_deadline(Duration::ZERO)?),
        }
    }
    if let Some(rx) = &mut seats.broadcast.1 {
        match draw.below(4) {
            0 => drop(rx.try_recv_into(buffer)?),
            1 => {
                let capacity = rx.ring().capacity();
                let frames =
                    rx.try_recv_batch(usize::MAX)?.iter().inspect(|frame| touch(frame.payload)).take(capacity).count();
                assert!(frames <= capacity / 16, "a batch spans at most one ring");
            }
            2 => rx.try_recv()?.keep(),
            _ => touch(&rx.recv_deadline(Duration::ZERO)?),
        }
    }
    if let Some(rx) = &mut seats.broadcast.2 {
        match draw.below(2) {
            0 => drop(rx.try_recv_into(buffer)?),
            _ => drop(rx.recv_into_deadline(buffer, Duration::ZERO)?),
        }
    }
    if let Some(rx) = &mut seats.latest.1 {
        match draw.below(4) {
            0 => touch(rx.try_read(draw.below(9), &mut buffer[..48])?.value),
            1 => touch(rx.try_read(draw.below(9), buffer)?.value),
            2 => assert!(rx.try_changed()? < rx.cells()),
            _ => touch(rx.read_deadline(draw.below(9), buffer, Duration::ZERO)?.value),
        }
    }
    if let Some(rx) = &mut seats.stream.1 {
        let mut large = vec![0; 3 * PAGE];
        match draw.below(3) {
            0 => drop(rx.try_read(&mut large)?),
            1 => touch(&rx.try_read_view(100)?),
            _ => assert!(rx.len() <= rx.capacity()),
        }
    }
    Ok(())
}

fn use_semaphore(draw: &mut Draw<'_>, semaphore: &Semaphore) {
    assert!(semaphore.permits() >= 1);
    let mut permits = Vec::new();
    for _ in 0..OPERATIONS {
        match draw.below(5) {
            0 => permits.extend(semaphore.try_acquire().ok().flatten()),
            1 => drop(permits.pop()),
            2 => assert!(semaphore.available() <= semaphore.permits()),
            3 => drop(semaphore.reap_dead()),
            _ => permits.extend(semaphore.acquire_deadline(Duration::ZERO)),
        }
    }
}

fn use_signals(draw: &mut Draw<'_>, semaphore: &SignalSemaphore) {
    for _ in 0..OPERATIONS {
        let before = semaphore.count();
        match draw.below(6) {
            0 => assert_eq!(semaphore.post().is_ok(), before < SignalSemaphore::MAX_COUNT),
            1 => {
                let n = draw.nasty() as u32;
                let fits = u64::from(before) + u64::from(n) <= u64::from(SignalSemaphore::MAX_COUNT);
                assert_eq!(semaphore.post_many(n).is_ok(), fits);
            }
            2 => assert_eq!(semaphore.try_wait().unwrap(), before > 0),
            3 => drop(semaphore.reap_dead()),
            _ => assert_eq!(semaphore.wait_deadline(Duration::ZERO).is_ok(), before > 0),
        }
    }
}

fn use_event(draw: &mut Draw<'_>, event: &Event) {
    for _ in 0..OPERATIONS {
        let before = event.is_set();
        match draw.below(5) {
            0 => event.set().unwrap(),
            1 => assert_eq!(event.reset().unwrap(), before),
            2 => drop(event.reap_dead()),
            _ => assert_eq!(event.wait_deadline(Duration::ZERO).is_ok(), before),
        }
    }
}

fn use_mutex(draw: &mut Draw<'_>, mutex: &Mutex) {
    for _ in 0..OPERATIONS {
        match draw.below(4) {
            0 => drop(mutex.reap_dead()),
            1 => drop(mutex.lock_deadline(Duration::ZERO)),
            _ => {
                if let Ok(Some(locked)) = mutex.try_lock() {
                    let mut guard = locked.into_guard();
                    guard.fill(7);
                    guard.mark_consistent();
                }
            }
        }
    }
}
