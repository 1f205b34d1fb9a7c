"""Streams, boards, semaphores, mutexes, events, calls, sets, transports."""

import asyncio
import errno
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import Popen

import numpy
import pytest
import slipring
from conftest import SOON
from slipring import rpc

Start = Callable[..., "Popen[str]"]


def test_a_stream_of_bytes() -> None:
    with slipring.StreamWriter("bytes", capacity=4096) as tx, slipring.StreamReader("bytes") as rx:
        assert tx.write(b"hello") == 5
        assert rx.read(3) == b"hel" and rx.try_read(10) == b"lo" and rx.try_read(10) is None
        with pytest.raises(slipring.Empty):
            rx.read(1, 0)
        with pytest.raises(slipring.Timeout):
            rx.read(1, 0.01)
        with pytest.raises(slipring.Timeout) as raised:
            tx.write(bytes(10_000), 0.05)
        assert raised.value.written == 4096  # type: ignore[attr-defined]
        array = numpy.ones(512, dtype=numpy.float64)
        assert rx.readinto(array) == 4096 and not array.any()
        sent = os.urandom(300_000)
        thread = threading.Thread(daemon=True, target=lambda: (tx.write(sent), tx.close()))
        thread.start()
        received = bytearray()
        while data := rx.read(10_000, SOON):
            received += data
        thread.join()
        assert received == sent and rx.read(1) == b""
    with pytest.raises(slipring.HandleClosed):
        rx.read(1)
    with pytest.raises(slipring.HandleClosed):
        tx.write(b"x")


def test_latest_values() -> None:
    with slipring.LatestWriter("board", cells=4, size=32) as tx, slipring.LatestReader("board") as rx:
        assert rx.try_read(0) is None and rx.cells == 4 and tx.max_len >= 32
        tx.write(b"first")
        assert rx.read() == (b"first", 1, 0)
        for i in range(5):
            tx.write(bytes([i]))
        assert rx.read() == (b"\x04", 6, 4)
        assert rx.read() == (b"\x04", 6, 0), "it stays"
        with pytest.raises(slipring.Empty):
            rx.read(1, 0)
        with pytest.raises(slipring.Timeout):
            rx.read(1, 0.01)
        rx.watch([3])
        with pytest.raises(slipring.Timeout):
            rx.changed(0.01)
        tx.write(numpy.float64(0.5), 3)
        assert rx.changed(SOON) == 3 and numpy.frombuffer(rx.read(3).value)[0] == 0.5
        with pytest.raises(slipring.Error):
            tx.write(b"", 4)
        with pytest.raises(slipring.TooLarge):
            tx.write(bytes(1000))


def test_a_semaphore(python: Start) -> None:
    semaphore = slipring.Semaphore("licences", 2)
    assert (semaphore.permits, semaphore.available) == (2, 2)
    with semaphore.acquire() as permit:
        assert semaphore.available == 1 and not permit.released
        process = python(
            "import slipring, time\n"
            "permit = slipring.Semaphore('licences').acquire()\nprint('holds', flush=True)\ntime.sleep(60)"
        )
        assert process.stdout is not None and process.stdout.readline() == "holds\n"
        assert semaphore.try_acquire() is None
        with pytest.raises(slipring.Timeout):
            semaphore.acquire(0.02)
        process.kill()
        process.wait()
        semaphore.acquire(SOON).release()
    assert permit.released and semaphore.available == 2
    permit.release()
    slipring.Semaphore.remove("licences")


def test_a_mutex_protects_bytes(python: Start) -> None:
    mutex = slipring.Mutex("counter", 8)
    with mutex.lock() as guard:
        assert len(guard) == 8 and not guard.owner_died
        array = numpy.frombuffer(guard, numpy.int64)
        array[0] = 7
        with pytest.raises(BufferError, match="1 view"):
            guard.unlock()
        with pytest.raises(slipring.Error):
            mutex.lock(0.02)
        del array
    with pytest.raises(slipring.Released):
        memoryview(guard)
    process = python(
        "import slipring, time\n"
        "guard = slipring.Mutex('counter').lock()\nmemoryview(guard)[0] = 9\nprint('holds', flush=True)\ntime.sleep(60)"
    )
    assert process.stdout is not None and process.stdout.readline() == "holds\n"
    assert mutex.try_lock() is None
    process.kill()
    process.wait()
    with mutex.lock(SOON) as guard:
        assert guard.owner_died and bytes(guard)[0] == 9
        guard.mark_consistent()
    with mutex.lock(SOON) as guard:
        assert not guard.owner_died


def test_an_event() -> None:
    event, other = slipring.Event("go"), slipring.Event("go")
    assert not event.is_set()
    with pytest.raises(slipring.Timeout):
        event.wait(0.02)
    thread = threading.Thread(daemon=True, target=event.wait, args=[SOON])
    thread.start()
    other.set()
    thread.join(SOON)
    assert event.is_set() and event.reset() and not other.is_set() and not other.reset()


SERVE = """
import slipring.rpc
kept = []
with slipring.rpc.Server("prices", slots=64, payload=128) as server:
    print("serves", flush=True)
    for request in server:
        if request.payload == b"stop":
            request.reply(b"")
            break
        if request.payload == b"refuse":
            request.refuse()
            continue
        if request.payload != b"never":
            request.reply(request.payload.upper())
        else:
            kept.append(request)
"""


def test_calls(python: Start) -> None:
    process = python(SERVE)
    assert process.stdout is not None and process.stdout.readline() == "serves\n"
    client = rpc.Client("prices")
    assert client.call(b"hello", SOON) == b"HELLO" and client.has_server
    for i in range(200):
        assert client.call(f"eurusd {i}".encode(), SOON) == f"EURUSD {i}".encode()
    with pytest.raises(slipring.Unanswered):
        client.call(b"refuse", SOON)
    with pytest.raises(slipring.Timeout):
        client.call(b"never", 0.05)
    with pytest.raises(slipring.TooLarge):
        client.call(bytes(100_000))

    async def many() -> list[bytes]:
        with pytest.raises(slipring.Timeout):
            await client.call_async(b"never", 0.05)
        return await asyncio.gather(*(client.call_async(f"a{i}".encode(), SOON) for i in range(20)))

    assert asyncio.run(many()) == [f"A{i}".encode() for i in range(20)]
    client.call(b"stop", SOON)
    assert process.wait(SOON) == 0
    client.close()
    client.close()
    with pytest.raises(slipring.HandleClosed):
        client.call(b"x")
    rpc.Server.remove("prices")


def test_a_killed_server_ends_the_call_of_each_client(python: Start) -> None:
    process = python(SERVE)
    assert process.stdout is not None and process.stdout.readline() == "serves\n"
    ended: list[type] = []

    def call() -> None:
        try:
            rpc.Client("prices").call(b"never", SOON)
        except slipring.Error as error:
            ended.append(type(error))

    threads = [threading.Thread(daemon=True, target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    began = time.monotonic()
    process.kill()
    process.wait()
    for thread in threads:
        thread.join(SOON)
    assert ended == [slipring.PeerDead] * 5 and time.monotonic() - began < 10


def test_a_server_of_several_threads() -> None:
    server = rpc.Server("work", slots=64, payload=64)

    def answer(request: rpc.Request) -> None:
        time.sleep(0.01)
        assert request.time_left is not None and not request.cancelled
        request.reply(request.payload * 2)

    def serve() -> None:
        try:
            for request in server:
                threading.Thread(daemon=True, target=answer, args=[request]).start()
        except slipring.HandleClosed:
            pass

    thread = threading.Thread(daemon=True, target=serve)
    thread.start()
    client = rpc.Client("work")
    results: list[bytes] = []
    callers = [threading.Thread(daemon=True, target=lambda i=i: results.append(client.call(bytes([i]), SOON))) for i in range(10)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(SOON)
    assert sorted(results) == [bytes([i, i]) for i in range(10)]
    server.close()
    thread.join(SOON)
    with pytest.raises(slipring.Error):
        client.call(b"x", 0.1)


def test_calls_have_no_types_of_messages() -> None:
    for wrong in (dict(message_type="Quote"), dict(create=True)):
        for make in (rpc.Server, rpc.Client):
            with pytest.raises(slipring.Unsupported, match="message_type"):
                make("typed", **wrong)  # type: ignore[arg-type]


def test_no_descriptor_is_left() -> None:
    tx, rx = slipring.pair()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(slipring.SystemFailure) as raised:
            rx.fileno()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised.value.errno == errno.EMFILE
    tx.send(b"x")
    assert select.select([rx], [], [], SOON)[0] == [rx]


def test_an_explained_failure_has_its_errno(tmp_path: Path) -> None:
    with pytest.raises(slipring.SystemFailure) as raised:
        slipring.Producer("x", create=True, directory=str(tmp_path / "missing" / "deeper"))
    assert raised.value.errno == errno.ENOENT


def test_a_set_waits_for_all_of_them() -> None:
    tx, rx = slipring.pair(capacity=4096)
    event, here_there = slipring.Event("go"), socket.socketpair()
    waits = slipring.WaitSet()
    members = [rx, event, here_there[0]]
    tokens = [waits.add(member) for member in members]
    assert len(waits) == 3 and waits.wait(0) == []
    with pytest.raises(slipring.Timeout):
        waits.wait(0.02)
    tx.send(b"frame")
    assert waits.wait(SOON) == [rx]
    rx.recv().release()
    event.set()
    assert waits.wait(SOON) == [event]
    event.reset()
    here_there[1].send(b"x")
    assert waits.wait(SOON) == [here_there[0]]
    assert waits.remove(tokens[2]) and not waits.remove(tokens[2])
    assert waits.wait(0) == []
    while tx.try_send(bytes(1000)):
        pass
    room = slipring.WaitSet()
    room.add(tx, room=1000)
    assert room.wait(0) == []
    rx.recv_batch(100)
    assert room.wait(SOON) == [tx]
    for wrong in ("text", object()):
        with pytest.raises(TypeError):
            waits.add(wrong)
    with pytest.raises(slipring.Invalid):
        waits.add(-1)
    for end in here_there:
        end.close()


@pytest.mark.parametrize("scheme", ["unix", "fifo", "seqpacket", "ring"])
def test_transports(scheme: str, tmp_path: Path) -> None:
    address = "wire" if scheme == "ring" else str(tmp_path / "wire")
    listen = "?listen" if scheme in ("unix", "seqpacket") else ""
    received: list[tuple[bytes, int]] = []

    def receive() -> None:
        with slipring.open_receiver(f"{scheme}:{address}{listen}", SOON) as rx:
            for frame in rx:
                assert not frame.in_place
                received.append((bytes(frame), frame.kind))

    thread = threading.Thread(daemon=True, target=receive)
    thread.start()
    deadline = time.monotonic() + SOON
    while True:
        try:
            tx = slipring.open_sender(f"{scheme}:{address}", SOON)
            break
        except slipring.NotFound:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    for i in range(500):
        tx.send(bytes([i % 256]) * 10, kind=0x105)
    with pytest.raises(slipring.Unsupported):
        tx.reserve(10)
    tx.close()
    thread.join(SOON)
    assert received == [(bytes([i % 256]) * 10, 0x105) for i in range(500)]


def test_transports_in_a_loop(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> int:
        opening = asyncio.create_task(asyncio.to_thread(slipring.open_receiver, f"unix:{path}?listen", SOON))
        while not path.exists():
            await asyncio.sleep(0.01)
        tx = slipring.open_sender(f"unix:{path}", SOON)
        await tx.send_async(b"0")
        rx = await opening

        async def send() -> None:
            for i in range(300):
                await tx.send_async(bytes(5000))
            await asyncio.to_thread(tx.close)

        sending = asyncio.create_task(send())
        count = 0
        async for _ in rx.aio():
            count += 1
        await sending
        return count

    assert asyncio.run(asyncio.wait_for(main(), SOON)) == 301


def test_a_connection_that_takes_long_to_open() -> None:
    """Each byte comes late, as from a distant host. The listener must stay open meanwhile."""
    with socket.socket() as listener, socket.socket() as free:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        free.bind(("127.0.0.1", 0))
        near, far = listener.getsockname()[1], free.getsockname()[1]
        free.close()

        def carry(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):  # an end may leave before the other's last bytes come
                while data := source.recv(4096):
                    time.sleep(0.2)
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)

        def proxy() -> None:
            source, _ = listener.accept()
            while True:
                try:
                    target = socket.create_connection(("127.0.0.1", far))
                    break
                except ConnectionRefusedError:
                    time.sleep(0.01)
            with source, target:
                back = threading.Thread(target=carry, args=[target, source], daemon=True)
                back.start()
                carry(source, target)
                back.join(SOON)

        received: list[bytes] = []

        def receive() -> None:
            with slipring.open_receiver(f"tcp:127.0.0.1:{far}?listen", SOON) as rx:
                received.extend(bytes(frame) for frame in rx)

        threads = [threading.Thread(target=run, daemon=True) for run in (proxy, receive)]
        for thread in threads:
            thread.start()
        with slipring.open_sender(f"tcp:127.0.0.1:{near}", SOON) as tx:
            tx.send(b"from afar", SOON)
        for thread in threads:
            thread.join(SOON)
        assert received == [b"from afar"]


def test_bad_endpoints() -> None:
    for open_end in (slipring.open_sender, slipring.open_receiver):
        with pytest.raises(slipring.Invalid):
            open_end("carrier-pigeon:coop", 1)
    with pytest.raises(slipring.Error):
        slipring.open_sender("unix:/nonexistent/socket", 0.05)


def test_a_signal_handler_runs_during_a_wait() -> None:
    _, rx = slipring.pair(capacity=4096)
    ran: list[float] = []
    before = signal.signal(signal.SIGALRM, lambda *_: ran.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(slipring.Timeout):
            rx.recv(1.0)
        ended = time.monotonic()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(ran) == 1 and ended - ran[0] > 0.5
