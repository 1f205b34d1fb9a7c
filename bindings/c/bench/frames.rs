//! What a frame of 64 bytes costs from Rust: the same as `frames.c`, which `make bench` compares. As
//! there, the library does not know the length when it is compiled.

use std::hint::black_box;
use std::os::fd::AsFd;
use std::time::Instant;

use slipring::{Error, Options, Ring, spsc};

const FRAMES: u32 = 2_000_000;

fn pair() -> slipring::Result<(spsc::Producer, spsc::Consumer)> {
    let ring = Ring::create_anonymous(&Options::spsc(1 << 16))?;
    let fd = ring.as_fd().try_clone_to_owned().map_err(|_| Error::NotFound)?;
    Ok((spsc::Producer::attach(&ring)?, spsc::Consumer::attach(&Ring::from_fd(fd, &Options::any())?)?))
}

fn each(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64 / f64::from(FRAMES)
}

fn main() -> slipring::Result<()> {
    let (mut tx, mut rx) = pair()?;
    let (mut payload, mut copy) = ([0; 64], [0; 64]);
    let mut sum = 0u32;
    let mut start = Instant::now();
    for _lap in 0..2 {
        start = Instant::now();
        for i in 0..FRAMES {
            payload[0] = i as u8;
            tx.try_send(black_box(&payload[..]))?;
            sum = sum.wrapping_add(rx.try_recv()?[0].into());
        }
    }
    print!("{:.2} ", each(start));
    for _lap in 0..2 {
        start = Instant::now();
        for i in 0..FRAMES {
            payload[0] = i as u8;
            tx.try_send(black_box(&payload[..]))?;
            rx.try_recv_into(black_box(&mut copy[..]))?;
            sum = sum.wrapping_add(copy[0].into());
        }
    }
    print!("{:.2} ", each(start));

    let (mut tx, mut rx) = pair()?;
    start = Instant::now();
    let producing = std::thread::spawn(move || -> slipring::Result<()> {
        for i in 0..FRAMES {
            payload[0] = i as u8;
            tx.send(black_box(&payload[..]))?;
        }
        Ok(())
    });
    for _ in 0..FRAMES {
        sum = sum.wrapping_add(rx.recv()?[0].into());
    }
    println!("{:.2}", each(start));
    producing.join().expect("it ends")?;
    std::process::exit(i32::from(sum == 1));
}
