//! Error codes, their texts, and the text of the last failure of each thread.
//!
//! Used by every call. A code is an errno value where one says the same, otherwise a number above
//! all of Linux's (4095); functions return it negated.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};
use std::fmt::{self, Write};
use std::io;

use slipring::Error;

/// Full or empty: nothing can be done now. Wait, or call again with a time-out.
pub const SLIPRING_EAGAIN: c_int = 11;
/// The time-out passed.
pub const SLIPRING_ETIMEDOUT: c_int = 110;
/// Closed: the other side has finished, and everything it sent was received.
pub const SLIPRING_EPIPE: c_int = 32;
/// An argument or an option is invalid: see slipring_last_error().
pub const SLIPRING_EINVAL: c_int = 22;
/// The frame or the buffer has the wrong size: see slipring_last_error() for the limit.
pub const SLIPRING_EMSGSIZE: c_int = 90;
/// There is nothing of that name: create it, or start the other side first.
pub const SLIPRING_ENOENT: c_int = 2;
/// The name or address is in use.
pub const SLIPRING_EEXIST: c_int = 17;
/// This kind of handle, ring or machine cannot do that.
pub const SLIPRING_EOPNOTSUPP: c_int = 95;
/// A canceller ended the wait.
pub const SLIPRING_ECANCELED: c_int = 125;
/// The count of a signal semaphore would exceed its maximum.
pub const SLIPRING_EOVERFLOW: c_int = 75;
/// The handle is in a call of another thread, or of the code that a signal handler interrupted.
pub const SLIPRING_EBUSY: c_int = 16;
/// A peer died without closing. All that it had committed was delivered first.
pub const SLIPRING_EPEERDEAD: c_int = 5001;
/// No handle: NULL, closed already, of another type, or never returned by this library.
pub const SLIPRING_EHANDLE: c_int = 5002;
/// The handle belongs to another thread: open one for each thread, or call slipring_take().
pub const SLIPRING_EWRONGTHREAD: c_int = 5003;
/// The handle belongs to the parent process: open it again after fork.
pub const SLIPRING_EFORKED: c_int = 5004;
/// The handle holds a frame, a reservation or a request: finish that first.
pub const SLIPRING_EHELD: c_int = 5005;
/// The handle holds nothing that could be committed, released, unlocked or answered.
pub const SLIPRING_ENOTHELD: c_int = 5006;
/// The messages have another type: slipring_last_error() names both.
pub const SLIPRING_EOTHERTYPE: c_int = 5007;
/// The other side uses another version or kind, another number of permits, or another size of a
/// mutex. The sizes of a ring that exists are not compared with the options: it is used as it is.
pub const SLIPRING_EINCOMPATIBLE: c_int = 5008;
/// Shared memory or a byte stream contains what no correct peer writes.
pub const SLIPRING_ECORRUPT: c_int = 5009;
/// Refused for safety: the file or directory is not as a trustworthy peer would have created it.
pub const SLIPRING_EUNTRUSTED: c_int = 5010;
/// A living participant holds the role already: one producer, or one consumer.
pub const SLIPRING_EROLETAKEN: c_int = 5011;
/// All participant ids or lanes are in use.
pub const SLIPRING_ETOOMANY: c_int = 5012;
/// No consumer is attached, and SLIPRING_FAIL_WITHOUT_CONSUMER was set.
pub const SLIPRING_ENOCONSUMER: c_int = 5013;
/// The publisher has evicted this subscriber, because it was too slow.
pub const SLIPRING_EEVICTED: c_int = 5014;
/// A latest value was replaced faster than it could be copied: read again.
pub const SLIPRING_EOVERTAKEN: c_int = 5015;
/// The server dropped the request without an answer.
pub const SLIPRING_EUNANSWERED: c_int = 5016;
/// All 65,536 handles of this process are in use.
pub const SLIPRING_ETOOMANYHANDLES: c_int = 5017;

const _: () = {
    assert!(SLIPRING_EAGAIN == libc::EAGAIN && SLIPRING_ETIMEDOUT == libc::ETIMEDOUT && SLIPRING_EPIPE == libc::EPIPE);
    assert!(SLIPRING_EINVAL == libc::EINVAL && SLIPRING_EMSGSIZE == libc::EMSGSIZE && SLIPRING_ENOENT == libc::ENOENT);
    assert!(SLIPRING_EEXIST == libc::EEXIST && SLIPRING_EOPNOTSUPP == libc::EOPNOTSUPP);
    assert!(SLIPRING_ECANCELED == libc::ECANCELED && SLIPRING_EOVERFLOW == libc::EOVERFLOW);
    assert!(SLIPRING_EBUSY == libc::EBUSY);
};

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error of the library.
    Library(Error),
    /// A code of this interface.
    Own(c_int),
    /// A code, and what to do about it.
    Told(c_int, &'static CStr),
    /// The same, with values.
    Said(c_int, Box<str>),
    /// [`SLIPRING_EHANDLE`].
    Handle(u64),
    /// [`SLIPRING_EMSGSIZE`]: a frame for a smaller buffer, of so many bytes.
    Buffer { size: usize, frame: usize },
}

impl Failure {
    pub(crate) const IN_CALL: Failure = Failure::Own(SLIPRING_EBUSY);
    pub(crate) const WRONG_THREAD: Failure = Failure::Own(SLIPRING_EWRONGTHREAD);
    pub(crate) const FORKED: Failure = Failure::Own(SLIPRING_EFORKED);
    pub(crate) const TOO_MANY_HANDLES: Failure = Failure::Own(SLIPRING_ETOOMANYHANDLES);
    pub(crate) const HELD: Failure = Failure::Own(SLIPRING_EHELD);
    pub(crate) const NOT_HELD: Failure = Failure::Own(SLIPRING_ENOTHELD);
    pub(crate) const NULL: Failure =
        Failure::Told(SLIPRING_EINVAL, c"a pointer argument is NULL: pass the address of an object");

    pub(crate) const MISALIGNED: Failure = Failure::Told(
        SLIPRING_EINVAL,
        c"a pointer argument is misaligned for its type: pass the address of an object of that type",
    );

    /// Of a pointer to an object that is none.
    #[cold]
    pub(crate) fn bad_pointer<T>(pointer: *const T) -> Self {
        if pointer.is_null() { Failure::NULL } else { Failure::MISALIGNED }
    }

    #[cold]
    pub(crate) fn bad_handle(handle: u64) -> Self {
        Failure::Handle(handle)
    }

    pub(crate) fn is_wrong_thread(&self) -> bool {
        matches!(self, Failure::Own(SLIPRING_EWRONGTHREAD))
    }

    fn code(&self) -> c_int {
        match self {
            Failure::Library(error) => code_of(error),
            Failure::Own(code) | Failure::Told(code, _) | Failure::Said(code, _) => *code,
            Failure::Handle(_) => SLIPRING_EHANDLE,
            Failure::Buffer { .. } => SLIPRING_EMSGSIZE,
        }
    }

    /// Whether `slipring_strerror` says all.
    fn is_plain(&self) -> bool {
        let is_plain = |error: &Error| matches!(error, Error::Full | Error::Empty | Error::Timeout | Error::Closed);
        matches!(self, Failure::Own(_)) || matches!(self, Failure::Library(error) if is_plain(error))
    }
}

/// What `slipring_strerror` does not say.
impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Library(error) => error.fmt(to),
            Failure::Own(code) => to.write_str(plain_meaning(*code)),
            Failure::Told(_, text) => to.write_str(text.to_str().unwrap_or_default()),
            Failure::Said(_, text) => to.write_str(text),
            Failure::Handle(0) => to.write_str("the handle is NULL: open one first, and check what opening returned"),
            Failure::Handle(handle) => {
                write!(to, "{handle:#x} is no open handle of that type: it was closed, or is of another type")
            }
            Failure::Buffer { size, frame } => {
                write!(to, "the buffer has {size} bytes, the frame {frame}: pass a larger one")
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Library(error)
    }
}

fn code_of(error: &Error) -> c_int {
    match error {
        Error::Full | Error::Empty => SLIPRING_EAGAIN,
        Error::Closed => SLIPRING_EPIPE,
        Error::PeerDead => SLIPRING_EPEERDEAD,
        Error::Overtaken => SLIPRING_EOVERTAKEN,
        Error::Evicted => SLIPRING_EEVICTED,
        Error::Unanswered => SLIPRING_EUNANSWERED,
        Error::Timeout => SLIPRING_ETIMEDOUT,
        Error::Cancelled => SLIPRING_ECANCELED,
        Error::TooLarge { .. } => SLIPRING_EMSGSIZE,
        Error::Corrupt { .. } => SLIPRING_ECORRUPT,
        Error::Incompatible { .. } => SLIPRING_EINCOMPATIBLE,
        Error::OtherType { .. } => SLIPRING_EOTHERTYPE,
        Error::Overflow { .. } => SLIPRING_EOVERFLOW,
        Error::NotFound => SLIPRING_ENOENT,
        Error::Exists => SLIPRING_EEXIST,
        Error::NoConsumer => SLIPRING_ENOCONSUMER,
        Error::RoleTaken { .. } => SLIPRING_EROLETAKEN,
        Error::TooManyParticipants { .. } | Error::NoFreeLane { .. } => SLIPRING_ETOOMANY,
        Error::Invalid { .. } => SLIPRING_EINVAL,
        Error::Untrusted { .. } => SLIPRING_EUNTRUSTED,
        Error::Unsupported { .. } => SLIPRING_EOPNOTSUPP,
        Error::Forked => SLIPRING_EFORKED,
        Error::Io { source, .. } => errno_of(source),
        _ => libc::EIO,
    }
}

/// The errno value of a system call, also of an error that says more than it.
fn errno_of(error: &io::Error) -> c_int {
    let within = || error.get_ref()?.source()?.downcast_ref::<io::Error>()?.raw_os_error();
    let of_kind = || match error.kind() {
        io::ErrorKind::NotFound => libc::ENOENT,
        io::ErrorKind::PermissionDenied => libc::EACCES,
        io::ErrorKind::TimedOut => libc::ETIMEDOUT,
        _ => libc::EIO,
    };
    error.raw_os_error().or_else(within).filter(|errno| *errno > 0).unwrap_or_else(of_kind)
}

/// Bytes of the text of a failure, with the NUL at its end.
const SPACE: usize = 512;

/// The text of a thread that has not failed.
const fn no_error() -> [Cell<u8>; SPACE] {
    let text = b"no error";
    let mut all = [const { Cell::new(0) }; SPACE];
    let mut at = 0;
    while at < text.len() {
        all[at] = Cell::new(text[at]);
        at += 1;
    }
    all
}

thread_local! {
    /// The code of which `TEXT` is the meaning; 0 if it says more than that.
    static PLAIN: Cell<c_int> = const { Cell::new(0) };
    /// What the last failure said. It is never freed while the thread runs, and its last byte is
    /// always NUL: a program that keeps its address has a text, if not the one that it wanted.
    static TEXT: [Cell<u8>; SPACE] = const { no_error() };
}

/// Fills a thread's text, in place: a call in a signal handler must not allocate.
struct Filling<'a> {
    text: &'a [Cell<u8>; SPACE],
    len: usize,
}

impl Write for Filling<'_> {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let mut room = (SPACE - 1 - self.len).min(more.len());
        let is_cut = room < more.len();
        while !more.is_char_boundary(room) {
            room -= 1;
        }
        for (to, byte) in self.text[self.len..].iter().zip(&more.as_bytes()[..room]) {
            to.set(if *byte == 0 { b'?' } else { *byte });
        }
        self.len += room;
        if is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The code to return for a failure, of which it notes the text as the thread's last.
#[cold]
#[inline(never)]
fn note(failure: &Failure) -> c_int {
    let code = failure.code();
    let plain = if failure.is_plain() { code } else { 0 };
    // A loop that finds the ring empty has this text already.
    if plain != 0 && PLAIN.get() == plain {
        return -code;
    }
    TEXT.with(|text| {
        let mut filling = Filling { text, len: 0 };
        // What is too long is cut.
        let _ = if plain == 0 { write!(filling, "{failure}") } else { filling.write_str(plain_meaning(code)) };
        text[filling.len].set(0);
    });
    PLAIN.set(plain);
    -code
}

fn plain_meaning(code: c_int) -> &'static str {
    meaning(code).to_str().unwrap_or_default()
}

/// For a call that returns no code.
#[cold]
pub(crate) fn note_failure(failure: &Failure) {
    note(failure);
}

/// The outermost step of a call that returns 0 or a positive status.
#[inline(always)]
pub(crate) fn status(result: Result<c_int, Failure>) -> c_int {
    match result {
        Ok(status) => status,
        Err(failure) => note(&failure),
    }
}

/// The outermost step of a call that returns a count.
#[inline(always)]
pub(crate) fn count(result: Result<i64, Failure>) -> i64 {
    match result {
        Ok(count) => count,
        Err(failure) => note(&failure).into(),
    }
}

/// The outermost step of a call that opens a handle.
pub(crate) fn opened<H>(out: *mut *mut H, open: impl FnOnce() -> Result<*mut H, Failure>) -> c_int {
    if out.is_null() || !out.is_aligned() {
        return note(&Failure::bad_pointer(out));
    }
    let result = open();
    let handle = result.as_ref().map_or(std::ptr::null_mut(), |handle| *handle);
    // SAFETY: not null, aligned, and the caller passes the address of a variable of its own.
    unsafe { out.write(handle) };
    status(result.map(|_| 0))
}

/// What an error code means and what to do, as a constant text: never NULL, not to be freed. Accepts
/// the code as functions return it (negative) or as the constants have it. For the values of a
/// certain failure, such as a limit, see slipring_last_error(). Wait-free, no system call.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_strerror(code: c_int) -> *const c_char {
    meaning(code).as_ptr()
}

fn meaning(code: c_int) -> &'static CStr {
    match code.checked_abs().unwrap_or(c_int::MAX) {
        0 => c"no error",
        SLIPRING_EAGAIN => c"full or empty: wait for the other side, or call with a time-out",
        SLIPRING_ETIMEDOUT => c"timed out",
        SLIPRING_EPIPE => c"closed: the other side has finished",
        SLIPRING_EINVAL => c"an argument or an option is invalid: slipring_last_error() says which",
        SLIPRING_EMSGSIZE => c"the size does not fit: slipring_last_error() says the limit",
        SLIPRING_ENOENT => c"not found: create it, or start the other side first",
        SLIPRING_EEXIST => c"already exists: open it, remove it, or choose another name",
        SLIPRING_EOPNOTSUPP => c"not supported by this kind of handle or on this machine: slipring_last_error() says why",
        SLIPRING_ECANCELED => c"cancelled: reset the canceller to wait again",
        SLIPRING_EOVERFLOW => c"the count of the semaphore would exceed its maximum: wait until its waiters have taken some",
        SLIPRING_EBUSY => c"the handle is in a call of another thread, or of the code that a signal handler interrupted: wait for that call to return",
        SLIPRING_EPEERDEAD => c"the peer died without closing; all that it had committed was delivered first",
        SLIPRING_EHANDLE => c"no open handle of that type: it is NULL, was closed, or is of another type",
        SLIPRING_EWRONGTHREAD => c"the handle belongs to another thread: open one for each thread, or take it over with slipring_take()",
        SLIPRING_EFORKED => c"the handle belongs to the parent process: open it again after fork",
        SLIPRING_EHELD => c"a frame, reservation, lock or request is still held: commit, abort, release or answer it first",
        SLIPRING_ENOTHELD => c"nothing is held: reserve, receive, lock or take a request first",
        SLIPRING_EOTHERTYPE => c"the messages have another type: slipring_last_error() names both",
        SLIPRING_EINCOMPATIBLE => c"the other side uses another version, kind or size: slipring_last_error() says which",
        SLIPRING_ECORRUPT => c"corrupt: create it again, or connect again",
        SLIPRING_EUNTRUSTED => c"refused: another user could have changed it; slipring_last_error() says what to change",
        SLIPRING_EROLETAKEN => c"a producer or consumer is already attached: wait for it to close, or use another kind of ring",
        SLIPRING_ETOOMANY => c"all participant ids or lanes are taken: close some handles, or create the segment with more",
        SLIPRING_ENOCONSUMER => c"no consumer is attached: start one first, or leave out SLIPRING_FAIL_WITHOUT_CONSUMER",
        SLIPRING_EEVICTED => c"evicted: this subscriber was too slow for the publisher; subscribe again, or be lossy",
        SLIPRING_EOVERTAKEN => c"overtaken: the value was replaced faster than it could be copied; read again",
        SLIPRING_EUNANSWERED => c"unanswered: the server dropped the request; it may have refused or failed to handle it",
        SLIPRING_ETOOMANYHANDLES => c"all 65,536 handles of this process are in use: close some",
        1..=4095 => c"a system call failed: slipring_last_error() says which; the code is an errno value",
        _ => c"unknown code",
    }
}

/// What the calling thread's last failed call said, with the values: for example both types of a
/// mismatch. Never NULL, not to be freed, valid until the thread ends: one array of 512 bytes for
/// each thread, into which each failed call writes (a longer text is cut). So copy what you keep.
/// After a call that succeeded it is still the text of the one before. No system call.
#[unsafe(no_mangle)]
pub extern "C" fn slipring_last_error() -> *const c_char {
    TEXT.with(|text| text.as_ptr().cast())
}
