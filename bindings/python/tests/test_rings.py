"""Every kind of ring: between processes, their ends, types, and misuse."""

import copy
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest
import slipring
from conftest import SOON

Start = Callable[..., "Popen[str]"]

ECHO = """
import slipring, sys
with slipring.Consumer("there") as rx, slipring.Producer("back") as tx:
    for frame in rx:
        tx.send(frame)
"""


def test_two_processes_exchange_frames(python: Start) -> None:
    with slipring.Producer("there", capacity=1 << 16) as tx, slipring.Consumer("back", capacity=1 << 16) as rx:
        process = python(ECHO)
        for i in range(2000):
            tx.send(i.to_bytes(8, "little") * (i % 100))
            assert bytes(rx.recv(SOON)) == i.to_bytes(8, "little") * (i % 100)
        tx.close()
        with pytest.raises(slipring.Closed):
            rx.recv(SOON)
        assert process.wait(SOON) == 0
    assert slipring.list_rings() == ["back", "there"]
    slipring.remove("there")
    with pytest.raises(slipring.NotFound):
        slipring.remove("there")


HOLD = """
import slipring, sys, time
name, kind = sys.argv[1:]
rx = slipring.Subscriber(name, start="oldest") if kind == "broadcast" else slipring.Consumer(name)
frame = rx.recv(20)
print("holds", bytes(frame)[0], flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["spsc", "mpmc"])
def test_a_frame_of_a_killed_consumer_is_redelivered(python: Start, kind: str) -> None:
    tx = slipring.Producer("jobs", kind=kind, capacity=4096, slots=16, payload=64)  # type: ignore[arg-type]
    tx.send(b"\x07")
    process = python(HOLD, "jobs", kind)
    assert process.stdout is not None and process.stdout.readline() == "holds 7\n"
    process.kill()
    process.wait()
    rx = slipring.Consumer("jobs")
    frame = rx.recv(SOON)
    assert bytes(frame) == b"\x07" and frame.redelivered


SEND = """
import slipring, sys, time
tx = slipring.Publisher(sys.argv[1]) if sys.argv[2] == "broadcast" else slipring.Producer(sys.argv[1])
tx.send(b"last words")
print("sent", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["spsc", "mpmc", "mpsc", "broadcast"])
def test_the_death_of_the_producer_is_told_after_its_last_frame(python: Start, kind: str) -> None:
    if kind == "broadcast":
        rx: slipring.Receiver = slipring.Subscriber("dying")
    else:
        rx = slipring.Consumer("dying", kind=kind)  # type: ignore[arg-type]
    process = python(SEND, "dying", kind)
    assert process.stdout is not None and process.stdout.readline() == "sent\n"
    process.kill()
    process.wait()
    assert bytes(rx.recv(SOON)) == b"last words"
    began = time.monotonic()
    with pytest.raises(slipring.PeerDead) as raised:
        rx.recv(SOON)
    assert time.monotonic() - began < 10 and isinstance(raised.value, ConnectionError)
    if kind == "mpsc":
        assert [(end.lane, end.died) for end in rx.ends()] == [(0, True)]
    with pytest.raises(slipring.PeerDead):
        for _ in rx:
            pass


def test_many_producers_by_lanes() -> None:
    rx = slipring.Consumer("lanes", kind="mpsc", lanes=4, capacity=4096)
    producers = [slipring.Producer("lanes") for _ in range(4)]
    with pytest.raises(slipring.NoRoom):
        slipring.Producer("lanes", create=False)
    for i in range(400):
        producers[i % 4].send(bytes([i % 4]))
        if i % 4 == 3:
            frames = [rx.recv(SOON) for _ in range(4)]
            assert sorted(bytes(frame)[0] for frame in frames) == [0, 1, 2, 3]
            assert sorted(frame.lane for frame in frames if frame.lane is not None) == [0, 1, 2, 3]
    for tx in producers:
        tx.close()
    with pytest.raises(slipring.Closed):
        rx.recv(SOON)
    assert len(rx.ends()) == 4 and rx.ends() == []


def test_many_workers_share_one_consumer() -> None:
    tx = slipring.Producer("jobs", kind="mpmc", slots=16, payload=8)
    rx = slipring.Consumer("jobs")
    seen: list[int] = []

    def work() -> None:
        for frame in rx:
            seen.append(int.from_bytes(frame, "little"))

    threads = [threading.Thread(daemon=True, target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(2000):
        tx.send(i.to_bytes(8, "little"))
    tx.close()
    for thread in threads:
        thread.join(SOON)
    assert sorted(seen) == list(range(2000))


def test_a_publisher_waits_for_reliable_subscribers_and_overtakes_lossy_ones() -> None:
    tx = slipring.Publisher("ticks", capacity=4096, fail_when_full=True)
    reliable = slipring.Subscriber("ticks")
    lossy = slipring.Subscriber("ticks", lossy=True)
    sent = 0
    while tx.try_send(sent.to_bytes(4, "little") * 16):
        sent += 1
    frames = [reliable.recv(SOON) for _ in range(sent)]
    assert [int.from_bytes(bytes(frame)[:4], "little") for frame in frames] == list(range(sent))
    assert all(frame.in_place for frame in frames)
    with pytest.raises(slipring.Full):
        tx.send(bytes(64))
    del frames
    for _ in range(sent + 5):
        tx.send(sent.to_bytes(4, "little") * 16)
        reliable.recv(SOON)
        sent += 1
    received, missed, frame = 0, 0, None
    while (frame := lossy.try_recv()) is not None:
        assert not frame.in_place
        received, missed = received + 1, missed + frame.missed
        assert int.from_bytes(bytes(frame)[:4], "little") == received + missed - 1
    assert received + missed == sent and missed > 0


def test_a_slow_subscriber_is_evicted_but_not_while_it_holds_a_frame() -> None:
    tx = slipring.Publisher("ticks", capacity=4096, evict_after=0.01)
    rx = slipring.Subscriber("ticks")
    tx.send(bytes(1000))
    frame = rx.recv(SOON)
    with pytest.raises(slipring.Timeout):
        for _ in range(10):
            tx.send(bytes(1000), 0.2)
    assert bytes(frame) == bytes(1000)
    frame.release()
    for _ in range(10):
        tx.send(bytes(1000), SOON)
    with pytest.raises(slipring.Evicted):
        rx.recv(SOON)


def test_types_are_agreed_on() -> None:
    tx = slipring.Producer("quotes", message_type="Quote, version 2")
    with pytest.raises(slipring.TypeMismatch, match="Quote, version 2") as raised:
        slipring.Consumer("quotes", message_type="Trade")
    assert (raised.value.expected, raised.value.found) == ("Trade", "Quote, version 2")
    rx = slipring.Consumer("quotes", message_type="Quote, version 2")
    tx.send(b"typed")
    tx.send(b"of another kind", kind=0x107)
    tx.send(b"typed")
    frame = rx.recv(SOON)
    assert frame.kind == tx.message_kind == rx.message_kind
    frame.release()
    with pytest.raises(slipring.Incompatible):
        rx.recv(SOON)
    assert bytes(rx.recv(SOON)) == b"typed"


def test_a_participant_of_another_type_is_not_seen_by_the_others() -> None:
    tx = slipring.Producer("full", capacity=4096, message_type="A")
    while tx.try_send(bytes(500)):
        pass
    for create in (None, False):
        with pytest.raises(slipring.TypeMismatch):
            slipring.Consumer("full", message_type="B", create=create)
    with pytest.raises(slipring.Timeout):  # not Closed
        tx.send(bytes(500), 0.06)
    rx = slipring.Consumer("empty", message_type="A")
    sub = slipring.Subscriber("news", message_type="A")
    reader = slipring.StreamReader("bytes", message_type="A")
    view = slipring.LatestReader("board", message_type="A")
    for call in (
        lambda: slipring.Producer("empty", message_type="B"),
        lambda: slipring.Publisher("news", message_type="B"),
        lambda: slipring.StreamWriter("bytes", message_type="B"),
        lambda: slipring.LatestWriter("board", message_type="B"),
    ):
        with pytest.raises(slipring.TypeMismatch):
            call()
    waits: list[Callable[[], object]] = [
        lambda: rx.recv(0.06), lambda: sub.recv(0.06), lambda: reader.read(1, 0.06), lambda: view.read(0, 0.06)
    ]
    for wait in waits:
        with pytest.raises(slipring.Timeout):
            wait()


def test_timeouts() -> None:
    tx, rx = slipring.pair(capacity=4096)
    for call in (lambda: rx.recv(0), lambda: rx.recv(timeout=0.0)):
        with pytest.raises(slipring.Empty):
            call()
    began = time.monotonic()
    with pytest.raises(TimeoutError) as raised:
        rx.recv(0.12)
    assert time.monotonic() - began >= 0.12 and isinstance(raised.value, slipring.Timeout)
    while tx.try_send(bytes(1000)):
        pass
    with pytest.raises(slipring.Full):
        tx.send(bytes(1000), 0)
    with pytest.raises(slipring.Timeout):
        tx.send(bytes(1000), 0.06)
    with pytest.raises(slipring.Timeout):
        tx.reserve(1000, 0.06)
    with pytest.raises(slipring.Full):
        tx.reserve(1000, 0)
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            rx.recv(wrong)
    with pytest.raises(TypeError):
        rx.recv("soon")  # type: ignore[arg-type]
    assert bytes(rx.recv(float("inf"))) == bytes(1000)


def test_a_closed_handle_says_so_and_closing_twice_is_harmless() -> None:
    tx, rx = slipring.pair(capacity=4096)
    for handle in (tx, rx):
        handle.close()
        handle.close()
        assert handle.closed and "closed" in repr(handle)
        with pytest.raises(slipring.HandleClosed):
            handle.fileno()
    for call in (lambda: tx.send(b""), lambda: tx.try_send(b""), lambda: tx.reserve(1), rx.recv, rx.try_recv):
        with pytest.raises(slipring.HandleClosed):
            call()
    with pytest.raises(slipring.HandleClosed):
        next(iter(rx))


def test_close_ends_the_wait_of_another_thread() -> None:
    tx, rx = slipring.pair(capacity=4096)
    while tx.try_send(bytes(1000)):
        pass
    other_tx, other_rx = slipring.pair(capacity=4096)
    errors: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except slipring.Error as error:
            errors.append(error)

    calls: list[Callable[[], object]] = [lambda: tx.send(bytes(1000)), other_rx.recv]
    threads = [threading.Thread(daemon=True, target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    tx.close()
    other_rx.close()
    for thread in threads:
        thread.join(SOON)
    assert [type(error) for error in errors] == [slipring.HandleClosed] * 2


def test_handles_are_neither_pickled_nor_copied() -> None:
    for handle in slipring.pair(capacity=4096):
        for call in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="process"):
                call(handle)


def test_a_forked_child_is_refused() -> None:
    tx, rx = slipring.pair(capacity=4096)
    tx.send(b"mine")
    tx.send(b"read ahead")
    frame = rx.recv(SOON)
    other, _rx = slipring.pair(capacity=4096)
    grant = other.reserve(10)
    pid = os.fork()
    if pid == 0:
        refused = 0
        calls = (lambda: tx.send(b"x"), lambda: rx.recv(1), lambda: tx.try_send(b"x"), rx.try_recv, grant.commit)
        for call in calls:
            try:
                call()
            except slipring.Forked:
                refused += 1
        frame.release()
        rx.close()
        tx.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    tx.send(b"more")
    assert bytes(frame) == b"mine" and bytes(rx.recv(SOON)) == b"read ahead" and bytes(rx.recv(SOON)) == b"more"
    grant.commit()
    assert len(_rx.recv(SOON)) == 10


def test_ctrl_c_ends_a_wait(python: Start) -> None:
    program = """
import signal, slipring
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where a shell started the tests with &
tx, rx = slipring.pair()
try:
    print("waits", flush=True)
    rx.recv()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    process = python(program)
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    time.sleep(0.1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    assert time.monotonic() - began < 5


def test_options_and_their_errors(rings: Path) -> None:
    for wrong in (dict(kind="queue"), dict(idle="sleepy"), dict(wake="loud"), dict(capacity=0), dict(mode=0o4777)):
        with pytest.raises(slipring.Error):
            slipring.Producer("bad", **wrong)  # type: ignore[arg-type]
    for seconds in (-1.0, float("nan")):
        with pytest.raises(slipring.Invalid, match="evict_after"):
            slipring.Publisher("bad", evict_after=seconds)
    with pytest.raises(TypeError, match="colour"):
        slipring.Producer("bad", colour="red")  # type: ignore[call-arg]
    with pytest.raises(slipring.NotFound):
        slipring.Producer("new", create=False)
    tx = slipring.Producer("new", create=True, idle="spin", wake="poll", redeliver=False, participants=4, mode=0o600)
    with pytest.raises(slipring.Exists) as raised:
        slipring.Producer("new", create=True)
    assert isinstance(raised.value, FileExistsError)
    with pytest.raises(slipring.NoRoom):
        slipring.Producer("new")
    with pytest.raises(slipring.Incompatible):
        slipring.Consumer("new", kind="mpmc")
    assert tx.name == "new" and tx.max_payload > 4000 and tx.has_peer is False
    with pytest.raises(slipring.TooLarge):
        tx.send(bytes(tx.max_payload + 1))
    fail = slipring.Producer("alone", fail_without_consumer=True)
    with pytest.raises(slipring.NoConsumer):
        fail.send(b"to whom?")
    elsewhere = rings / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    with slipring.Producer("new", directory=elsewhere):
        assert slipring.list_rings(directory=elsewhere) == ["new"]
