"""The exceptions. Each is an `Error`; where Python has a class for the same thing, it is that, too."""


class Error(Exception):
    """Any error of slipring. The message says what is wrong and what to do."""


class Full(Error):
    """There is no room now: wait for the consumer (a longer `timeout`), or drop the message."""


class Empty(Error):
    """There is nothing to receive now: wait for the producer (a longer `timeout`)."""


class Timeout(Error, TimeoutError):
    """The time is over, and nothing has happened."""


class Closed(Error):
    """The other side has closed, and everything that it sent was received."""


class PeerDead(Error, ConnectionError):
    """A peer died without closing. Everything that it had committed was received first."""


class Evicted(Error):
    """The publisher has evicted this subscriber for being slow: subscribe again, or be lossy."""


class Unanswered(Error):
    """The server dropped the request without an answer."""


class NoConsumer(Error):
    """No consumer is attached, and `fail_without_consumer` asks for one."""


class Overtaken(Error):
    """The value was replaced faster than it could be copied: read again."""


class Cancelled(Error):
    """The call was told not to wait."""


class HandleClosed(Error, ValueError):
    """This handle was closed by `close()`: open another one."""


class Busy(Error):
    """Another call of this handle is under way: a grant is open, or another thread waits."""


class Released(Error, ValueError):
    """This frame or grant was released, committed or aborted before: it has no bytes any more."""


class Forked(Error):
    """The handle belongs to the parent process: open the ring again in this one."""


class TooLarge(Error, ValueError):
    """The payload does not fit: split it, or create the ring with a higher limit."""


class TypeMismatch(Error, TypeError):
    """The messages have another type than `message_type` says. `expected` and `found` name both."""

    expected: str
    found: str


class Incompatible(Error, ValueError):
    """The ring has another kind, version or type of frames than this side expects."""


class Corrupt(Error):
    """Shared memory or a byte stream contains what no correct peer writes."""


class NotFound(Error, FileNotFoundError):
    """There is nothing of that name, or no peer listens there: start the other side first."""


class Exists(Error, FileExistsError):
    """The name is in use: open it, remove it, or choose another name."""


class NoRoom(Error):
    """The role, the participant ids or the lanes of the ring are taken."""


class Invalid(Error, ValueError):
    """A name, size or option that is never valid."""


class Untrusted(Error, PermissionError):
    """Refused for safety: the file or directory is not as a trustworthy peer creates it."""


class Unsupported(Error):
    """The machine, the kernel or the kind of handle does not support this."""


class SystemFailure(Error, OSError):
    """A system call failed; `errno` says how."""


for _class in list(globals().values()):
    if isinstance(_class, type) and issubclass(_class, Error):
        _class.__module__ = "slipring"
