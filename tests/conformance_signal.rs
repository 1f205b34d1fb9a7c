//! The suite of `conformance/` over signals. It has no test harness, because the harness's threads
//! would have to block the signals before any code of this program runs. So `main` blocks them
//! first, and runs the cases one after the other.

#[path = "common/again.rs"]
mod again;
#[path = "conformance/cases.rs"]
mod cases;
#[path = "conformance/edges.rs"]
mod edges;
#[path = "conformance/processes.rs"]
mod processes;
#[path = "conformance/script.rs"]
mod script;
#[path = "conformance/storm.rs"]
mod storm;
#[path = "conformance/subject.rs"]
#[allow(dead_code, reason = "paths and descriptors, which signals have none of")]
mod subject;

use std::sync::atomic::{AtomicU32, Ordering};

use slipring::Error;
use slipring::transport::FrameReceiver;
use slipring::transport::signal::{CAPABILITIES, Options, Receiver, Signo, block};
use subject::{Keeps, Meeting, Subject};

/// Each meeting has a number of its own, so that no receiver gets frames left over from another
/// meeting.
const NUMBERS: std::ops::Range<u32> = 1..29;

/// Pending signals count against the user's limit as long as the process lives: dropping this
/// consumes them.
struct Left(u32);

impl Drop for Left {
    fn drop(&mut self) {
        let mut rx = Receiver::open(&Options::default().signo(Signo::realtime(self.0).unwrap())).unwrap();
        while !matches!(rx.try_recv(), Err(Error::Empty | Error::Closed | Error::PeerDead)) {}
    }
}

fn signal() -> Subject {
    let meet = || {
        static NEXT: AtomicU32 = AtomicU32::new(NUMBERS.start);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(NUMBERS.contains(&number));
        Meeting::new(format!("signal:?signo=RTMIN+{number}"), format!("signal:PID?signo=RTMIN+{number}"), Left(number))
    };
    // A sender sees that its receiver's process ended, which transport_signal.rs checks, but not
    // that a receiver was closed.
    Subject {
        capabilities: &CAPABILITIES,
        meet,
        longest: 4096,
        edges: &[60],
        keeps: Keeps::Everything,
        sees_receiver_go: false,
        wire: None,
    }
}

macro_rules! run {
    ($($module:ident: $($case:ident),*;)*) => {$($(
        $module::$case(&signal());
        println!("test signal::{} ... ok", stringify!($case));
    )*)*};
}

fn main() {
    let all: Vec<_> = NUMBERS.map(|number| Signo::realtime(number).unwrap()).collect();
    block(&all).unwrap();
    if processes::is_a_child() {
        return processes::live();
    }
    run! {
        cases: boundaries_and_order, empty_one_byte_maximal_and_too_large, around_the_message_size, empty_full_and_empty_again, room_is_polled,
            deadlines, streams_kinds_and_control, ten_thousand_random_frames, an_orderly_end, a_receiver_that_leaves,
            signals_at_a_thousand_hertz;
        edges: edges;
        processes: a_child_sends, a_child_receives, a_sender_killed_in_mid_frame, a_receiver_killed;
    }
}
