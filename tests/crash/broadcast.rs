//! A broadcast ring under torture (`fan_out.rs`): publishers of every policy, reliable and lossy
//! subscribers, and the judge of their ledgers.
//!
//! A frame's number has its place among all frames that were ever published in the ring, which its
//! publisher knows from [`Publisher::published`]. So the numbers that a subscriber gets have no
//! holes; a lossy one is told exactly how large each hole is.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use slipring::broadcast::{LossySubscriber, Publisher, Received, SlowPolicy, Start, Subscriber};
use slipring::{Error, Options, Ring};

use super::fan_out::{Fan, Life, Story, Verdict};
use super::ledger::{Entry, What, number, number_of, payload};
use super::participant::{BATCH, MOMENT, ROOM, attach};

pub const FAN: Fan = Fan { name: "broadcast", options, send, receive, judge };

/// So small that the publisher is often blocked, and wraps often.
fn options(dir: &Path) -> Options {
    Options::broadcast(4096).participants(20).directory(dir)
}

const BLOCK: u64 = 0;
const FAIL: u64 = 1;
const EVICT: u64 = 2;

fn send(life: &mut Life) {
    let mut tx = attach(|| Publisher::open("ring", &life.options));
    let policy = life.dice.next(3);
    life.note(What::Attached, tx.published(), policy);
    tx.set_policy(match policy {
        BLOCK => SlowPolicy::Block,
        FAIL => SlowPolicy::Fail,
        _ => SlowPolicy::Evict { after: Duration::from_micros(life.dice.next(5000)) },
    });
    life.perhaps_die(20);
    loop {
        let count = if life.dice.next(3) == 0 { 1 + life.dice.next(BATCH) } else { 1 };
        let first = tx.published() as u32;
        let numbers: Vec<u64> = (0..count as u32).map(|i| number(life.me, first + i)).collect();
        let frames: Vec<_> = numbers.iter().map(|n| payload(*n, ROOM)).collect();
        numbers.iter().for_each(|n| life.note(What::About, *n, 0));
        let outcome = match (count, life.dice.next(8)) {
            (_, 0) => {
                let mut batch = tx.batch();
                let _ = (batch.push(b"aborted"), batch.push(&[0xEE; ROOM]));
                life.perhaps_die(400);
                Ok(0)
            }
            (1, 1..=2) => tx.try_send(&frames[0]).map(|()| 1),
            (1, _) => tx.send_deadline(&frames[0], MOMENT).map(|()| 1),
            _ => {
                let mut batch = tx.batch();
                let pushed = frames.iter().take_while(|bytes| batch.push(bytes).is_ok()).count();
                life.perhaps_die(400);
                batch.commit();
                life.perhaps_die(400);
                Ok(pushed)
            }
        };
        match outcome {
            Ok(sent) => numbers[..sent].iter().for_each(|n| life.note(What::Sent, *n, 0)),
            Err(Error::Full | Error::Timeout | Error::PeerDead | Error::Closed) => std::thread::yield_now(),
            Err(e) => panic!("publish: {e}"),
        }
    }
}

fn receive(life: &mut Life) {
    let is_lossy = life.dice.next(3) == 0;
    loop {
        let start = if life.dice.next(2) == 0 { Start::Latest } else { Start::Oldest };
        life.note(What::Joining, u64::from(is_lossy), u64::from(start == Start::Latest));
        if is_lossy {
            let rx = attach(|| LossySubscriber::open("ring", &life.options, start));
            watch(rx, life);
        } else {
            let rx = attach(|| Subscriber::open("ring", &life.options, start));
            follow(rx, life);
        }
    }
}

fn got(bytes: &[u8], life: &mut Life) {
    let claimed = bytes.get(..8).map_or(0, |b| u64::from_le_bytes(b.try_into().unwrap()));
    life.note(number_of(bytes, ROOM).map_or(What::Torn, |_| What::Got), claimed, 0);
}

/// A reliable subscriber, until it is evicted or leaves.
fn follow(mut rx: Subscriber, life: &mut Life) {
    life.note(What::Attached, 0, 0);
    life.perhaps_die(20);
    let mut buffer = [0; ROOM];
    loop {
        let outcome = match life.dice.next(4) {
            0 => rx.recv_batch_deadline(1 + life.dice.next(6) as usize, MOMENT).map(|mut batch| {
                batch.iter().for_each(|frame| got(frame.payload, life));
                life.perhaps_die(1000);
            }),
            1 => rx.recv_into_deadline(&mut buffer, MOMENT).map(|header| got(&buffer[..header.len as usize], life)),
            2 if life.dice.next(20) == 0 => rx.recv_deadline(MOMENT).map(|view| view.keep()),
            _ => rx.recv_deadline(MOMENT).map(|view| {
                got(&view, life);
                life.perhaps_die(2000);
            }),
        };
        match outcome {
            Ok(()) | Err(Error::Timeout) => {}
            Err(Error::PeerDead | Error::Closed) => {
                life.note(What::Ended, 0, 0);
                let _ = rx.wait_for_peer(MOMENT);
            }
            Err(Error::Evicted) => return life.note(What::Evicted, 0, 0),
            Err(e) => panic!("receive: {e}"),
        }
        // Slow for a while, so that publishers are blocked, and evict.
        if life.dice.next(300) == 0 {
            std::thread::sleep(Duration::from_millis(life.dice.next(10)));
        }
        if life.dice.next(2000) == 0 {
            return life.note(What::Left, 0, 0);
        }
    }
}

fn watch(mut rx: LossySubscriber, life: &mut Life) {
    life.note(What::Attached, 0, 0);
    life.perhaps_die(20);
    let mut buffer = [0; ROOM];
    loop {
        let outcome = match life.dice.next(2) {
            0 => rx.try_recv_into(&mut buffer),
            _ => rx.recv_into_deadline(&mut buffer, MOMENT),
        };
        match outcome {
            Ok(Received::Frame(header)) => got(&buffer[..header.len as usize], life),
            Ok(Received::Gap { missed }) => life.note(What::Gap, 0, missed),
            Err(Error::Empty | Error::Timeout) => {}
            Err(Error::PeerDead | Error::Closed) => {
                life.note(What::Ended, 0, 0);
                let _ = rx.wait_for_peer(MOMENT);
            }
            Err(e) => panic!("receive: {e}"),
        }
        life.perhaps_die(2000);
        if life.dice.next(2000) == 0 {
            return life.note(What::Left, 0, 0);
        }
    }
}

/// The frames of a round.
#[derive(Default)]
struct Frames {
    /// The place of the first one.
    base: u32,
    /// When each number was about to be sent, and when any of its place was.
    about: HashMap<u64, u64>,
    about_place: HashMap<u32, u64>,
    /// The number at each place of which a sender noted that it sent it, and when.
    sent: HashMap<u32, (u64, u64)>,
    /// The number at each place that receivers got.
    got: HashMap<u32, u64>,
    evicts: bool,
}

fn judge(ring: &Ring, senders: &[Story], receivers: &[Story]) -> Verdict {
    // Reaps the last one, and counts once more.
    let end = attach(|| Publisher::attach(ring)).published() as u32;
    let mut frames = Frames { base: u32::MAX, ..Frames::default() };
    let mut reigns = Vec::new();
    for entries in senders.iter().map(|story| &story.entries) {
        frames.add_sender(entries)?;
        reigns.extend(reign(entries));
    }
    reigns.sort_unstable_by_key(|reign| reign.attached);
    frames.base = reigns.first().map_or(end, |reign| reign.first);
    let firsts = reigns.iter().skip(1).map(|reign| reign.first).chain([end]);
    for (reign, first) in reigns.iter().zip(firsts) {
        if !(reign.sent..=reign.about).contains(&first) {
            return Err(format!("{first} frames were counted behind a publisher that sent {reign:?}"));
        }
    }
    let mut received = 0;
    for story in receivers {
        received += frames.follow(story, end)?;
    }
    let differs = frames.got.iter().find(|(place, n)| frames.sent.get(place).is_some_and(|(sent, _)| sent != *n));
    if let Some((place, n)) = differs {
        return Err(format!("{n:#x} was received at place {place}, where another one was sent"));
    }
    Ok((u64::from(end - frames.base), received))
}

/// What a publisher counted: frames when it attached, up to the last one that it has noted as sent,
/// and up to the last one that it was about to send.
#[derive(Debug)]
struct Reign {
    attached: u64,
    first: u32,
    sent: u32,
    about: u32,
}

fn reign(entries: &[Entry]) -> Option<Reign> {
    let attached = entries.iter().find(|entry| entry.what == What::Attached)?;
    let first = attached.frame as u32;
    let after = |what| {
        let last = entries.iter().filter(|entry| entry.what == what).map(|entry| entry.frame as u32 + 1).max();
        last.unwrap_or(first)
    };
    Some(Reign { attached: attached.time, first, sent: after(What::Sent), about: after(What::About) })
}

impl Frames {
    fn add_sender(&mut self, entries: &[Entry]) -> Result<(), String> {
        for entry in entries {
            let place = entry.frame as u32;
            match entry.what {
                What::Attached => self.evicts |= entry.extra == EVICT,
                What::About => {
                    self.about.entry(entry.frame).or_insert(entry.time);
                    let first = self.about_place.entry(place).or_insert(entry.time);
                    *first = entry.time.min(*first);
                }
                What::Sent => {
                    if let Some((other, _)) = self.sent.insert(place, (entry.frame, entry.time)) {
                        return Err(format!("{:#x} was sent at the place of {other:#x}", entry.frame));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Follows a receiver, for which `end` frames were published. Returns how many it got.
    fn follow(&mut self, story: &Story, end: u32) -> Result<u64, String> {
        let (mut next, mut count) = (None::<u32>, 0);
        let (mut joining, mut is_lossy, mut is_latest, mut attached) = (0, false, false, None);
        for Entry { what, frame, time, extra } in story.entries.iter().copied() {
            match what {
                What::Joining => {
                    (joining, is_lossy, is_latest) = (time, frame == 1, extra == 1);
                    (next, attached) = (None, None);
                }
                What::Attached => attached = Some(time),
                What::Torn => return Err(format!("torn: {frame:#x}")),
                What::Got => {
                    count += 1;
                    let place = frame as u32;
                    match next {
                        Some(next) if next != place => {
                            return Err(format!("frame {frame:#x} came where {next} was expected (lossy: {is_lossy})"));
                        }
                        Some(_) => {}
                        None => self.check_start(place, joining, is_latest, attached, is_lossy)?,
                    }
                    if place >= self.base && !self.about.contains_key(&frame) {
                        return Err(format!("{frame:#x} was received and not sent"));
                    }
                    let known = *self.got.entry(place).or_insert(frame);
                    if known != frame {
                        return Err(format!("{frame:#x} and {known:#x} came at one place"));
                    }
                    next = Some(place + 1);
                }
                What::Gap if !is_lossy || extra == 0 => return Err(format!("a gap of {extra}, lossy: {is_lossy}")),
                What::Gap => next = next.map(|next| next + extra as u32),
                What::Evicted if is_lossy || !self.evicts => return Err("evicted without such a policy".into()),
                _ => {}
            }
        }
        let ended = story.entries.last().is_some_and(|entry| entry.what == What::Ended);
        if story.survived && ended {
            match next {
                Some(next) if next != end => return Err(format!("it got frames up to {next} of {end}")),
                // It joined behind the last one.
                None if end > self.base => self.check_start(end, joining, false, attached, is_lossy)?,
                _ => {}
            }
        } else if story.survived {
            return Err("it did not learn of the end".into());
        }
        Ok(count)
    }

    /// Whether a subscriber may begin at `place`: nothing before it was sent after it had attached,
    /// and if it wanted the latest, nothing from there on was sent before it began to.
    fn check_start(
        &self,
        place: u32,
        joining: u64,
        is_latest: bool,
        attached: Option<u64>,
        is_lossy: bool,
    ) -> Result<(), String> {
        let attached = attached.ok_or("it received before it attached")?;
        let before = place.checked_sub(1).and_then(|before| self.about_place.get(&before));
        // A lossy one may have missed frames before its first: it is told of those, too.
        if !is_lossy && before.is_some_and(|about| *about > attached) {
            return Err(format!("frame {place} came first, and the one before was sent after it had attached"));
        }
        if is_latest && self.sent.get(&place).is_some_and(|(_, sent)| *sent < joining) {
            return Err(format!("frame {place} came first, and was sent before it wanted the latest"));
        }
        Ok(())
    }
}
