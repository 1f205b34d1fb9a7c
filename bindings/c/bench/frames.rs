//! What a frame of 64 bytes costs from Rust: the same as `frames.c`, which `make bench` compares. As
//! there, the library does not know the length when it is compiled.

use std::hint::black_box;
use std::os::fd::AsFd;
use std::time::Instant;

use slipring::spsc::{Consumer, Producer};
use slipring::{Error, Options, Result, Ring};

const FRAMES: u32 = 2_000_000;
const BATCH: u32 = 16;
/// Frames that are sent, and then received, to measure each side alone.
const BURST: u32 = 100;

fn pair() -> Result<(Producer, Consumer)> {
    let ring = Ring::create_anonymous(&Options::spsc(1 << 16))?;
    let fd = ring.as_fd().try_clone_to_owned().map_err(|_| Error::NotFound)?;
    Ok((Producer::attach(&ring)?, Consumer::attach(&Ring::from_fd(fd, &Options::any())?)?))
}

fn in_place(mut tx: Producer, mut rx: Consumer) -> Result<u32> {
    let (mut payload, mut sum) = ([0; 64], 0u32);
    for i in 0..FRAMES {
        payload[0] = i as u8;
        tx.try_send(black_box(&payload[..]))?;
        sum = sum.wrapping_add(rx.try_recv()?[0].into());
    }
    Ok(sum)
}

fn copy(mut tx: Producer, mut rx: Consumer) -> Result<u32> {
    let (mut payload, mut copy, mut sum) = ([0; 64], [0; 64], 0u32);
    for i in 0..FRAMES {
        payload[0] = i as u8;
        tx.try_send(black_box(&payload[..]))?;
        rx.try_recv_into(black_box(&mut copy[..]))?;
        sum = sum.wrapping_add(copy[0].into());
    }
    Ok(sum)
}

fn reserve(mut tx: Producer, mut rx: Consumer) -> Result<u32> {
    let mut sum = 0u32;
    for i in 0..FRAMES {
        let mut grant = tx.try_reserve(black_box(64))?;
        grant[0] = i as u8;
        grant.commit(black_box(64));
        sum = sum.wrapping_add(rx.try_recv()?[0].into());
    }
    Ok(sum)
}

fn batch(mut tx: Producer, mut rx: Consumer) -> Result<u32> {
    let (mut payload, mut sum) = ([0; 64], 0u32);
    for i in 0..FRAMES / BATCH {
        payload[0] = i as u8;
        let payloads = black_box([&payload[..]; BATCH as usize]);
        tx.try_send_batch(payloads)?;
        for frame in rx.try_recv_batch(BATCH as usize)?.iter() {
            sum = sum.wrapping_add(frame.payload[0].into());
        }
    }
    Ok(sum)
}

fn two_threads(mut tx: Producer, mut rx: Consumer) -> Result<u32> {
    let producing = std::thread::spawn(move || -> Result<()> {
        let mut payload = [0; 64];
        for i in 0..FRAMES {
            payload[0] = i as u8;
            tx.send(black_box(&payload[..]))?;
        }
        Ok(())
    });
    let mut sum = 0u32;
    for _ in 0..FRAMES {
        sum = sum.wrapping_add(rx.recv()?[0].into());
    }
    producing.join().expect("it ends")?;
    Ok(sum)
}

/// Prints what a frame costs the sender and the receiver, each alone.
fn bursts() -> Result<()> {
    let (mut tx, mut rx) = pair()?;
    let (mut payload, mut sum) = ([0; 64], 0u32);
    for lap in 0..2 {
        let (mut sending, mut receiving) = (0, 0);
        for _ in 0..FRAMES / BURST {
            let start = Instant::now();
            for i in 0..BURST {
                payload[0] = i as u8;
                tx.try_send(black_box(&payload[..]))?;
            }
            let sent = Instant::now();
            for _ in 0..BURST {
                sum = sum.wrapping_add(rx.try_recv()?[0].into());
            }
            sending += (sent - start).as_nanos();
            receiving += sent.elapsed().as_nanos();
        }
        if lap == 1 {
            println!("send {:.2}", sending as f64 / f64::from(FRAMES));
            println!("recv_next {:.2}", receiving as f64 / f64::from(FRAMES));
        }
    }
    black_box(sum);
    Ok(())
}

fn measure(names: &[&str], run: fn(Producer, Consumer) -> Result<u32>) -> Result<()> {
    let (tx, rx) = pair()?;
    run(tx, rx)?;
    let (tx, rx) = pair()?;
    let start = Instant::now();
    black_box(run(tx, rx)?);
    let each = start.elapsed().as_nanos() as f64 / f64::from(FRAMES);
    for name in names {
        println!("{name} {each:.2}");
    }
    Ok(())
}

fn main() -> Result<()> {
    bursts()?;
    measure(&["in_place", "in_place_next"], in_place)?;
    measure(&["copy"], copy)?;
    measure(&["reserve_commit"], reserve)?;
    measure(&["batches_of_16"], batch)?;
    measure(&["two_threads"], two_threads)
}
