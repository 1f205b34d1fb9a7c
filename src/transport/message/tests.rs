//! The inbox and outbox over a queue in memory, which a test can make full, closed or broken.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Inbox, Inlet, Outbox, Outlet, Pulled, Wire};
use crate::error::{Error, Result};
use crate::frame::{Event, Flags, Form, Frame, Header, Hello, control, sender_of};
use crate::wait::deadline::Deadline;

#[derive(Default)]
struct State {
    messages: VecDeque<Vec<u8>>,
    capacity: usize,
    dead: HashSet<u64>,
    /// Arrives while a receiver waits, and the receiver does not see it.
    late: Option<Vec<u8>>,
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<State>>);

impl Memory {
    fn new(capacity: usize) -> Self {
        Memory(Arc::new(Mutex::new(State { capacity, ..State::default() })))
    }

    fn sender(&self) -> (Outbox<Memory>, u64) {
        let wire = Wire { form: Form::Short, identified: true, message: Wire::MIN_MESSAGE };
        let mut mine = 0;
        let outbox = Outbox::open(wire, 1000, |epoch| {
            mine = epoch;
            Ok(self.clone())
        });
        (outbox.unwrap(), mine)
    }

    fn receiver(&self) -> Inbox<Memory> {
        Inbox::new(self.clone(), 256, 1000)
    }

    fn push_raw(&self, message: &[u8]) {
        self.0.lock().unwrap().messages.push_back(message.to_vec());
    }

    fn raise_capacity(&self, capacity: usize) {
        self.0.lock().unwrap().capacity = capacity;
    }

    fn kill(&self, outbox: Outbox<Memory>, epoch: u64) {
        self.0.lock().unwrap().dead.insert(epoch);
        std::mem::forget(outbox);
    }
}

impl Outlet for Memory {
    fn push(&mut self, _: Header, head: &[u8], payload: &[u8]) -> Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.messages.len() == state.capacity {
            return Err(Error::Full);
        }
        state.messages.push_back([head, payload].concat());
        Ok(())
    }

    fn wait(&mut self, _: Deadline) -> Result<()> {
        std::thread::yield_now();
        Ok(())
    }
}

impl Inlet for Memory {
    type Source = u64;
    const TRACKED: bool = false;
    const LOOK: Duration = Duration::ZERO;

    fn pull(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Pulled<u64>> {
        let mut state = self.0.lock().unwrap();
        if !patience.is_zero() {
            if let Some(late) = state.late.take() {
                std::thread::sleep(patience); // as if stopped: it continues after its deadline
                state.messages.push_back(late);
                return Err(Error::Empty);
            }
        }
        let message = state.messages.pop_front().ok_or(Error::Empty)?;
        drop(state);
        if let Some(room) = buffer.get_mut(..message.len()) {
            room.copy_from_slice(&message);
        }
        Ok(Pulled::new(message.len(), sender_of(&message)))
    }

    fn is_gone(&mut self, epoch: &u64) -> Result<bool> {
        Ok(self.0.lock().unwrap().dead.contains(epoch))
    }
}

/// The result of `receive` as text, which is short to compare.
fn next(inbox: &mut Inbox<Memory>) -> String {
    match inbox.receive(None) {
        Ok(Event::Frame(frame)) => format!("{}:{}", frame.header.stream, String::from_utf8_lossy(frame.payload)),
        Ok(other) => format!("{other:?}"),
        Err(error) => format!("{error:?}"),
    }
}

fn large(letter: char) -> String {
    letter.to_string().repeat(300)
}

#[test]
fn an_abandoned_sender_sends_only_hello() {
    let memory = Memory::new(10);
    memory.sender().0.abandon();
    assert_eq!(memory.0.lock().unwrap().messages.len(), 1);
}

#[test]
fn fragments_of_two_senders_do_not_mix() {
    let memory = Memory::new(100);
    let ((mut one, _), (mut two, _)) = (memory.sender(), memory.sender());
    let mut inbox = memory.receiver();
    // Both are full after their first fragment, and continue alternately.
    memory.raise_capacity(3);
    one.send(Header::PLAIN, large('a').as_bytes(), None).unwrap();
    memory.raise_capacity(4);
    two.send(Header::PLAIN, large('b').as_bytes(), None).unwrap();
    for capacity in 5.. {
        memory.raise_capacity(capacity);
        let sender = if capacity % 2 == 0 { &mut one } else { &mut two };
        if sender.send(Header::PLAIN, b"small", None).is_ok() && capacity > 20 {
            break;
        }
    }
    memory.raise_capacity(100);
    one.flush(Deadline::never()).unwrap();
    two.flush(Deadline::never()).unwrap();
    let mut received: Vec<_> = std::iter::repeat_with(|| next(&mut inbox)).take_while(|it| it != "Empty").collect();
    received.retain(|it| it != "0:small");
    received.sort();
    assert_eq!(received, [format!("0:{}", large('a')), format!("0:{}", large('b'))]);
}

#[test]
fn a_frame_is_accepted_whole_or_not_at_all() {
    let memory = Memory::new(2);
    let (mut tx, _) = memory.sender(); // HELLO takes one place
    tx.send(Header::PLAIN, large('a').as_bytes(), None).unwrap(); // its first fragment takes the other
    assert!(matches!(tx.send(Header::PLAIN, b"next", None), Err(Error::Full)));
    assert!(matches!(tx.flush(Duration::ZERO.into()), Err(Error::Timeout)));
    assert!(matches!(tx.send(Header::PLAIN, b"next", Some(Duration::ZERO.into())), Err(Error::Timeout)));
    let mut inbox = memory.receiver();
    assert_eq!(next(&mut inbox), "Empty");
    memory.raise_capacity(100);
    tx.send(Header { stream: 7, ..Header::PLAIN }, b"next", None).unwrap();
    assert_eq!(next(&mut inbox), format!("0:{}", large('a')));
    assert_eq!(next(&mut inbox), "7:next");
    assert!(matches!(tx.send(Header::PLAIN, &[0; 1001], None), Err(Error::TooLarge { max: 1000 })));
}

#[test]
fn the_last_sender_to_leave_is_the_end_and_the_next_begins_anew() {
    let memory = Memory::new(100);
    let mut inbox = memory.receiver();
    let ((mut one, _), (two, _)) = (memory.sender(), memory.sender());
    assert_eq!(next(&mut inbox), "Empty");
    drop(two);
    one.send(Header::PLAIN, b"still here", None).unwrap();
    assert_eq!(next(&mut inbox), "0:still here");
    assert_eq!(next(&mut inbox), "Empty");
    one.close(Deadline::never()).unwrap();
    assert!(matches!(one.send(Header::PLAIN, b"", None), Err(Error::Closed)));
    assert_eq!([next(&mut inbox), next(&mut inbox)], ["Closed", "Closed"]);
    let (_three, _) = memory.sender();
    assert_eq!(next(&mut inbox), "Empty");
}

#[test]
fn a_death_in_mid_frame_is_reported_after_the_whole_frames() {
    let memory = Memory::new(100);
    let mut inbox = memory.receiver();
    let (mut one, epoch) = memory.sender();
    let (two, _) = memory.sender();
    one.send(Header::PLAIN, b"whole", None).unwrap();
    memory.raise_capacity(4);
    one.send(Header::PLAIN, large('x').as_bytes(), None).unwrap(); // its first fragment only
    memory.kill(one, epoch);
    memory.raise_capacity(100);
    assert_eq!(next(&mut inbox), "0:whole");
    assert!(next(&mut inbox).starts_with("Skipped { bytes: 80"));
    assert_eq!(next(&mut inbox), "Empty");
    drop(two);
    assert_eq!([next(&mut inbox), next(&mut inbox)], ["PeerDead", "PeerDead"]);
    let (three, _) = memory.sender();
    drop(three);
    assert_eq!(next(&mut inbox), "Closed", "a new conversation, in which no sender died");
}

#[test]
fn a_foreign_sender_without_hello_has_no_end() {
    let memory = Memory::new(100);
    let mut inbox = memory.receiver();
    let frame = Frame::new(Header::PLAIN, b"foreign").unwrap();
    let message = [&frame.head(Form::Short).unwrap(), frame.payload].concat();
    memory.push_raw(&message);
    memory.push_raw(&message);
    assert_eq!([next(&mut inbox), next(&mut inbox), next(&mut inbox)], ["0:foreign", "0:foreign", "Empty"]);

    // With HELLO and BYE, and without a name: it ends, and its process is not watched.
    let say = |kind, payload: &[u8]| {
        let frame = Frame::new(Header::control(kind, payload.len()).unwrap(), payload).unwrap();
        memory.push_raw(&[&frame.head(Form::Short).unwrap(), payload].concat());
    };
    say(control::HELLO, &Hello { epoch: 1, ..Hello::new(64) }.encode());
    assert_eq!(next(&mut inbox), "Empty");
    say(control::PING, b"?");
    assert_eq!(next(&mut inbox), "0:?");
    say(0x00EE, b"unknown, skipped");
    say(control::BYE, b"");
    assert_eq!(next(&mut inbox), "Closed");
}

#[test]
fn garbage_is_skipped_and_reported() {
    let memory = Memory::new(100);
    let (mut tx, _) = memory.sender();
    let mut inbox = memory.receiver();
    let frame =
        Frame { header: Header { flags: Flags::BEGIN, ..Header::PLAIN }, ..Frame::new(Header::PLAIN, b"").unwrap() };
    let head = frame.head(Form::Short).unwrap();
    let mut claims = head.to_vec();
    claims[4..8].copy_from_slice(&(1u32 << 30).to_le_bytes());
    for message in [&b""[..], b"garbage", &[0; 40], &head[..15], &[&head[..], b"longer"].concat(), &claims, &[7; 300]] {
        memory.push_raw(message);
        let report = next(&mut inbox);
        assert!(report.starts_with(&format!("Skipped {{ bytes: {},", message.len())), "{report}");
    }
    let mut other_version = head.to_vec();
    other_version[2] = 0x22;
    memory.push_raw(&other_version);
    assert!(next(&mut inbox).starts_with("Skipped { bytes: 16, what: \"frame version"));
    let mut reserved_flag = head.to_vec();
    reserved_flag[3] |= 0x10;
    memory.push_raw(&reserved_flag);
    assert!(next(&mut inbox).starts_with("Skipped { bytes: 16,"));
    for (at, byte) in [(0, 2), (8, 1)] {
        let mut hello = Hello::new(64).encode(); // of another version, and with a feature that must be understood
        hello[at] = byte;
        memory.push_raw(&control_message(control::HELLO, &hello, None));
        assert!(next(&mut inbox).starts_with("Skipped { bytes: 48, what: \"HELLO"));
    }
    tx.send(Header::PLAIN, b"good", None).unwrap();
    assert_eq!(next(&mut inbox), "0:good");
}

#[test]
fn messages_without_frames_extend_no_deadline() {
    let memory = Memory::new(5000);
    let unknown = Frame::new(Header::control(0x00EE, 0).unwrap(), b"").unwrap().head(Form::Short).unwrap();
    (0..5000).for_each(|_| memory.push_raw(&unknown));
    let mut inbox = memory.receiver();
    assert!(matches!(inbox.receive(Some(Duration::ZERO.into())), Err(Error::Timeout)));
    assert!(memory.0.lock().unwrap().messages.len() > 2000);
    assert!(matches!(inbox.receive(None), Err(Error::Empty)));
    assert_eq!(memory.0.lock().unwrap().messages.len(), 0);
}

/// A control frame, of a sender with a name or without.
fn control_message(kind: u16, payload: &[u8], sender: Option<u64>) -> Vec<u8> {
    let frame = Frame::new(Header::control(kind, payload.len()).unwrap(), payload).unwrap();
    let head = match sender {
        Some(epoch) => frame.head_from(epoch).unwrap(),
        None => frame.head(Form::Short).unwrap(),
    };
    [&head, payload].concat()
}

fn hello_of(epoch: u64) -> Vec<u8> {
    control_message(control::HELLO, &Hello { epoch, ..Hello::new(1000) }.encode(), Some(epoch))
}

#[test]
fn a_bye_alone_ends_nothing() {
    let memory = Memory::new(100);
    let mut inbox = memory.receiver();
    let bye = |sender| memory.push_raw(&control_message(control::BYE, b"", sender));
    bye(Some(7));
    bye(None);
    assert_eq!(next(&mut inbox), "Empty");
    let (mut tx, _) = memory.sender();
    bye(Some(7));
    tx.send(Header::PLAIN, b"still here", None).unwrap();
    assert_eq!([next(&mut inbox), next(&mut inbox)], ["0:still here", "Empty"]);
    tx.close(Deadline::never()).unwrap();
    assert_eq!(next(&mut inbox), "Closed");
    // But the BYE of a sender whose HELLO an earlier receiver has taken does, after its frames.
    let frame = Frame::new(Header::PLAIN, b"the rest").unwrap();
    memory.push_raw(&[&frame.head(Form::Short).unwrap(), frame.payload].concat());
    assert_eq!([next(&mut inbox), next(&mut inbox)], ["0:the rest", "Empty"]);
    bye(Some(7));
    assert_eq!(next(&mut inbox), "Closed");
}

#[test]
fn strangers_cannot_fill_the_list_of_talkers() {
    let memory = Memory::new(100);
    let (mut tx, _) = memory.sender();
    let mut inbox = memory.receiver();
    assert_eq!(next(&mut inbox), "Empty");
    let header = Header { flags: Flags::BEGIN, ..Header::PLAIN };
    let mut told = 0;
    for stranger in 0..10_000u64 {
        let frame = Frame { header, ..Frame::new(header, b"begun").unwrap() };
        memory.push_raw(&[&frame.head_from(stranger).unwrap(), frame.payload].concat());
        match inbox.receive(None) {
            Err(Error::Empty) => {}
            Ok(Event::Skipped { bytes, .. }) => told += bytes / 5,
            other => panic!("{other:?}"),
        }
    }
    assert!((5_000..10_000).contains(&told), "what is given up is told: {told}");
    tx.close(Deadline::never()).unwrap();
    assert_eq!(next(&mut inbox), "Closed", "the open talker was not the one to go");
}

#[test]
fn a_thousand_senders_in_mid_frame_lose_nothing_and_all_are_waited_for() {
    let memory = Memory::new(usize::MAX);
    let mut inbox = memory.receiver();
    let mut senders: Vec<_> = (0..1000).map(|_| memory.sender().0).collect();
    for capacity in 1001..=2000 {
        memory.raise_capacity(capacity); // each is full after its first fragment
        senders[capacity - 1001].send(Header::PLAIN, large('a').as_bytes(), None).unwrap();
    }
    memory.raise_capacity(usize::MAX);
    assert_eq!(next(&mut inbox), "Empty");
    for tx in &mut senders {
        tx.flush(Deadline::never()).unwrap();
        assert_eq!(next(&mut inbox), format!("0:{}", large('a')));
    }
    let last = senders.pop();
    drop(senders);
    assert_eq!(next(&mut inbox), "Empty", "one is still there");
    drop(last);
    assert_eq!(next(&mut inbox), "Closed");
}

#[test]
fn senders_beyond_the_bound_are_reported() {
    let memory = Memory::new(usize::MAX);
    let mut inbox = memory.receiver();
    for epoch in 0..65_536 {
        memory.push_raw(&hello_of(epoch));
    }
    assert_eq!(next(&mut inbox), "Empty");
    memory.push_raw(&hello_of(65_536));
    assert!(next(&mut inbox).contains("its end cannot be noticed"));
    for epoch in 0..65_536 {
        memory.push_raw(&control_message(control::BYE, b"", Some(epoch)));
    }
    let ends = [next(&mut inbox), next(&mut inbox)];
    assert_eq!(ends[1], "PeerDead", "no orderly end is claimed");
}

#[test]
fn the_last_attempt_is_after_the_deadline() {
    let memory = Memory::new(100);
    let mut inbox = memory.receiver();
    let frame = Frame::new(Header::PLAIN, b"it was there in time").unwrap();
    memory.0.lock().unwrap().late = Some([&frame.head(Form::Short).unwrap(), frame.payload].concat());
    let received = inbox.receive(Some(Duration::from_millis(20).into()));
    assert!(matches!(received, Ok(Event::Frame(frame)) if frame.payload == b"it was there in time"));
}

/// An edge-triggered poll would not announce the messages that are left.
#[test]
fn nothing_is_left_when_a_call_says_empty() {
    let memory = Memory::new(usize::MAX);
    let mut inbox = memory.receiver();
    let (mut tx, _) = memory.sender();
    let unknown = control_message(0x00EE, b"", None);
    let mut received = |messages| {
        (0..messages).for_each(|_| memory.push_raw(&unknown));
        tx.send(Header::PLAIN, b"behind", None).unwrap();
        std::iter::repeat_with(|| next(&mut inbox)).take_while(|it| it != "Empty").collect::<Vec<_>>()
    };
    assert_eq!(received(3000), ["0:behind"]);
    let received = received(300_000);
    assert!(received[0].starts_with(&format!("Skipped {{ bytes: {},", 262_144 * unknown.len())), "{received:?}");
    assert_eq!(received[1..], ["0:behind"]);
    assert!(memory.0.lock().unwrap().messages.is_empty());
}

#[test]
fn a_frame_of_many_fragments_is_one_event() {
    const LEN: usize = 200_000;
    let memory = Memory::new(10_000);
    let mut inbox = Inbox::new(memory.clone(), 256, LEN);
    let wire = Wire { form: Form::Short, identified: true, message: Wire::MIN_MESSAGE };
    let mut tx = Outbox::open(wire, LEN, |_| Ok(memory.clone())).unwrap();
    tx.send(Header::PLAIN, &vec![7; LEN], None).unwrap();
    assert!(memory.0.lock().unwrap().messages.len() > 2000);
    assert!(matches!(inbox.receive(None), Ok(Event::Frame(frame)) if frame.payload == vec![7; LEN]));
}
