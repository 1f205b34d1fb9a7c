"""Crash-safe shared-memory IPC for Linux.

Rings between processes (`Producer`, `Consumer`, `Publisher`, `Subscriber`), received in place by the
buffer protocol; the other transports (`open_sender`, `open_receiver`); and what goes with them. Each
name is documented where it is defined; the package's README has whole programs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from os import PathLike
from types import TracebackType
from typing import Any, Literal, NamedTuple, NoReturn, Self, TypedDict, Unpack

from . import _aio, _native
from ._errors import (
    Busy,
    Cancelled,
    Closed,
    Corrupt,
    Empty,
    Error,
    Evicted,
    Exists,
    Forked,
    Full,
    HandleClosed,
    Incompatible,
    Invalid,
    NoConsumer,
    NoRoom,
    NotFound,
    Overtaken,
    PeerDead,
    Released,
    SystemFailure,
    Timeout,
    TooLarge,
    TypeMismatch,
    Unanswered,
    Unsupported,
    Untrusted,
)
from ._native import Frame, Grant, MutexGuard, Permit, list_rings, remove

__all__ = [
    "Busy",
    "Cancelled",
    "Closed",
    "Consumer",
    "Corrupt",
    "Empty",
    "Ended",
    "Error",
    "Event",
    "Evicted",
    "Exists",
    "Forked",
    "Frame",
    "Full",
    "Grant",
    "HandleClosed",
    "Incompatible",
    "Invalid",
    "LatestReader",
    "LatestWriter",
    "Mutex",
    "MutexGuard",
    "NoConsumer",
    "NoRoom",
    "NotFound",
    "Overtaken",
    "PeerDead",
    "Permit",
    "Producer",
    "Publisher",
    "Reading",
    "Receiver",
    "Released",
    "Semaphore",
    "Sender",
    "StreamReader",
    "StreamWriter",
    "Subscriber",
    "SystemFailure",
    "Timeout",
    "TooLarge",
    "TypeMismatch",
    "Unanswered",
    "Unsupported",
    "Untrusted",
    "WaitSet",
    "list_rings",
    "open_receiver",
    "open_sender",
    "pair",
    "remove",
    "rpc",
]


class Options(TypedDict, total=False):
    """Keywords that every ring has. Sizes and modes count where the ring is created."""

    directory: str | PathLike[str] | None
    """Where named rings are: `$SLIPRING_DIR`, else `$XDG_RUNTIME_DIR/slipring`, else
    `/dev/shm/slipring-<uid>`."""
    message_type: str | None
    """The type of the messages, as a text: a side that states another one gets `TypeMismatch`."""
    create: bool | None
    """True: it must be new. False: it must exist. None: whichever it is."""
    participants: int | None
    """How many handles may be attached at a time."""
    mode: int | None
    """The file mode, 0o600 by default."""
    trust_group: bool | None
    """Accept a ring to which its group can write."""
    redeliver: bool | None
    """Whether frames that a dead consumer held are delivered again (the default), or lost."""
    fail_without_consumer: bool | None
    """Whether sending fails while no consumer is attached."""
    idle: Literal["spin", "yield", "backoff", "park"] | None
    """How waits spin before they sleep."""
    wake: Literal["poll", "asymmetric", "fenced"] | None
    """How a notifier finds out whether a waiter sleeps."""


class Ended(NamedTuple):
    """The end of a producer of an mpsc ring, whose frames were all received before."""

    lane: int
    producer: int
    died: bool


class _Handle:
    """What all handles have: they are context managers, and belong to their process."""

    __slots__ = ()

    def close(self) -> None:
        """Leaves. More than once is harmless; other calls then raise `HandleClosed`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} belongs to its process: pass the name, and open it there")


class Sender(_native.Sender, _Handle):
    """The sending end of any transport, by `open_sender`; what producers and publishers have in common."""

    __slots__ = ()

    async def send_async(self, payload: Any, *, kind: int | None = None, stream: int = 0) -> None:
        """Sends in a running event loop, which goes on while there is no room. A cancelled call has sent
        nothing."""
        while not self.try_send(payload, kind=kind, stream=stream):
            await _aio.readable(self, self.fileno(memoryview(payload).nbytes))


class Receiver(_native.Receiver, _Handle):
    """The receiving end of any transport, by `open_receiver`; what consumers have in common."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Frame]:
        """The frames, waiting for each, until the other side has closed; other ends raise. A frame is
        released when the next one is asked for, or by the last view of it: to keep frames, use `recv`."""
        while True:
            try:
                frame = self.recv()
            except Closed:
                return
            with frame:
                yield frame
            del frame

    async def recv_async(self) -> Frame:
        """Receives in a running event loop, which goes on meanwhile. A cancelled call has taken nothing."""
        while (frame := self.try_recv()) is None:
            await _aio.readable(self, self.fileno())
        return frame

    async def aio(self) -> AsyncIterator[Frame]:
        """`iter(self)` for `async for`."""
        while True:
            try:
                frame = await self.recv_async()
            except Closed:
                return
            with frame:
                yield frame
            del frame

    def ends(self) -> list[Ended]:
        """The ends of producers of an mpsc ring since the last call."""
        return [Ended(*end) for end in self.take_ends()]


class Producer(Sender):
    """Sends frames into a ring, by name. The ring is created if it does not exist.

    `kind` is "spsc" (one producer, one consumer; `capacity` in bytes), "mpmc" (many of both; `slots` of
    `payload` bytes) or "mpsc" (many producers; `lanes` of `capacity` bytes). Without it, it is that of
    the existing ring, else "spsc".
    """

    __slots__ = ()

    def __new__(
        cls,
        name: str,
        *,
        kind: Literal["spsc", "mpmc", "mpsc"] | None = None,
        capacity: int | None = None,
        slots: int | None = None,
        payload: int | None = None,
        lanes: int | None = None,
        **options: Unpack[Options],
    ) -> Self:
        return super().__new__(
            cls, name, kind=kind, capacity=capacity, slots=slots, payload=payload, lanes=lanes, **options
        )


class Consumer(Receiver):
    """Receives the frames of a ring, by name. The keywords are those of `Producer`."""

    __slots__ = ()

    def __new__(
        cls,
        name: str,
        *,
        kind: Literal["spsc", "mpmc", "mpsc"] | None = None,
        capacity: int | None = None,
        slots: int | None = None,
        payload: int | None = None,
        lanes: int | None = None,
        **options: Unpack[Options],
    ) -> Self:
        return super().__new__(
            cls, name, kind=kind, capacity=capacity, slots=slots, payload=payload, lanes=lanes, **options
        )


class Publisher(Sender):
    """Sends frames to many subscribers, each of which receives every frame.

    It waits for reliable subscribers that are slow. With `evict_after` it evicts those that leave no
    room for so many seconds; with `fail_when_full` it raises `Full` instead of waiting.
    """

    __slots__ = ()

    def __new__(
        cls,
        name: str,
        *,
        capacity: int | None = None,
        evict_after: float | None = None,
        fail_when_full: bool = False,
        **options: Unpack[Options],
    ) -> Self:
        return super().__new__(
            cls,
            name,
            kind="broadcast",
            capacity=capacity,
            evict_after=evict_after,
            fail_when_full=fail_when_full,
            **options,
        )


class Subscriber(Receiver):
    """Receives every frame of a publisher, from `start` on.

    A lossy subscriber never holds the publisher back: its frames are copies, and those that were
    overwritten before it came to them are counted in `Frame.missed` of the next one.
    """

    __slots__ = ()

    def __new__(
        cls,
        name: str,
        *,
        capacity: int | None = None,
        lossy: bool = False,
        start: Literal["latest", "oldest"] = "latest",
        **options: Unpack[Options],
    ) -> Self:
        return super().__new__(
            cls, name, kind="broadcast", capacity=capacity, lossy=lossy, start=start, **options
        )


class StreamWriter(_native.StreamWriter, _Handle):
    """Writes bytes into a ring without frames, by name; `capacity` in bytes."""

    __slots__ = ()

    def __new__(cls, name: str, *, capacity: int | None = None, **options: Unpack[Options]) -> Self:
        return super().__new__(cls, name, capacity=capacity, **options)

    async def write_async(self, data: Any) -> None:
        """Writes all of `data` in a running event loop. A cancelled call may have written a part."""
        left = memoryview(data)
        left = left.cast("B") if left.nbytes else memoryview(b"")
        while left:
            if written := self.try_write(left):
                left = left[written:]
            else:
                await _aio.readable(self, self.fileno())


class StreamReader(_native.StreamReader, _Handle):
    """Reads bytes from a ring without frames, by name."""

    __slots__ = ()

    def __new__(cls, name: str, *, capacity: int | None = None, **options: Unpack[Options]) -> Self:
        return super().__new__(cls, name, capacity=capacity, **options)

    async def read_async(self, size: int) -> bytes:
        """Reads at least one byte in a running event loop; b"" at the end."""
        while (data := self.try_read(size)) is None:
            await _aio.readable(self, self.fileno())
        return data


class Reading(NamedTuple):
    """A latest value."""

    value: bytes
    version: int
    """How often the cell was written."""
    skipped: int
    """Values that were replaced before this reader came to them."""


class LatestWriter(_native.LatestWriter, _Handle):
    """Replaces the values of a board, by name: `cells` values of up to `size` bytes. Never waits."""

    __slots__ = ()

    def __new__(
        cls, name: str, *, cells: int | None = None, size: int | None = None, **options: Unpack[Options]
    ) -> Self:
        return super().__new__(cls, name, cells=cells, size=size, **options)


class LatestReader(_native.LatestReader, _Handle):
    """Reads the newest values of a board, by name. Many readers do not disturb the writer."""

    __slots__ = ()

    def __new__(
        cls, name: str, *, cells: int | None = None, size: int | None = None, **options: Unpack[Options]
    ) -> Self:
        return super().__new__(cls, name, cells=cells, size=size, **options)

    def read(self, cell: int = 0, timeout: float | None = None) -> Reading:
        """The newest value of a cell; waits if it has none yet."""
        return Reading(*self.read_tuple(cell, timeout))

    def try_read(self, cell: int = 0) -> Reading | None:
        """The newest value of a cell, or None if it has none yet."""
        found = self.try_read_tuple(cell)
        return None if found is None else Reading(*found)

    async def changed_async(self) -> int:
        """A watched cell with a value that was not read, in a running event loop."""
        while (cell := self.try_changed()) is None:
            await _aio.readable(self, self.fileno())
        return cell


class _Named:
    """What belongs to its process, and is shared by name."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} belongs to its process: pass the name, and open it there")


class Semaphore(_native.Semaphore, _Named):
    """A counting semaphore between processes, by name: of `permits`, or the existing one. The
    permits of a killed process come back."""

    __slots__ = ()

    async def acquire_async(self) -> Permit:
        """Takes a permit in a running event loop."""
        while (permit := self.try_acquire()) is None:
            await _aio.readable(self, self.fileno())
        return permit


class Mutex(_native.Mutex, _Named):
    """A mutex between processes, by name, with the `size` bytes that it protects, or the existing one."""

    __slots__ = ()

    async def lock_async(self) -> MutexGuard:
        """Locks it in a running event loop."""
        while (guard := self.try_lock()) is None:
            await _aio.readable(self, self.fileno())
        return guard


class Event(_native.Event, _Named):
    """A flag between processes, by name, that stays set until it is reset."""

    __slots__ = ()

    async def wait_async(self) -> None:
        """Waits in a running event loop until it is set."""
        while not self.is_set():
            await _aio.readable(self, self.fileno())


class WaitSet(_native.WaitSet, _Named):
    """Waits for many things at once: frames, room, bytes, values, permits, events, descriptors."""

    __slots__ = ()


def pair(
    *,
    kind: Literal["spsc", "mpmc"] = "spsc",
    capacity: int | None = None,
    slots: int | None = None,
    payload: int | None = None,
) -> tuple[Sender, Receiver]:
    """A producer and a consumer of an anonymous ring, for threads of this process."""
    tx, rx = _native.pair(kind=kind, capacity=capacity, slots=slots, payload=payload)
    return Sender(tx), Receiver(rx)


def open_sender(endpoint: str, timeout: float | None = None) -> Sender:
    """Opens the sending end of an endpoint, as the `slipring` command names it: `tcp:localhost:7000`,
    `unix:/run/app/ticks`, `fifo:PATH`, `ring:NAME`. May wait for a peer, at most `timeout` seconds."""
    return Sender(_native.open_sender(endpoint, timeout))


def open_receiver(endpoint: str, timeout: float | None = None) -> Receiver:
    """Opens the receiving end of an endpoint. Frames are copies. May wait for a peer, at most `timeout`
    seconds; after Ctrl-C in that wait, a socket may go on listening for 10 seconds."""
    return Receiver(_native.open_receiver(endpoint, timeout))


from . import rpc  # noqa: E402: it uses the classes above
