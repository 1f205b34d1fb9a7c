//! Boards of latest values between processes: no value is torn, versions do not go back, and the
//! newest value survives its writer, which is killed again and again in the middle of its work.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use slipring::frame::{Event, Flags, Header};
use slipring::transport::{Doorbell, FrameReceiver, FrameReceiverExt, FrameSender, ring};
use slipring::{Error, Options, Ring, Token, WaitSet, latest};

use crate::common::dir::TestDir;
use crate::common::this_test::this_test;

const DIRECTORY: &str = "SLIPRING_LATEST_DIRECTORY";
const CELLS: usize = 3;
/// Several lines, so that a value takes long enough to be torn.
const SIZE: usize = 500;
const SOON: Duration = Duration::from_secs(60);

fn options(directory: &Path) -> Options {
    Options::latest(CELLS, SIZE).directory(directory)
}

/// A value that repeats its number, of a length that depends on it.
fn value(number: u64) -> Vec<u8> {
    let len = 8 + (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % (SIZE - 8);
    number.to_le_bytes().iter().copied().cycle().take(len).collect()
}

/// The number of a value. Fails if it is torn.
fn number(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == value(number), "torn");
    number
}

/// Not a test: a writer. The numbers of its values are their versions.
#[test]
fn writer_process() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let mut tx = loop {
        match latest::Writer::open("board", &options(Path::new(&directory))) {
            Err(Error::RoleTaken { .. }) => std::thread::yield_now(), // the kernel still ends the last one
            opened => break opened.unwrap(),
        }
    };
    // The version of a value is known only when it is written: a dead predecessor may have
    // published one more than it has told.
    let mut versions = [0; CELLS];
    for (cell, version) in versions.iter_mut().enumerate() {
        *version =
            latest::Reader::attach(tx.ring()).unwrap().try_read(cell, &mut [0; 512]).map_or(0, |got| got.version);
    }
    std::io::stdout().write_all(b"ready\n").unwrap();
    for cell in (0..CELLS).cycle() {
        versions[cell] += 1;
        assert_eq!(tx.write(cell, &value(versions[cell])).unwrap(), versions[cell]);
    }
}

/// A writer process, killed when dropped.
struct Writer(Child);

impl Writer {
    fn start(directory: &Path) -> Self {
        let child =
            this_test(module_path!(), "writer_process").env(DIRECTORY, directory).stdout(Stdio::piped()).spawn();
        Writer(child.unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_value_is_torn_or_lost_when_writers_are_killed() {
    let directory = TestDir::new("latest");
    let board = Ring::create("board", &options(&directory.0)).unwrap();
    let mut rx = latest::Reader::attach(&board).unwrap();
    let (mut last, mut buffer) = ([0; CELLS], [0; 512]);
    let start = Instant::now();
    let (mut kills, mut reads) = (0, 0u64);
    while kills < 40 && start.elapsed() < Duration::from_secs(20) {
        let writer = Writer::start(&directory.0);
        // Each is killed after some values: at any instruction.
        for _ in 0..200 + kills * 7 {
            let cell = match rx.changed_deadline(SOON) {
                Ok(cell) => cell,
                Err(Error::PeerDead) => continue, // of the one before
                Err(error) => panic!("{error}"),
            };
            let reading = match rx.read_deadline(cell, &mut buffer, SOON) {
                Ok(reading) => reading,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(number(reading.value), reading.version);
            assert!(
                last[cell] == 0 || reading.version == last[cell] + 1 + reading.skipped,
                "every value is accounted for"
            );
            last[cell] = reading.version;
            reads += 1;
        }
        drop(writer);
        kills += 1;
        for (cell, last) in last.iter_mut().enumerate() {
            let reading = rx.read_deadline(cell, &mut buffer, SOON).unwrap();
            assert_eq!(number(reading.value), reading.version, "the newest value is whole");
            assert!(reading.version >= *last);
            *last = reading.version;
        }
        assert!(board.verify().unwrap().is_clean(), "{:?}", board.verify().unwrap());
        assert!(matches!(rx.changed_deadline(SOON), Err(Error::PeerDead)));
    }
    println!("{kills} writers were killed; {reads} values read, versions {last:?}");
    assert!(kills > 0);
}

#[test]
fn readers_of_several_processes_see_whole_values_of_one_writer() {
    let directory = TestDir::new("latest");
    let board = Ring::create("board", &options(&directory.0)).unwrap();
    let writer = Writer::start(&directory.0);
    let mut readers: Vec<_> = (0..4).map(|_| latest::Reader::attach(&board).unwrap()).collect();
    std::thread::scope(|scope| {
        for rx in &mut readers {
            scope.spawn(|| {
                let mut buffer = [0; 512];
                let mut last = [0; CELLS];
                for n in 0..20_000 {
                    let cell = n % CELLS;
                    let reading = rx.read_deadline(cell, &mut buffer, SOON).unwrap();
                    assert!(number(reading.value) == reading.version && reading.version >= last[cell]);
                    last[cell] = reading.version;
                }
            });
        }
    });
    drop(writer);
    assert!(board.verify().unwrap().is_clean());
}

#[test]
fn each_value_is_a_frame_and_skipped_ones_are_a_gap() {
    let board = Ring::create_anonymous(&Options::latest(2, 48)).unwrap();
    let (mut tx, mut rx) = (ring::Sender::attach(&board).unwrap(), ring::Receiver::attach(&board).unwrap());
    assert_eq!((tx.capabilities(), rx.capabilities()), (&ring::LATEST, &ring::LATEST));
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    let header = Header { stream: 1, kind: 0x0107, ..Header::PLAIN };
    for payload in [b"one", b"two"] {
        tx.try_send(header, payload).unwrap();
    }
    let frame = |event: Result<Event<'_>, Error>| match event {
        Ok(Event::Frame(frame)) => {
            assert_eq!(frame.header.flags, Flags::WHOLE);
            (frame.header.stream, frame.header.kind, frame.header.seq, frame.payload.to_vec())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(frame(rx.recv_deadline(SOON)), (1, 0x0107, 2, b"two".to_vec()));
    assert!(rx.keep());
    assert_eq!(frame(rx.try_recv()), (1, 0x0107, 2, b"two".to_vec()), "again");
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    for payload in [b"a", b"b", b"c"] {
        tx.try_send(header, payload).unwrap();
    }
    assert!(matches!(rx.try_recv(), Ok(Event::Gap { stream: 1, expected: 3, found: 5 })));
    assert_eq!(frame(rx.try_recv()), (1, 0x0107, 5, b"c".to_vec()));
    let ping = Header::control(slipring::frame::control::PING, 0).unwrap();
    tx.try_send(ping, b"ping").unwrap();
    assert!(matches!(rx.recv(), Ok(Event::Frame(frame)) if frame.header.is_control()));
    assert!(matches!(tx.try_send(Header { stream: 2, ..Header::PLAIN }, b"none"), Err(Error::Invalid { .. })));
    assert!(matches!(tx.try_send(Header { kind: 7, ..Header::PLAIN }, b"reserved"), Err(Error::Invalid { .. })));
    assert!(matches!(tx.try_send(Header::PLAIN, &[0; 49]), Err(Error::TooLarge { max: 48 })));
    drop(tx);
    assert!(matches!(rx.recv_deadline(SOON), Err(Error::Closed)));
}

#[test]
fn a_doorbell_rings_for_each_change() {
    let (mut tx, rx) = latest::pair(2, 48).unwrap();
    let mut rx = ring::Receiver::from(rx).with_doorbell().unwrap();
    for n in 0..100u64 {
        assert!(matches!(rx.try_recv(), Err(Error::Empty)), "armed");
        std::thread::scope(|scope| {
            scope.spawn(|| tx.write(n as usize % 2, &n.to_le_bytes()).unwrap());
            let Ok(Event::Frame(frame)) = rx.recv_deadline(SOON) else { panic!("no frame") };
            assert_eq!(frame.payload, n.to_le_bytes());
        });
    }
    let bell = Doorbell::eventfd(tx.ring()).unwrap();
    assert!(bell.arm());
    tx.write(0, b"new").unwrap();
    bell.wait(SOON).unwrap();
}

/// Other cells change all the time, and are not read.
#[test]
fn a_reader_is_told_of_the_cells_that_it_watches_and_of_no_other() {
    use crate::common::tasks::{Count, block_on};
    let (mut tx, mut rx) = latest::pair(8, 8).unwrap();
    assert!(matches!(rx.watch([3, 8]), Err(Error::Invalid { .. })));
    tx.write(0, b"all").unwrap();
    assert_eq!(rx.changed().unwrap(), 0, "nothing was changed");
    rx.watch([3, 5]).unwrap();
    let mut set = WaitSet::new().unwrap();
    set.add(Token(7), rx.readable()).unwrap();
    let others = |tx: &mut latest::Writer| {
        (0..8).filter(|cell| ![3, 5].contains(cell)).for_each(|cell| {
            tx.write(cell, b"other").unwrap();
        })
    };
    for n in 0..50u64 {
        let cell = [3, 5][n as usize % 2];
        others(&mut tx);
        assert!(matches!(rx.try_changed(), Err(Error::Empty)));
        assert!(matches!(rx.changed_deadline(Duration::from_millis(1)), Err(Error::Timeout)));
        assert_eq!(set.try_wait().unwrap().count(), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| tx.write(cell, &n.to_le_bytes()).unwrap());
            assert!(set.wait_deadline(SOON).unwrap().eq([Token(7)]));
        });
        assert_eq!(rx.changed().unwrap(), cell);
        assert_eq!(rx.try_read(cell, &mut [0; 8]).unwrap().value, n.to_le_bytes());
    }
    let mut rx = latest::AsyncReader::new(rx);
    {
        let count = Count::new();
        let mut changed = std::pin::pin!(rx.changed());
        others(&mut tx);
        assert!(count.poll(changed.as_mut()).is_pending());
        tx.write(5, b"new").unwrap();
        count.wait(1);
        assert!(matches!(count.poll(changed.as_mut()), std::task::Poll::Ready(Ok(5))));
    }
    rx.get_mut().try_read(5, &mut [0; 8]).unwrap();
    drop(tx);
    assert!(matches!(block_on(rx.changed()), Err(Error::Closed)), "an end is told in any case");
}

#[test]
fn a_dropped_wait_for_a_change_loses_nothing() {
    use crate::common::tasks::block_on;
    use crate::tasks::{STAGES, drop_at};
    let (mut tx, rx) = latest::pair(2, 8).unwrap();
    let mut rx = latest::AsyncReader::new(rx);
    for n in 0..100u64 {
        let (stage, cell) = (STAGES[n as usize % STAGES.len()], n as usize % 2);
        drop_at(stage, rx.changed(), || {
            tx.write(cell, &n.to_le_bytes()).unwrap();
        });
        assert_eq!(block_on(rx.changed()).unwrap(), cell, "{stage:?}: not read, so it is still changed");
        let mut buffer = [0; 8];
        let reading = rx.get_mut().try_read(cell, &mut buffer).unwrap();
        assert_eq!((reading.value, reading.skipped), (n.to_le_bytes().as_slice(), 0), "{stage:?}");
        assert!(matches!(rx.get_mut().try_changed(), Err(Error::Empty)), "{stage:?}");
    }
}

#[test]
fn a_later_reader_learns_of_the_end_as_well() {
    let board = Ring::create_anonymous(&Options::latest(1, 48)).unwrap();
    latest::Writer::attach(&board).unwrap().write(0, b"last").unwrap();
    for _ in 0..3 {
        let mut rx = latest::Reader::attach(&board).unwrap();
        assert_eq!(rx.changed().unwrap(), 0);
        assert_eq!(rx.read(0, &mut [0; 48]).unwrap().value, b"last");
        assert!(matches!(rx.changed_deadline(SOON), Err(Error::Closed)));
    }
}

#[test]
fn a_task_is_woken_by_each_change_and_by_the_end() {
    use crate::common::tasks::block_on;
    let (mut tx, rx) = latest::pair(2, 8).unwrap();
    let mut rx = latest::AsyncReader::new(rx);
    for n in 1..=200u64 {
        std::thread::scope(|scope| {
            scope.spawn(|| tx.write(n as usize % 2, &n.to_le_bytes()).unwrap());
            let cell = block_on(rx.changed()).unwrap();
            let mut buffer = [0; 8];
            assert_eq!(rx.get_mut().try_read(cell, &mut buffer).unwrap().value, n.to_le_bytes());
        });
    }
    std::thread::scope(|scope| {
        scope.spawn(|| drop(tx));
        assert!(matches!(block_on(rx.changed()), Err(Error::Closed)));
    });
}
