"""Frames in place: how long they are held, and that no view outlives them."""

import gc
import select
import threading
import time

import numpy
import pytest
import slipring
from conftest import SOON


def test_a_frame_is_bytes_in_the_ring() -> None:
    tx, rx = slipring.pair(capacity=4096)
    tx.send(b"hello", kind=0x107, stream=3)
    frame = rx.recv(SOON)
    assert (bytes(frame), len(frame), frame.kind, frame.stream, frame.seq) == (b"hello", 5, 0x107, 3, 0)
    assert frame.in_place and not frame.redelivered and frame.missed == 0
    view = memoryview(frame)
    assert view.readonly and view.nbytes == 5 and view[1:3] == b"el"
    with pytest.raises(TypeError):
        view[0] = 1
    view.release()
    frame.release()
    assert frame.released and "released" in repr(frame)
    frame.release()
    with pytest.raises(slipring.Released):
        memoryview(frame)


@pytest.mark.parametrize("payload", [b"x", bytearray(b"x"), memoryview(b"xyz")[1:2], numpy.frombuffer(b"x", numpy.uint8)])
def test_anything_with_a_buffer_is_sent(payload: object) -> None:
    tx, rx = slipring.pair(capacity=4096)
    tx.send(payload)
    assert len(rx.recv(SOON)) == 1


def test_what_is_no_contiguous_buffer_is_refused() -> None:
    tx, _ = slipring.pair(capacity=4096)
    with pytest.raises((BufferError, ValueError)):
        tx.send(numpy.zeros((4, 4))[:, 1])
    for wrong in ("text", 7, None):
        with pytest.raises(TypeError):
            tx.send(wrong)


def test_numpy_reads_without_a_copy_and_keeps_the_frame() -> None:
    tx, rx = slipring.pair(capacity=1 << 16)
    sent = numpy.arange(1000, dtype=numpy.float64)
    tx.send(sent)
    frame = rx.recv(SOON)
    array = numpy.frombuffer(frame, numpy.float64)
    assert not array.flags.writeable and not array.flags.owndata
    assert numpy.array_equal(array, sent)
    slice_of_it = array[10:20]
    del array
    with pytest.raises(BufferError, match="1 view"):
        frame.release()
    del frame
    gc.collect()
    # The ring holds the frame for the slice: the producer does not get its room.
    while tx.try_send(bytes(8000)):
        pass
    assert numpy.array_equal(slice_of_it, sent[10:20])
    assert not tx.try_send(bytes(8000))
    del slice_of_it
    assert tx.try_send(bytes(8000))


@pytest.mark.parametrize("kind", ["spsc", "mpmc"])
def test_frames_are_held_at_once_and_released_in_any_order(kind: str) -> None:
    tx, rx = slipring.pair(kind=kind, capacity=4096, slots=16, payload=64)  # type: ignore[arg-type]
    for i in range(10):
        tx.send(bytes([i]) * 40)
    frames = [rx.recv(SOON) for _ in range(10)]
    views = [memoryview(frame) for frame in frames]
    del frames
    for i in (3, 0, 9, 1, 2, 5, 4, 8, 7, 6):
        assert views[i] == bytes([i]) * 40
        views[i].release()
        tx.send(bytes([i + 100]) * 40)
    assert [bytes(rx.recv(SOON))[0] for _ in range(10)] == [103, 100, 109, 101, 102, 105, 104, 108, 107, 106]
    assert rx.try_recv() is None


def test_the_loop_variable_and_an_array_of_it_may_live_on() -> None:
    tx, rx = slipring.pair(capacity=1 << 14)

    def send() -> None:
        with tx:
            for i in range(5000):
                tx.send(numpy.full(100, i, dtype=numpy.int64))

    thread = threading.Thread(daemon=True, target=send)
    thread.start()
    seen = 0
    for frame in rx:
        array = numpy.frombuffer(frame, numpy.int64)
        assert array[0] == array[99] == seen
        seen += 1
    thread.join()
    assert seen == 5000


def test_a_with_block_releases() -> None:
    tx, rx = slipring.pair(capacity=4096)
    tx.send(b"one")
    with rx.recv(SOON) as frame:
        assert bytes(frame) == b"one"
    assert frame.released
    tx.send(b"two")
    with rx.recv(SOON) as frame:
        view = memoryview(frame)
    assert not frame.released, "the view is left"
    assert view == b"two"
    del view
    assert not frame.released
    frame.release()
    assert frame.released


def test_a_frame_is_released_by_another_thread_while_this_one_waits() -> None:
    tx, rx = slipring.pair(capacity=4096)
    large = bytes(3000)
    tx.send(large)
    held = [rx.recv(SOON)]

    def release_then_send() -> None:
        assert not tx.try_send(large)
        held.clear()  # the other thread waits for a frame, and has to give the room back
        tx.send(large, SOON)

    thread = threading.Thread(daemon=True, target=release_then_send)
    thread.start()
    assert len(rx.recv(SOON)) == 3000
    thread.join()


def test_a_closed_receiver_leaves_with_its_last_frame() -> None:
    tx, rx = slipring.pair(capacity=4096)
    tx.send(b"hello")
    view = memoryview(rx.recv(SOON))
    rx.close()
    assert rx.closed and tx.has_peer
    assert view == b"hello"
    del view
    assert tx.has_peer is False


def test_frames_outlive_their_receiver() -> None:
    tx, rx = slipring.pair(capacity=4096)
    tx.send(b"hello")
    frame = rx.recv(SOON)
    del rx, tx
    gc.collect()
    assert bytes(frame) == b"hello"


def test_batches() -> None:
    tx, rx = slipring.pair(capacity=1 << 14)
    for i in range(10):
        tx.send(bytes([i]))
    assert [bytes(frame)[0] for frame in rx.recv_batch(4)] == [0, 1, 2, 3]
    assert [bytes(frame)[0] for frame in rx.recv_batch(100, SOON)] == [4, 5, 6, 7, 8, 9]
    with pytest.raises(slipring.Timeout):
        rx.recv_batch(4, 0.01)
    with pytest.raises(slipring.Invalid):
        rx.recv_batch(0)


def test_what_is_empty_is_there() -> None:
    tx, rx = slipring.pair(capacity=4096)
    tx.send(b"")
    tx.reserve(0).commit()
    received = 0
    while frame := rx.try_recv():
        received += 1
        assert len(frame) == 0
    assert received == 2 and tx.reserve(0)
    assert slipring.Mutex("nothing", 0).try_lock()


def test_recv_into() -> None:
    tx, rx = slipring.pair(capacity=4096)
    array = numpy.zeros(4, dtype=numpy.int32)
    tx.send(numpy.array([1, 2, 3], dtype=numpy.int32))
    assert rx.recv_into(array, SOON) == 12
    assert array.tolist() == [1, 2, 3, 0]
    with pytest.raises(BufferError):
        rx.recv_into(b"read-only")


@pytest.mark.parametrize("kind", ["spsc", "mpmc", "mpsc", "lossy"])
def test_a_frame_for_which_a_buffer_is_too_short_is_received_next(kind: str) -> None:
    rx: slipring.Receiver
    tx: slipring.Sender
    if kind == "lossy":
        tx = slipring.Publisher("long")
        rx = slipring.Subscriber("long", lossy=True)
    else:
        tx = slipring.Producer("long", kind=kind)  # type: ignore[arg-type]
        rx = slipring.Consumer("long")
    members = slipring.WaitSet()
    for payload in (b"seventeen letters", b"next", b"last, but longer"):
        tx.send(payload)
    for receive in (lambda: bytes(rx.recv(0)), lambda: bytes(rx.recv_batch(1, 0)[0])):
        with pytest.raises(slipring.TooLarge, match="16 bytes|17 bytes"):
            rx.recv_into(bytearray(3), SOON)
        token = members.add(rx)
        assert members.wait(0) == [rx]
        members.remove(token)
        assert select.select([rx], [], [], SOON)[0] == [rx]
        buffer = bytearray(17)
        if receive() == b"seventeen letters":
            assert rx.recv_into(buffer, 0) == 4 and buffer[:4] == b"next"
    assert rx.try_recv() is None
    assert select.select([rx], [], [], 0)[0] == []
    tx.send(b"kept")
    with pytest.raises(slipring.TooLarge):
        rx.recv_into(bytearray(3), SOON)
    rx.close()
    with pytest.raises(slipring.HandleClosed):
        rx.recv(0)


def test_grants_are_written_in_place() -> None:
    tx, rx = slipring.pair(capacity=1 << 14)
    with tx.reserve(80, kind=0x105) as grant:
        numpy.frombuffer(grant, numpy.int64)[:] = range(10)
    frame = rx.recv(SOON)
    assert numpy.frombuffer(frame, numpy.int64).tolist() == list(range(10)) and frame.kind == 0x105
    grant = tx.reserve(100)
    view = memoryview(grant)
    view[:3] = b"abc"
    with pytest.raises(BufferError, match="1 view"):
        grant.commit(3)
    with pytest.raises(BufferError):
        grant.abort()
    with pytest.raises(slipring.Busy, match="grant"):
        tx.send(b"meanwhile")
    view.release()
    grant.commit(3)
    with pytest.raises(slipring.Released):
        grant.commit()
    with pytest.raises(slipring.Released):
        memoryview(grant)
    grant.abort()
    assert bytes(rx.recv(SOON)) == b"abc"
    with pytest.raises(ZeroDivisionError), tx.reserve(10):
        raise ZeroDivisionError
    tx.reserve(10).abort()
    tx.reserve(10)
    with pytest.raises(slipring.TooLarge):
        tx.reserve(10).commit(11)
    tx.send(b"next")
    assert bytes(rx.recv(SOON)) == b"next"


def test_a_view_of_a_grant_stays_valid_after_an_exception() -> None:
    tx, rx = slipring.pair(capacity=4096)
    with pytest.raises(ZeroDivisionError), tx.reserve(10) as grant:
        view = memoryview(grant)
        raise ZeroDivisionError
    view[0] = 1
    del view, grant
    gc.collect()
    tx.send(b"next")
    assert bytes(rx.recv(SOON)) == b"next"


def test_a_grant_may_outlive_its_producer() -> None:
    tx, rx = slipring.pair(capacity=4096)
    grant = tx.reserve(5)
    tx.close()
    memoryview(grant)[:] = b"hello"
    grant.commit()
    assert bytes(rx.recv(SOON)) == b"hello"
    with pytest.raises(slipring.Closed):
        rx.recv(SOON)


def test_nothing_leaks() -> None:
    import resource
    import tracemalloc

    tx, rx = slipring.pair(capacity=1 << 16)

    def exchange(frames: int) -> None:
        for i in range(frames):
            tx.send(b"0123456789abcdef")
            frame = rx.recv()
            view = memoryview(frame)
            if i % 3 == 0:
                with tx.reserve(32) as grant:
                    numpy.frombuffer(grant, numpy.uint8)[:] = 1
                rx.recv().release()
        del frame, view

    exchange(20_000)
    tracemalloc.start()
    before, rss = tracemalloc.get_traced_memory()[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    exchange(100_000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 10_000
    # tracemalloc itself takes some.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss < 8_000


def test_waiting_gives_up_the_gil() -> None:
    _, rx = slipring.pair(capacity=4096)
    done = threading.Event()
    thread = threading.Thread(daemon=True, target=lambda: (pytest.raises(slipring.Timeout, rx.recv, 0.5), done.set()))
    thread.start()
    turns = 0
    while not done.is_set():
        turns += 1
        time.sleep(0.001)
    thread.join()
    assert turns > 20
