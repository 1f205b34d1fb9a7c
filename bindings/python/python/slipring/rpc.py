"""Calls: a client sends a request, a server answers it.

One process:

    with slipring.rpc.Server("prices") as server:
        for request in server:
            request.reply(b"1.0842" if request.payload == b"EURUSD" else b"?")

Another:

    with slipring.rpc.Client("prices") as client:
        print(client.call(b"EURUSD", timeout=1))

If the server ends or is killed, each call that waits ends at once, with `Closed` or `PeerDead`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Self, Unpack

from . import Closed, Options, Timeout, _aio, _Handle, _native
from ._native import Request

__all__ = ["Client", "Request", "Server"]


class Client(_native.Client, _Handle):
    """A client of the server `name`, which must have been started once. Threads and tasks may call at once."""

    __slots__ = ()

    def __new__(cls, name: str, **options: Unpack[Options]) -> Self:
        return super().__new__(cls, name, **options)

    async def call_async(self, request: Any, timeout: float | None = None) -> bytes:
        """`call` in a running event loop. Cancelling the task cancels the call."""
        calling = self.begin_call(request, timeout)
        try:
            async with asyncio.timeout(timeout):
                while (reply := calling.poll()) is None:
                    await _aio.readable(calling, calling.fileno())
                return reply
        except TimeoutError:
            raise Timeout("timed out") from None
        finally:
            calling.cancel()


class Server(_native.Server, _Handle):
    """Serves up to `clients` clients at a time under `name`: `slots` requests of up to `payload` bytes."""

    __slots__ = ()

    def __new__(
        cls,
        name: str,
        clients: int = 16,
        *,
        slots: int | None = None,
        payload: int | None = None,
        **options: Unpack[Options],
    ) -> Self:
        return super().__new__(cls, name, clients, slots=slots, payload=payload, **options)

    def __iter__(self) -> Iterator[Request]:
        """The requests, waiting for each. One that is dropped without a reply is refused."""
        while True:
            try:
                request = self.recv()
            except Closed:
                return
            yield request
            del request
