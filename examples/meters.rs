//! A mixer's meters: an audio thread publishes the levels of its channels without ever waiting, and
//! a display shows the newest ones at its own pace.
//!
//! ```text
//! cargo run --release --example meters
//! ```
//!
//! One board of latest values has a cell per channel, and one for the transport's clock. The mixer
//! writes each cell after every block of samples: writing is wait-free, so a display that is slow,
//! stopped or dead costs it nothing. The display wakes up when something has changed, reads the
//! cells that did, and is told how many levels it skipped. The program starts itself as the
//! display; at the end both compare what was written with what was read or skipped.

use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use slipring::{Options, Ring, latest};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const CHANNELS: usize = 8;
/// The cell behind those of the channels.
const CLOCK: usize = CHANNELS;
/// 512 samples at 48 kHz.
const BLOCK: Duration = Duration::from_micros(10_667);
const BLOCKS: u64 = 100;
/// A display refreshes at some 20 Hz.
const FRAME: Duration = Duration::from_millis(50);

/// 16 bytes without padding, which the derives prove.
#[derive(FromBytes, IntoBytes, Immutable, Clone, Copy)]
#[repr(C)]
struct Level {
    block: u64,
    peak: f32,
    rms: f32,
}

fn options() -> Options {
    Options::latest(CHANNELS + 1, size_of::<Level>())
}

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(name) => display(&name),
        None => mixer(),
    }
}

fn mixer() -> Result<(), Box<dyn Error>> {
    let name = format!("meters-{}", std::process::id());
    let mut tx = latest::Writer::open(&name, &options())?;
    let mut display = Command::new(std::env::current_exe()?).arg(&name).spawn()?;
    tx.wait_for_peer(Duration::from_secs(10))?;
    let start = Instant::now();
    for block in 1..=BLOCKS {
        for channel in 0..CHANNELS {
            let peak = ((block + 7 * channel as u64) % 20) as f32 / 20.0;
            tx.write_value(channel, &Level { block, peak, rms: peak / 2.0 })?;
        }
        tx.write_value(CLOCK, &Level { block, peak: 0.0, rms: 0.0 })?;
        std::thread::sleep((BLOCK * block as u32).saturating_sub(start.elapsed()));
    }
    tx.close(); // the newest levels stay, and the display learns of the end
    let shown = display.wait()?.success();
    Ring::remove(&name, &options())?;
    if shown { Ok(()) } else { Err("the display failed".into()) }
}

fn display(name: &str) -> Result<(), Box<dyn Error>> {
    let mut rx = latest::Reader::open(name, &options())?;
    let (mut read, mut skipped, mut frames) = (0, 0, 0);
    let mut levels = [0.0; CHANNELS];
    let mut block = 0;
    // Sleeps until something has changed, and ends with the mixer.
    while let Ok(mut cell) = rx.changed() {
        loop {
            let reading = rx.try_read_value::<Level>(cell)?;
            read += 1;
            // The first value that a reader gets has none before it, as far as it knows.
            skipped += if block == 0 && read <= CHANNELS as u64 + 1 { reading.version - 1 } else { reading.skipped };
            match levels.get_mut(cell) {
                Some(level) => *level = reading.value.peak,
                None => block = reading.value.block,
            }
            match rx.try_changed() {
                Ok(next) => cell = next,
                Err(_) => break, // none, or the end, which the next call reports
            }
        }
        let bars: Vec<_> =
            levels.iter().map(|level| "▁▂▃▄▅▆▇█".chars().nth((level * 8.0) as usize).unwrap_or('█')).collect();
        frames += 1;
        if frames % 10 == 1 {
            println!("block {block:3}  {}", bars.iter().collect::<String>());
        }
        std::thread::sleep(FRAME);
    }
    let written = BLOCKS * (CHANNELS as u64 + 1);
    println!("{frames} frames: of {written} levels, {read} were shown and {skipped} skipped");
    if read + skipped == written {
        Ok(())
    } else {
        Err(format!("{} are unaccounted for", written - read - skipped).into())
    }
}
