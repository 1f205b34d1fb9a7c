//! A gigabyte through a broadcast ring: 64 MiB, unless `SLIPRING_TESTS=full`.

use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::thread::JoinHandle;

use crate::common::{Place, Process};

/// Bytes of a frame: its number, and noise.
const FRAME: usize = 4096;

/// The payload of frame `n`.
fn fill(frame: &mut [u8; FRAME], n: u64) {
    let mut state = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for (at, word) in frame.chunks_exact_mut(8).enumerate() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&if at == 0 { n } else { state }.to_le_bytes());
    }
}

/// FNV-1a, by words.
fn checksum(sum: u64, frame: &[u8; FRAME]) -> u64 {
    let words = frame.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    words.fold(sum, |sum, word| (sum ^ word).wrapping_mul(0x0100_0000_01B3))
}

/// What a receiver wrote.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    frames: u64,
    /// Frames that are missing before, between and behind those.
    missing: u64,
    checksum: u64,
}

/// Checks every byte of every frame as they come; `total` is the number of frames that are sent.
fn check(receiver: &mut Process, total: u64) -> JoinHandle<Seen> {
    let mut stdout = BufReader::with_capacity(1 << 20, receiver.child().stdout.take().unwrap());
    std::thread::spawn(move || {
        let (mut seen, mut next) = (Seen::default(), 0);
        let (mut frame, mut expected) = ([0; FRAME], [0; FRAME]);
        loop {
            match stdout.read_exact(&mut frame) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                read => read.unwrap(),
            }
            let n = u64::from_le_bytes(frame[..8].try_into().unwrap());
            assert!((next..total).contains(&n), "{n} comes after {next}");
            fill(&mut expected, n);
            assert!(frame == expected, "frame {n} is torn");
            seen.frames += 1;
            seen.missing += n - next;
            seen.checksum = checksum(seen.checksum, &frame);
            next = n + 1;
        }
        seen.missing += total - next;
        seen
    })
}

#[test]
fn reliable_receivers_get_all_and_the_gaps_of_a_lossy_one_add_up() {
    let is_full = std::env::var_os("SLIPRING_TESTS").is_some_and(|how| how == "full");
    let total = if is_full { 1u64 << 30 } else { 64 << 20 } / FRAME as u64;
    let place = Place::new();
    place.run("create ring:md?kind=broadcast&capacity=1MiB").succeeds();
    let mut receivers = ["ring:md", "ring:md", "ring:md?subscribe=lossy"]
        .map(|endpoint| place.start(&format!("recv {endpoint} --framing fixed:{FRAME}")));
    place.wait_for_living("md", 3);
    let seen = receivers.each_mut().map(|receiver| check(receiver, total));
    // It misses some frames for certain, and others as it comes.
    receivers[2].signal("STOP");
    let mut sender = place.start(&format!("send ring:md --framing fixed:{FRAME} --json"));
    let mut stdin = BufWriter::with_capacity(1 << 16, sender.child().stdin.take().unwrap());
    let feeder = std::thread::spawn(move || {
        let (mut frame, mut sum) = ([0; FRAME], 0);
        for n in 0..total {
            fill(&mut frame, n);
            sum = checksum(sum, &frame);
            stdin.write_all(&frame).unwrap();
        }
        stdin.flush().unwrap();
        sum
    });
    place.wait_for("stat md", |stat| stat["sent"].as_u64() >= Some(2000));
    receivers[2].signal("CONT");
    let sent = feeder.join().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&sender.finish().succeeds().stdout).unwrap();
    assert_eq!(told["frames"], total);
    let [one, two, lossy] = seen.map(|seen| seen.join().unwrap());
    let [run_one, run_two, run_lossy] = receivers.map(Process::finish);
    run_one.succeeds();
    run_two.succeeds();
    let all = Seen { frames: total, missing: 0, checksum: sent };
    assert_eq!((&one, &two), (&all, &all));
    // What it received and what it was told add up.
    let last = run_lossy.stderr.lines().last().unwrap_or_default();
    let words: Vec<_> = last.split(' ').collect();
    let missed: u64 = words.windows(2).find(|pair| pair[1] == "frames").expect(last)[0].parse().unwrap();
    assert!(missed > 0 && lossy.missing == missed, "{} are missing, {last}", lossy.missing);
    assert_eq!(lossy.frames + missed, total);
    run_lossy.fails(4, "missing");
    let stat = place.json("stat md");
    assert_eq!(
        [&stat["sent"], &stat["lost"], &stat["received"]],
        [total, missed, 2 * total + lossy.frames].map(serde_json::Value::from).each_ref()
    );
    println!(
        "{total} frames of {FRAME} bytes; checksum {sent:016x} at both reliable receivers; the lossy one received {} and missed {missed}",
        lossy.frames
    );
}
