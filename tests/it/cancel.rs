//! Cancellation ends every blocking call, from another thread or a signal handler, on every kind of
//! ring.

use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;

use slipring::{
    Canceller, Error, Event, Idle, Mutex, Options, Ring, Semaphore, SignalSemaphore, WakeMode, mpmc, spsc, stream,
};

const WAYS: [Idle; 4] = [Idle::Spin, Idle::Yield, Idle::Backoff, Idle::Park];
const MODES: [WakeMode; 3] = [WakeMode::Asymmetric, WakeMode::Fenced, WakeMode::Poll];

/// A call that waits without a deadline, and the handle that cancels it. The call owns both ends of
/// the ring, so that they stay open while it waits.
type Call = Box<dyn FnMut() -> Result<(), Error> + Send>;

/// Every call that blocks, each on a ring of its own.
fn calls(idle: Idle, wake: WakeMode) -> Vec<(&'static str, Call, Canceller)> {
    let ring = |options: Options| Ring::create_anonymous(&options.idle(idle).wake_mode(wake)).unwrap();
    let (of_spsc, of_mpmc, of_stream) =
        (|| ring(Options::spsc(4096)), || ring(Options::mpmc(4, 8)), || ring(Options::stream(4096)));
    let mut all: Vec<(&'static str, Call, Canceller)> = Vec::new();
    {
        let ring = of_spsc();
        let (tx, mut rx) = (spsc::Producer::attach(&ring).unwrap(), spsc::Consumer::attach(&ring).unwrap());
        let stop = rx.canceller();
        let call = move || {
            assert!(tx.has_peer());
            rx.recv().map(drop)
        };
        all.push(("spsc recv", Box::new(call), stop));
    }
    {
        let ring = of_spsc();
        let (mut tx, rx) = (spsc::Producer::attach(&ring).unwrap(), spsc::Consumer::attach(&ring).unwrap());
        while tx.try_send(b"x").is_ok() {}
        let stop = tx.canceller();
        let call = move || {
            assert!(rx.has_peer());
            tx.send(b"x")
        };
        all.push(("spsc send", Box::new(call), stop));
    }
    {
        let tx = spsc::Producer::attach(&of_spsc()).unwrap();
        let stop = tx.canceller();
        all.push(("wait for a peer", Box::new(move || tx.wait_for_peer(slipring::Deadline::never())), stop));
    }
    {
        let ring = of_spsc();
        let tx = spsc::Producer::attach(&ring).unwrap();
        let memfd = ring.as_fd().try_clone_to_owned().unwrap();
        let mut rx = spsc::UntrustedConsumer::from_fd(memfd).unwrap();
        let stop = rx.canceller();
        let call = move || {
            assert!(!tx.has_peer());
            rx.recv_into_deadline(&mut [0; 8], slipring::Deadline::never()).map(drop)
        };
        all.push(("untrusted recv", Box::new(call), stop));
    }
    {
        let ring = of_mpmc();
        let (tx, rx) = (mpmc::Producer::attach(&ring).unwrap(), mpmc::Consumer::attach(&ring).unwrap());
        let stop = rx.clone().canceller();
        let call = move || {
            assert!(tx.has_peer());
            rx.recv().map(drop)
        };
        all.push(("mpmc recv", Box::new(call), stop));
    }
    {
        let ring = of_mpmc();
        let (tx, rx) = (mpmc::Producer::attach(&ring).unwrap(), mpmc::Consumer::attach(&ring).unwrap());
        while tx.try_send(b"x").is_ok() {}
        let stop = tx.canceller();
        let call = move || {
            assert!(rx.has_peer());
            tx.send(b"x")
        };
        all.push(("mpmc send", Box::new(call), stop));
    }
    {
        let ring = of_stream();
        let (tx, mut rx) = (stream::Producer::attach(&ring).unwrap(), stream::Consumer::attach(&ring).unwrap());
        let stop = rx.canceller();
        let call = move || {
            assert!(tx.has_peer());
            rx.read(&mut [0]).map(drop)
        };
        all.push(("stream read", Box::new(call), stop));
    }
    {
        let ring = of_stream();
        let (mut tx, rx) = (stream::Producer::attach(&ring).unwrap(), stream::Consumer::attach(&ring).unwrap());
        while tx.try_write(b"x").is_ok() {}
        let stop = tx.canceller();
        let call = move || {
            assert!(rx.has_peer());
            tx.write_all(b"x")
        };
        all.push(("stream write", Box::new(call), stop));
    }
    {
        let semaphore = SignalSemaphore::create_anonymous().unwrap();
        semaphore.set_idle(idle);
        let stop = semaphore.clone().canceller();
        all.push(("signal semaphore", Box::new(move || semaphore.wait()), stop));
    }
    {
        let event = Event::create_anonymous().unwrap();
        event.set_idle(idle);
        let stop = event.clone().canceller();
        all.push(("event", Box::new(move || event.wait()), stop));
    }
    {
        let semaphore = Semaphore::create_anonymous(1).unwrap();
        semaphore.set_idle(idle);
        std::mem::forget(semaphore.acquire().unwrap());
        let stop = semaphore.clone().canceller();
        all.push(("semaphore", Box::new(move || semaphore.acquire().map(drop)), stop));
    }
    {
        let mutex = Mutex::create_anonymous(8).unwrap();
        mutex.set_idle(idle);
        std::mem::forget(mutex.lock().unwrap());
        let stop = mutex.canceller();
        all.push(("mutex", Box::new(move || mutex.lock().map(drop)), stop));
    }
    all
}

#[test]
fn cancellation_ends_every_blocking_call_until_it_is_reset() {
    for idle in WAYS {
        for wake in MODES {
            for (what, mut call, stop) in calls(idle, wake) {
                for _ in 0..2 {
                    std::thread::scope(|scope| {
                        let waiting = scope.spawn(&mut call);
                        std::thread::yield_now(); // whether or not it waits yet: a cancellation is kept
                        stop.cancel();
                        let ended = waiting.join().unwrap();
                        assert!(matches!(ended, Err(Error::Cancelled)), "{what}, {idle}: {ended:?}");
                    });
                    let again = call();
                    assert!(matches!(again, Err(Error::Cancelled)), "{what}, {idle}: {again:?}");
                    assert!(stop.is_cancelled());
                    stop.reset();
                }
            }
        }
    }
}

#[test]
fn a_call_that_need_not_wait_is_not_cancelled() {
    let (mut tx, mut rx) = spsc::pair(4096).unwrap();
    let (out, back) = (tx.canceller(), rx.canceller());
    out.cancel();
    back.cancel();
    tx.send(b"frame").unwrap();
    assert_eq!(&*rx.recv().unwrap(), b"frame");
    assert!(matches!(rx.try_recv(), Err(Error::Empty)), "a try_ call reports the state of the ring");
    assert!(matches!(rx.recv_deadline(Duration::from_secs(20)), Err(Error::Cancelled)));
    drop(rx);
    assert!(out.is_cancelled(), "the canceller works after its handle is dropped");
}

static STOP: OnceLock<Canceller> = OnceLock::new();

extern "C" fn stop(_: libc::c_int) {
    if let Some(canceller) = STOP.get() {
        canceller.cancel();
    }
}

#[test]
fn a_signal_handler_ends_the_call_that_it_interrupts() {
    let (_tx, mut rx) = spsc::pair(4096).unwrap();
    let canceller = STOP.get_or_init(|| rx.canceller());
    // SAFETY: the handler calls only async-signal-safe functions; no other code here uses SIGUSR2.
    unsafe { libc::signal(libc::SIGUSR2, stop as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    for idle in WAYS {
        rx.set_idle(idle);
        for round in 0..50 {
            std::thread::scope(|scope| {
                // SAFETY: `pthread_self` has no preconditions.
                let waiter = unsafe { libc::pthread_self() } as usize;
                scope.spawn(move || {
                    // Delays that hit the call anywhere from before it starts to while it sleeps.
                    std::thread::sleep(Duration::from_micros(20 * round));
                    // SAFETY: the thread is alive: it waits for this one at the end of the scope.
                    unsafe { libc::pthread_kill(waiter as libc::pthread_t, libc::SIGUSR2) };
                });
                assert!(matches!(rx.recv(), Err(Error::Cancelled)), "{idle}");
            });
            canceller.reset();
        }
    }
}
