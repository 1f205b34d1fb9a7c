//! The Rust side of `gigabyte.py` and `compare.py`: sends or receives frames of one size.
//!
//! It touches the data as the Python sides do: the sender copies a block into the ring for each frame;
//! the receiver adds the words of each frame up where it lies.
//!
//! ```text
//! cargo run --release --example peer -- send NAME FRAME-BYTES FRAMES
//! cargo run --release --example peer -- recv NAME
//! ```

use std::time::Instant;

use slipring::{Error, Options, spsc};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let options = Options::spsc(1 << 20);
    match args[..] {
        ["send", name, size, frames] => {
            let block: Vec<u8> = (0..size.parse()?).map(|i: usize| i as u8).collect();
            let mut tx = spsc::Producer::open(name, &options)?;
            tx.wait_for_peer(slipring::Deadline::never())?;
            for _ in 0..frames.parse::<u64>()? {
                tx.send(&block)?;
            }
        }
        ["recv", name] => {
            let mut rx = spsc::Consumer::open(name, &options)?;
            let (mut frames, mut bytes, mut sum, mut began) = (0_u64, 0_u64, 0_u64, Instant::now());
            loop {
                match rx.recv() {
                    Ok(frame) => {
                        if frames == 0 {
                            began = Instant::now();
                        }
                        let words = frame.chunks_exact(8);
                        sum =
                            words.fold(sum, |sum, word| sum.wrapping_add(u64::from_le_bytes(word.try_into().unwrap())));
                        frames += 1;
                        bytes += frame.len() as u64;
                    }
                    Err(Error::Closed) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            println!("{frames} {bytes} {} {sum}", began.elapsed().as_secs_f64());
        }
        _ => return Err("send NAME FRAME-BYTES FRAMES, or recv NAME".into()),
    }
    Ok(())
}
