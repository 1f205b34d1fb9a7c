//! One suite for all transports: it tests what a transport promises in its `Capabilities`.
//!
//! The cases of `cases.rs` are written once, for any connected pair of ends (`subject.rs`), and run
//! for every transport: between threads, and between processes (`processes.rs`: this test program
//! again, with a role in its environment). `wire.rs` sends bytes that no sender of the library
//! would send.
//!
//! A new transport needs a file that makes a [`subject::Subject`], and a line in `subjects!` below.
//!
//! Where a rule does not apply, the case tests what the transport promises instead:
//!
//! | rule | does not apply to | because | instead |
//! |---|---|---|---|
//! | a sender may be ahead of its receiver until it is told `Full` | `ring_lossy`, `udp` | the frames would be overwritten or dropped, and reported | at most 16 frames ahead, none is lost |
//! | the same | `ring_latest` | a value replaces the one before it, which is reported | each frame is received before the next one is sent |
//! | full, writable again, time-outs of `send` | `ring_lossy`, `ring_latest`, `udp` | they are never full | `Empty`, and time-outs of `recv` |
//! | frames wait for a receiver that is opened later | `ring_broadcast`, `ring_lossy`, `ring_latest`, `udp` | only open receivers hold frames back | the receiver is opened first |
//! | any stream | `ring_latest` | a stream is a cell | three cells |
//! | a sender is told that its receiver left or died | `ring_broadcast`, `ring_lossy`, `ring_latest`, queues, `udp`, signals | publishers and writers do not depend on receivers; queues and UDP cannot tell | sending succeeds, or finds no room |
//! | bytes of a stranger (`wire.rs`) | rings | only participants write into a ring (`tests/it/security.rs`, `fuzz/`) | |

#[path = "../common/address.rs"]
mod address;
#[path = "../common/again.rs"]
mod again;
mod cases;
mod edges;
mod processes;
#[path = "../common/queues.rs"]
mod queues;
mod script;
mod storm;
mod subject;
#[path = "../common/watchdog.rs"]
mod watchdog;
mod wire;

mod fifo;
mod mq;
mod pipe;
mod ring;
mod socket;
mod sysv;

macro_rules! subjects {
    ($($name:ident: $file:ident::$make:ident;)*) => {$(
        mod $name {
            use crate::{cases, edges, processes, wire};

            fn subject() -> crate::subject::Subject {
                crate::$file::$make()
            }

            subjects!(@cases cases: boundaries_and_order, empty_one_byte_maximal_and_too_large, around_the_message_size,
                empty_full_and_empty_again, room_is_polled, deadlines, streams_kinds_and_control, ten_thousand_random_frames, an_orderly_end,
                a_receiver_that_leaves, signals_at_a_thousand_hertz);
            subjects!(@cases edges: edges);
            subjects!(@cases processes: a_child_sends, a_child_receives, a_sender_killed_in_mid_frame, a_receiver_killed);
            subjects!(@cases wire: garbage, an_absurd_length, another_version, half_a_frame, pieces_of_every_size);
        }
    )*};
    (@cases $module:ident: $($case:ident),*) => {$(
        #[test]
        fn $case() {
            $module::$case(&subject());
        }
    )*};
}

subjects! {
    ring_spsc: ring::spsc;
    ring_mpmc: ring::mpmc;
    ring_mpsc: ring::mpsc;
    ring_broadcast: ring::broadcast;
    ring_lossy: ring::lossy;
    ring_latest: ring::latest;
    anonymous_pipe: pipe::subject;
    named_pipe: fifo::subject;
    posix_queue: mq::subject;
    sysv_queue: sysv::subject;
    unix: socket::unix;
    unix_upgraded: socket::unix_upgraded;
    seqpacket: socket::seqpacket;
    dgram: socket::dgram;
    tcp: socket::tcp;
    udp: socket::udp;
}

/// Not a test: a child process, if this is one.
#[test]
fn child() {
    processes::live();
}
