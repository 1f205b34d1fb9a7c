"""Event loops: asyncio and select, by descriptor."""

import asyncio
import select
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy
import pytest
import slipring
from conftest import SOON


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(main(), SOON)

    return asyncio.run(limited())


@pytest.mark.parametrize("kind", ["spsc", "mpmc"])
def test_frames_come_to_tasks(kind: str) -> None:
    tx, rx = slipring.pair(kind=kind, capacity=4096, slots=16, payload=800)  # type: ignore[arg-type]

    async def send() -> None:
        for i in range(1000):
            await tx.send_async(i.to_bytes(8, "little") * 100)
        tx.close()

    async def receive() -> int:
        seen = 0
        async for frame in rx.aio():
            # An array of the frame before lives while the next one is awaited.
            array = numpy.frombuffer(frame, numpy.int64)
            assert (array == seen).all()
            seen += 1
        return seen

    async def main() -> int:
        return (await asyncio.gather(receive(), send()))[0]

    assert run(main) == 1000


def test_a_waiting_task_costs_nothing_while_it_holds_a_frame() -> None:
    tx, rx = slipring.pair(capacity=4096)
    tx.send(b"held")

    async def main() -> None:
        frame = await rx.recv_async()
        before = time.process_time()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(rx.recv_async(), 0.5)
        assert time.process_time() - before < 0.25
        assert bytes(frame) == b"held"

    run(main)


def test_a_cancelled_task_has_taken_nothing() -> None:
    tx, rx = slipring.pair(capacity=4096)

    async def main() -> None:
        waiting = asyncio.create_task(rx.recv_async())
        await asyncio.sleep(0.02)
        waiting.cancel()
        tx.send(b"kept")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert bytes(await rx.recv_async()) == b"kept"

    run(main)


def test_several_tasks_wait_for_one_ring() -> None:
    tx, rx = slipring.pair(kind="mpmc", slots=16, payload=8)

    async def main() -> list[bytes]:
        waiting = [asyncio.create_task(rx.recv_async()) for _ in range(4)]
        await asyncio.sleep(0.02)
        for i in range(4):
            tx.send(bytes([i]))
        return sorted(bytes(frame) for frame in await asyncio.gather(*waiting))

    assert run(main) == [b"\0", b"\1", b"\2", b"\3"]


def test_the_end_comes_to_tasks() -> None:
    tx, rx = slipring.pair(capacity=4096)

    async def main() -> None:
        waiting = asyncio.create_task(rx.recv_async())
        await asyncio.sleep(0.02)
        tx.close()
        with pytest.raises(slipring.Closed):
            await waiting

    run(main)


def test_the_loops_of_two_threads() -> None:
    tx, rx = slipring.pair(capacity=4096)
    back_tx, back_rx = slipring.pair(capacity=4096)

    async def echo() -> None:
        async for frame in rx.aio():
            await back_tx.send_async(frame)

    async def ask() -> None:
        for i in range(200):
            await tx.send_async(bytes([i]))
            assert bytes(await back_rx.recv_async()) == bytes([i])
        tx.close()

    thread = threading.Thread(daemon=True, target=lambda: run(echo))
    thread.start()
    run(ask)
    thread.join(SOON)


def test_select_sees_frames_and_room() -> None:
    tx, rx = slipring.pair(capacity=4096)
    assert select.select([rx], [], [], 0) == ([], [], [])
    tx.send(b"hello")
    assert select.select([rx], [], [], SOON)[0] == [rx]
    assert rx.try_recv() is not None and rx.try_recv() is None
    assert select.select([rx], [], [], 0)[0] == []
    while tx.try_send(bytes(1000)):
        pass
    fd = tx.fileno(1000)
    assert not tx.try_send(bytes(1000))
    assert select.select([fd], [], [], 0)[0] == []
    while rx.try_recv() is not None:
        pass
    assert select.select([fd], [], [], SOON)[0] == [fd]
    assert tx.try_send(bytes(1000))


def test_the_other_handles_in_a_loop() -> None:
    semaphore, mutex, event = slipring.Semaphore("s", 1), slipring.Mutex("m", 8), slipring.Event("e")
    writer, reader = slipring.StreamWriter("b", capacity=4096), slipring.StreamReader("b")
    board, view = slipring.LatestWriter("l", cells=4, size=16), slipring.LatestReader("l")

    async def main() -> None:
        permit, guard = semaphore.acquire(), mutex.lock()
        waiting = [
            asyncio.create_task(call)
            for call in (
                semaphore.acquire_async(),
                mutex.lock_async(),
                event.wait_async(),
                reader.read_async(10),
                view.changed_async(),
            )
        ]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        permit.release()
        guard.unlock()
        event.set()
        board.write(b"value", 2)
        await writer.write_async(b"bytes")
        results = await asyncio.gather(*waiting)
        assert results[3] == b"bytes" and results[4] == 2
        data = bytes(100_000)
        _, received = await asyncio.gather(writer.write_async(data), read_all(reader, len(data)))
        assert received == data

    async def read_all(reader: slipring.StreamReader, size: int) -> bytes:
        received = b""
        while len(received) < size:
            received += await reader.read_async(5000)
        return received

    run(main)


def test_close_ends_the_wait_of_tasks() -> None:
    (full, _rx), (_tx, empty) = slipring.pair(capacity=4096), slipring.pair()
    while full.try_send(b""):
        pass
    writer, _reader = slipring.StreamWriter("full", capacity=4096), slipring.StreamReader("full")
    while writer.try_write(bytes(1000)):
        pass
    _writer, reader = slipring.StreamWriter("empty"), slipring.StreamReader("empty")
    _board, view = slipring.LatestWriter("board"), slipring.LatestReader("board")

    async def main() -> None:
        waits = {
            full: full.send_async(b""),
            empty: empty.recv_async(),
            writer: writer.write_async(bytes(1000)),
            reader: reader.read_async(1),
            view: view.changed_async(),
        }
        tasks = [asyncio.create_task(wait) for wait in waits.values()]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks)
        for handle in waits:
            handle.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [slipring.HandleClosed] * 5

    run(main)


def test_nothing_is_read_and_sent() -> None:
    tx, rx = slipring.pair(capacity=4096)
    while tx.try_send(b""):
        pass
    writer, reader = slipring.StreamWriter("b"), slipring.StreamReader("b")

    async def main() -> None:
        task = asyncio.create_task(tx.send_async(numpy.zeros((0, 3))))
        await asyncio.sleep(0)
        while rx.try_recv() is not None:
            pass
        await task
        assert len(await rx.recv_async()) == 0
        await writer.write_async(numpy.zeros((0, 3)))
        assert reader.try_read(0) == b"" == await reader.read_async(0)
        await writer.write_async(b"x")
        assert await reader.read_async(0) == b"" and await reader.read_async(1) == b"x"

    run(main)
