"""Waiting for a descriptor in the running event loop."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

_waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, set[asyncio.Future[None]]]] = WeakKeyDictionary()


async def readable(handle: object, fd: int) -> None:
    """Returns when `fd` is readable. Several tasks may wait for one descriptor; all are woken. The handle
    is kept, so that its descriptor is not closed meanwhile."""
    loop = asyncio.get_running_loop()
    waiting = _waiting.setdefault(loop, {})
    future = loop.create_future()
    tasks = waiting.setdefault(fd, set())
    if not tasks:
        loop.add_reader(fd, _wake, tasks)
    tasks.add(future)
    try:
        await future
    finally:
        tasks.discard(future)
        if not tasks and waiting.get(fd) is tasks:
            loop.remove_reader(fd)
            del waiting[fd]
        del handle


def _wake(tasks: set[asyncio.Future[None]]) -> None:
    for future in tasks:
        if not future.done():
            future.set_result(None)
