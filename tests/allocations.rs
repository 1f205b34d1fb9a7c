//! Once attached, the rings allocate nothing: neither when they send or receive, nor when they are
//! full or empty.
//!
//! A global allocator counts the calls of one thread while a test case runs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use slipring::frame::Header;
use slipring::{Error, mpmc, spsc, stream};

struct Counting;

thread_local! {
    /// `Some(n)` while this thread is counted: it has called the allocator n times.
    static CALLS: Cell<Option<u64>> = const { Cell::new(None) };
}

fn count() {
    // A thread that is being torn down is not counted.
    let _ = CALLS.try_with(|calls| calls.set(calls.get().map(|n| n + 1)));
}

// SAFETY: every call is passed to the system's allocator unchanged; counting neither allocates nor
// panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as this function's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as this function's contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as this function's contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `scene`, and returns how often it calls the allocator.
fn calls(scene: impl FnOnce()) -> u64 {
    CALLS.set(Some(0));
    scene();
    CALLS.take().unwrap_or(0)
}

#[test]
fn the_counter_counts_allocations() {
    assert_eq!(calls(|| drop(std::hint::black_box(Box::new(7)))), 2);
    assert_eq!(calls(|| ()), 0);
}

#[test]
fn spsc_allocates_nothing() {
    let (mut tx, mut rx) = spsc::pair(4096).unwrap();
    let mut buffer = [0; 64];
    let calls = calls(|| {
        for _ in 0..1000 {
            tx.try_send(&[1; 40]).unwrap();
            tx.send_frame(Header { kind: 0x0107, ..Header::PLAIN }, &[2; 40]).unwrap();
            let mut grant = tx.try_reserve(64).unwrap();
            grant.fill(3);
            grant.commit(10);
            drop(tx.reserve(64).unwrap());
            let mut batch = tx.batch();
            (0..5).for_each(|i| batch.push(&[i; 30]).unwrap());
            batch.commit();
            let mut aborted = tx.batch();
            aborted.push(b"never").unwrap();
            drop(aborted);
            assert_eq!(rx.try_recv().unwrap().len(), 40);
            rx.recv_into(&mut buffer).unwrap();
            rx.try_recv().unwrap().keep();
            assert_eq!(rx.recv_batch(usize::MAX).unwrap().iter().count(), 6);
            assert!(matches!(rx.try_recv(), Err(Error::Empty)));
        }
        while tx.try_send(&[0; 100]).is_ok() {}
        assert!(matches!(tx.try_send(&[0; 100]), Err(Error::Full)));
        assert!(matches!(tx.try_send(&[0; 5000]), Err(Error::TooLarge { .. })));
    });
    assert_eq!(calls, 0);
}

#[test]
fn mpmc_allocates_nothing() {
    let (tx, rx) = mpmc::pair(64, 64).unwrap();
    let mut buffer = [0; 128];
    let calls = calls(|| {
        for _ in 0..1000 {
            tx.try_send(&[1; 40]).unwrap();
            tx.send_frame(Header { kind: 0x0107, ..Header::PLAIN }, &[2; 40]).unwrap();
            let mut grant = tx.try_reserve(64).unwrap();
            grant.fill(3);
            grant.commit(10);
            drop(tx.reserve(64).unwrap());
            assert_eq!(tx.try_send_batch([[4; 9].as_slice(); 5]).unwrap(), 5);
            assert_eq!(rx.try_recv().unwrap().len(), 40);
            rx.recv_into(&mut buffer).unwrap();
            assert_eq!(rx.recv_batch(4).unwrap().iter().count(), 4);
            assert_eq!(rx.try_recv_batch(8).unwrap().iter().count(), 2);
            assert!(matches!(rx.try_recv(), Err(Error::Empty)));
        }
        while tx.try_send(&[0; 60]).is_ok() {}
        assert!(matches!(tx.try_send(&[0; 60]), Err(Error::Full)));
    });
    assert_eq!(calls, 0);
}

#[test]
fn streams_allocate_nothing() {
    let (mut tx, mut rx) = stream::pair(4096).unwrap();
    let mut buffer = [0; 512];
    let calls = calls(|| {
        for _ in 0..1000 {
            assert_eq!(tx.try_write(&[1; 512]).unwrap(), 512);
            tx.write_all(&[2; 512]).unwrap();
            let mut grant = tx.try_reserve(512).unwrap();
            grant.fill(3);
            grant.commit(512);
            assert_eq!(rx.try_read(&mut buffer).unwrap(), 512);
            assert_eq!(rx.read(&mut buffer).unwrap(), 512);
            rx.try_read_view(512).unwrap().release(512);
            assert!(matches!(rx.try_read_view(1), Err(Error::Empty)));
        }
        tx.write_all(&[0; 4096]).unwrap();
        assert!(matches!(tx.try_write(&[0]), Err(Error::Full)));
    });
    assert_eq!(calls, 0);
}

/// What finds a frame, or room, at once.
#[cfg(feature = "async")]
#[test]
fn tasks_that_need_not_wait_allocate_nothing() {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn ready<T>(future: impl Future<Output = slipring::Result<T>>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome.unwrap(),
            Poll::Pending => panic!("it waits"),
        }
    }
    let (tx, rx) = spsc::pair(4096).unwrap();
    let (mut tx, mut rx) = (spsc::AsyncProducer::new(tx), spsc::AsyncConsumer::new(rx));
    let (into, from) = mpmc::pair(16, 64).unwrap();
    let (into, from) = (mpmc::AsyncProducer::new(into), mpmc::AsyncConsumer::new(from));
    let calls = calls(|| {
        for _ in 0..1000 {
            ready(tx.send(&[1; 40]));
            ready(tx.reserve(64)).commit(10);
            assert_eq!(ready(rx.recv()).len(), 40);
            assert_eq!(ready(rx.recv_batch(8)).iter().count(), 1);
            ready(into.send(&[1; 40]));
            ready(into.reserve(64)).commit(10);
            assert_eq!(ready(from.recv()).len(), 40);
            assert_eq!(ready(from.recv_batch(8)).iter().count(), 1);
        }
    });
    assert_eq!(calls, 0);
}
