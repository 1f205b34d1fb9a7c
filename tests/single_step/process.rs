//! Processes to be killed: forked from this one, which has a single thread, with a shared page of
//! memory.
//!
//! A [`Tracee`] runs one operation under ptrace: once from start to end to learn its instructions
//! ([`Tracee::record`]), then, in fresh processes, up to each of them ([`Tracee::run_to`]). A
//! breakpoint skips most of the way, to the last instruction that had not been executed before;
//! from there the tracee is stepped. Then it is killed, or stays stopped and continues later
//! ([`Tracee::finish`]). A [`Neighbour`] runs freely until it is told to continue, or killed.
//!
//! A stepped operation takes a thousand times as long. So it has no deadline, or one that has
//! expired already.

use std::ops::Deref;
use std::ptr::{NonNull, null_mut};
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use std::{io, mem};

use libc::{c_int, c_long, c_uint, c_void, pid_t};

/// Up to this many hits of a breakpoint are faster than stepping.
const MAX_HITS: usize = 100;
/// No operation here has more instructions.
const MAX_STEPS: usize = 400_000;
/// A survivor that takes longer hangs. This is far more than it needs, because this program may be
/// stopped meanwhile. `Case::run` detects survivors that are merely slow.
pub const SOON: Duration = Duration::from_secs(150);
/// An expired deadline, for operations that must not wait.
pub const NOW: Duration = Duration::ZERO;

/// What a child records for its parent. It outlives the child.
pub struct Page {
    /// 1 while the operation runs, 2 when it is done.
    phase: AtomicU32,
    ready: AtomicU32,
    go: AtomicU32,
    done: AtomicU32,
    taken: AtomicU32,
    /// Numbers of the frames that the child held.
    numbers: [AtomicU64; 128],
    /// The buffer that operations copy to.
    pub bytes: [AtomicU64; 64],
}

impl Page {
    /// Records that the child has received frame `number`.
    pub fn take(&self, number: u64) {
        let at = self.taken.load(SeqCst);
        self.numbers[at as usize].store(number, SeqCst);
        self.taken.store(at + 1, SeqCst);
    }

    /// The numbers of the frames that the child has received.
    pub fn taken(&self) -> Vec<u64> {
        self.numbers[..self.taken.load(SeqCst) as usize].iter().map(|n| n.load(SeqCst)).collect()
    }

    /// Whether the operation has returned.
    pub fn is_complete(&self) -> bool {
        self.phase.load(SeqCst) == 2
    }

    /// `len` bytes for the child to copy to. No other process reads them while the child lives.
    #[expect(clippy::mut_from_ref, reason = "one process writes, the other reads when that one is dead")]
    pub fn buffer(&self, len: usize) -> &mut [u8] {
        assert!(len <= size_of_val(&self.bytes));
        // SAFETY: atomics may be written through a shared reference; the length is in bounds.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_ptr().cast_mut().cast(), len) }
    }
}

/// Types that may lie in memory that forks share.
///
/// # Safety
/// Zeros are a valid value, and it has nothing but atomic integers.
pub unsafe trait Words {}

// SAFETY: atomic integers.
unsafe impl Words for Page {}

/// A value in memory that forks share, zeros at first.
pub struct Shared<T: Words = Page>(NonNull<T>);

impl<T: Words> Shared<T> {
    pub fn new() -> Rc<Self> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh mapping at an address that the kernel chooses.
        let at = unsafe { libc::mmap(null_mut(), size_of::<T>(), protection, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        Rc::new(Shared(NonNull::new(at.cast()).unwrap()))
    }
}

impl<T: Words> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: mapped until this value is dropped; its zeros are a valid value.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Words> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: this value's own mapping, whose only references borrow from the value.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<T>()) };
    }
}

/// Runs `child` in a process that ends when this one ends, in any way.
fn fork(child: impl FnOnce()) -> pid_t {
    // SAFETY: this program has one thread, so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            // SAFETY: plain integers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends the process without the exit handlers that its parent has registered.
            unsafe { libc::_exit(if done.is_ok() { 0 } else { 101 }) }
        }
        pid => pid,
    }
}

fn wait(pid: pid_t) -> c_int {
    let mut status = 0;
    // SAFETY: `status` is alive for the call.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid {
        assert_eq!(io::Error::last_os_error().kind(), io::ErrorKind::Interrupted, "waitpid");
    }
    status
}

/// Kills the child `pid`, and returns when the kernel has released its locks.
fn kill(pid: pid_t) {
    // SAFETY: plain integers; `pid` is a child that has not been waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    while libc::WIFSTOPPED(wait(pid)) {}
}

/// A process that runs freely, and ends with this one.
pub struct Worker(pid_t);

impl Worker {
    pub fn start(work: impl FnOnce()) -> Self {
        Worker(fork(work))
    }

    /// `None` while it runs; then whether it succeeded.
    pub fn outcome(&self) -> Option<bool> {
        let mut status = 0;
        // SAFETY: `status` is alive for the call; the process is a child of this one.
        let done = unsafe { libc::waitpid(self.0, &raw mut status, libc::WNOHANG) };
        (done == self.0).then_some(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0)
    }
}

fn stop_oneself() {
    // SAFETY: takes no arguments.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// The instructions of an operation, from where its process stopped before it.
pub struct Trace {
    /// The address of each step.
    addresses: Vec<usize>,
    /// The first step of the operation.
    start: usize,
    /// For each step, the last step up to it that a breakpoint can reach, and how often the
    /// breakpoint is hit before.
    anchors: Vec<(usize, usize)>,
}

impl Trace {
    /// Instructions of the operation.
    pub fn len(&self) -> usize {
        self.addresses.len() - 1 - self.start
    }
}

/// A process that is about to perform one operation.
pub struct Tracee {
    pid: pid_t,
    page: Rc<Shared>,
}

/// A tracee's program: it prepares, and returns the operation.
pub type Prepare = Box<dyn FnOnce(&Page) -> Operation>;
/// The operation, which is executed step by step. What it owns lives until the kill.
pub type Operation = Box<dyn FnMut(&Page)>;

impl Tracee {
    /// Starts a process and lets it prepare. `None` where tracing is forbidden.
    pub fn start(prepare: Prepare) -> Option<Self> {
        alarm(2 * SOON.as_secs() as c_uint);
        let page = Shared::new();
        let pid = fork(|| {
            let mut operation = prepare(&page);
            // Not earlier: the end of a neighbour (SIGCHLD) would stop a tracee.
            // SAFETY: takes no arguments.
            if unsafe { libc::ptrace(libc::PTRACE_TRACEME) } != 0 {
                return;
            }
            stop_oneself();
            page.phase.store(1, SeqCst);
            operation(&page);
            page.phase.store(2, SeqCst);
            loop {
                stop_oneself();
            }
        });
        let status = wait(pid);
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
            return None;
        }
        assert!(is_stop(status, libc::SIGSTOP), "a child could not prepare itself: status {status:#x}");
        Some(Tracee { pid, page })
    }

    /// Steps through the whole operation.
    pub fn record(&self) -> Trace {
        let mut addresses = vec![self.address()];
        let mut start = None;
        while !self.page.is_complete() {
            assert!(self.step(), "the operation ended its process");
            addresses.push(self.address());
            assert!(addresses.len() < MAX_STEPS, "an operation without end");
            if start.is_none() && self.page.phase.load(SeqCst) == 1 {
                start = Some(addresses.len() - 1);
            }
        }
        let mut seen = std::collections::HashMap::new();
        let anchors = addresses.iter().enumerate().scan((0, 0), |anchor, (step, address)| {
            let times = seen.entry(*address).or_insert(0);
            if *times <= MAX_HITS {
                *anchor = (step, *times);
            }
            *times += 1;
            Some(*anchor)
        });
        let anchors = anchors.collect();
        Trace { addresses, start: start.expect("the operation began"), anchors }
    }

    /// Executes the first `instructions` of the operation, or all of it if it has fewer this time.
    pub fn run_to(&self, trace: &Trace, instructions: usize) {
        let goal = trace.start + instructions;
        let (anchor, hits) = trace.anchors[goal];
        let address = trace.addresses[anchor];
        for _ in 0..hits {
            if !self.run_to_address(address) || !self.step() {
                return;
            }
        }
        if anchor > 0 && !self.run_to_address(address) {
            return;
        }
        for _ in anchor..goal {
            if self.page.is_complete() || !self.step() {
                return;
            }
        }
    }

    /// Whether the operation has returned.
    pub fn is_complete(&self) -> bool {
        self.page.is_complete()
    }

    /// What it has recorded so far.
    pub fn page(&self) -> &Page {
        &self.page
    }

    /// Lets it continue to the end of the operation, where it stops.
    pub fn finish(&self) {
        if !self.is_complete() {
            self.request(libc::PTRACE_CONT, 0, 0);
            assert!(!self.is_trapped(), "a breakpoint was left");
        }
    }

    /// Kills it, and returns the page that it wrote.
    pub fn kill(self) -> Rc<Shared> {
        kill(self.pid);
        Rc::clone(&self.page)
    }

    /// Executes one instruction. Returns false if the process has stopped itself: the operation has
    /// finished.
    fn step(&self) -> bool {
        self.request(libc::PTRACE_SINGLESTEP, 0, 0);
        self.is_trapped()
    }

    fn is_trapped(&self) -> bool {
        let status = wait(self.pid);
        assert!(
            is_stop(status, libc::SIGTRAP) || (is_stop(status, libc::SIGSTOP) && self.page.is_complete()),
            "the operation failed: status {status:#x}"
        );
        is_stop(status, libc::SIGTRAP)
    }

    /// Runs until it reaches `address`. Returns false if it does not.
    fn run_to_address(&self, address: usize) -> bool {
        if self.address() == address {
            return true;
        }
        let word = self.request(libc::PTRACE_PEEKTEXT, address, 0);
        self.request(libc::PTRACE_POKETEXT, address, machine::with_breakpoint(word) as usize);
        self.request(libc::PTRACE_CONT, 0, 0);
        let hit = self.is_trapped();
        if hit {
            self.request(libc::PTRACE_POKETEXT, address, word as usize);
            self.registers(|registers| machine::set_address(registers, address));
        }
        hit
    }

    /// The address of the next instruction.
    fn address(&self) -> usize {
        let mut address = 0;
        self.registers(|registers| {
            address = machine::address(registers);
            false
        });
        address
    }

    /// Passes the registers to `look`, and writes them back if it returns true.
    fn registers(&self, look: impl FnOnce(&mut libc::user_regs_struct) -> bool) {
        // SAFETY: plain integers.
        let mut registers: libc::user_regs_struct = unsafe { mem::zeroed() };
        let mut part = libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of_val(&registers) };
        let part = (&raw mut part) as usize;
        self.request(libc::PTRACE_GETREGSET, libc::NT_PRSTATUS as usize, part);
        if look(&mut registers) {
            self.request(libc::PTRACE_SETREGSET, libc::NT_PRSTATUS as usize, part);
        }
    }

    fn request(&self, request: c_uint, address: usize, data: usize) -> c_long {
        // SAFETY: the requests used here write to this process's memory only through the iovec of
        // `registers`, which is alive.
        let answer = unsafe { libc::ptrace(request as _, self.pid, address as *mut c_void, data as *mut c_void) };
        assert!(answer != -1 || request == libc::PTRACE_PEEKTEXT, "ptrace {request}: {}", io::Error::last_os_error());
        answer
    }
}

fn is_stop(status: c_int, signal: c_int) -> bool {
    libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == signal
}

#[cfg(target_arch = "x86_64")]
mod machine {
    /// `int3`, one byte; the processor stops after it.
    pub fn with_breakpoint(word: i64) -> i64 {
        word & !0xFF | 0xCC
    }

    pub fn address(registers: &libc::user_regs_struct) -> usize {
        registers.rip as usize
    }

    pub fn set_address(registers: &mut libc::user_regs_struct, address: usize) -> bool {
        registers.rip = address as u64;
        true
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    /// `brk #0`, four bytes; the processor stops at it.
    pub fn with_breakpoint(word: i64) -> i64 {
        word & !0xFFFF_FFFF | 0xD420_0000
    }

    pub fn address(registers: &libc::user_regs_struct) -> usize {
        registers.pc as usize
    }

    pub fn set_address(registers: &mut libc::user_regs_struct, address: usize) -> bool {
        registers.pc = address as u64;
        true
    }
}

/// A process beside the traced one.
pub struct Neighbour {
    pid: pid_t,
    page: Rc<Shared>,
    reaped: bool,
}

impl Neighbour {
    /// Starts it, and returns when it has called [`Page::arrive`].
    pub fn start(life: impl FnOnce(&Page)) -> Self {
        let page = Shared::new();
        let pid = fork(|| {
            life(&page);
            page.done.store(1, SeqCst);
        });
        wait_until("a neighbour is in position", || page.ready.load(SeqCst) == 1);
        Neighbour { pid, page, reaped: false }
    }

    /// For a tracee: returns a function that waits until this neighbour sleeps.
    pub fn until_asleep(&self) -> impl FnOnce() + 'static {
        let stat = format!("/proc/{}/stat", self.pid);
        move || wait_until("a neighbour sleeps", || std::fs::read_to_string(&stat).unwrap().contains(") S "))
    }

    /// For a tracee: returns a function that makes it the one for which [`Page::await_sleeper`]
    /// waits.
    pub fn expect_me(&self) -> impl FnOnce() + 'static {
        let page = Rc::clone(&self.page);
        move || page.go.store(std::process::id(), SeqCst)
    }

    /// `SIGKILL`.
    pub fn kill(mut self) {
        kill(self.pid);
        self.reaped = true;
    }

    /// Lets it continue, and waits until it has finished. Returns the frames that it received, or
    /// an error if it takes too long.
    pub fn finish(mut self) -> Result<Vec<u64>, String> {
        // A neighbour that waits for a sleeper notices here that the sleeper is dead.
        let _ = self.page.go.compare_exchange(0, 1, SeqCst, SeqCst);
        let start = Instant::now();
        while self.page.done.load(SeqCst) == 0 {
            if start.elapsed() > SOON {
                return Err("a neighbour hangs".into());
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        self.reaped = true;
        let status = wait(self.pid);
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
            Ok(self.page.taken())
        } else {
            Err("a neighbour failed".into())
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        if !self.reaped {
            kill(self.pid);
        }
    }
}

impl Page {
    /// Called by a neighbour when it is where its parent wants it.
    pub fn arrive(&self) {
        self.ready.store(1, SeqCst);
    }

    /// Called by a neighbour: waits until it is told to continue, or killed.
    pub fn arrive_and_wait(&self) {
        self.arrive();
        while self.go.load(SeqCst) == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

impl Page {
    /// Called by a neighbour: waits until a tracee sleeps, or is dead.
    pub fn await_sleeper(&self) {
        self.arrive_and_wait();
        let stat = format!("/proc/{}/stat", self.go.load(SeqCst));
        let is_busy = |stat: String| [") R ", ") t ", ") T ", ") D "].iter().any(|state| stat.contains(state));
        while std::fs::read_to_string(&stat).is_ok_and(is_busy) {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < SOON, "{what}: not within {SOON:?}");
        std::thread::yield_now();
    }
}

/// Ends this program with a message if `going_on` takes too long: a survivor that hangs is a
/// violation.
pub fn expect_an_end(going_on: &str) {
    static MESSAGE: AtomicPtr<String> = AtomicPtr::new(null_mut());

    extern "C" fn give_up(_: c_int) {
        // SAFETY: set below, before the alarm, and never freed.
        let message = unsafe { &*MESSAGE.load(SeqCst) };
        // SAFETY: the message's own bytes; `write` is async-signal-safe.
        unsafe { libc::write(2, message.as_ptr().cast(), message.len()) };
        // SAFETY: `_exit` is async-signal-safe.
        unsafe { libc::_exit(101) }
    }

    MESSAGE.store(Box::into_raw(Box::new(format!("survivors hang: {going_on}\n"))), SeqCst);
    let handler = give_up as extern "C" fn(c_int) as libc::sighandler_t;
    // SAFETY: the handler makes only async-signal-safe calls.
    unsafe { libc::signal(libc::SIGALRM, handler) };
}

/// From here on the program has this many seconds until the next call.
fn alarm(seconds: c_uint) {
    // SAFETY: a plain integer.
    unsafe { libc::alarm(seconds) };
}
