//! Processes to be killed: forked off this one, which has a single thread, with a page of memory in common.
//!
//! A [`Tracee`] runs one operation under ptrace: once from end to end to learn its instructions ([`Tracee::record`]), then,
//! in fresh processes, up to each of them ([`Tracee::run_to`]). A breakpoint skips most of the way: at the last instruction
//! that had not been executed before; from there it is stepped. Then it is killed, or stays where it is and goes on later
//! ([`Tracee::finish`]). A [`Neighbour`] runs freely until it is told to go on, or killed.
//!
//! Whoever is stepped through an operation takes a thousand times as long over it. So what is stepped has no deadline, or one
//! that has passed already.

use std::ops::Deref;
use std::ptr::{NonNull, null_mut};
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use std::{io, mem};

use libc::{c_int, c_long, c_uint, c_void, pid_t};

/// Stepping beats a breakpoint that is hit more often.
const MAX_HITS: usize = 100;
/// No operation here is longer.
const MAX_STEPS: usize = 400_000;
/// A survivor that takes longer hangs. Far more than it needs, because this program may be stopped meanwhile; who is merely
/// slow is found out by `Case::run`.
pub const SOON: Duration = Duration::from_secs(150);
/// For operations that must not wait.
pub const NOW: Duration = Duration::ZERO;

/// What a child tells its parent, and outlives it.
pub struct Page {
    /// 1 while the operation runs, 2 when it is done.
    phase: AtomicU32,
    ready: AtomicU32,
    go: AtomicU32,
    done: AtomicU32,
    taken: AtomicU32,
    /// Numbers of the frames that the child had in hand.
    numbers: [AtomicU64; 128],
    /// Where operations copy to.
    pub bytes: [AtomicU64; 64],
}

impl Page {
    /// The child has seen frame `number`.
    pub fn take(&self, number: u64) {
        let at = self.taken.load(SeqCst);
        self.numbers[at as usize].store(number, SeqCst);
        self.taken.store(at + 1, SeqCst);
    }

    /// What the child has seen.
    pub fn taken(&self) -> Vec<u64> {
        self.numbers[..self.taken.load(SeqCst) as usize].iter().map(|n| n.load(SeqCst)).collect()
    }

    /// Whether the operation has returned.
    pub fn is_complete(&self) -> bool {
        self.phase.load(SeqCst) == 2
    }

    /// `len` bytes for the child to copy to. Nobody else looks at them while it lives.
    #[expect(clippy::mut_from_ref, reason = "one process writes, the other reads when that one is dead")]
    pub fn buffer(&self, len: usize) -> &mut [u8] {
        assert!(len <= size_of_val(&self.bytes));
        // SAFETY: atomics may be written through a shared reference; the length is in bounds.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_ptr().cast_mut().cast(), len) }
    }
}

/// What may lie in memory that forks share.
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
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let at = unsafe { libc::mmap(null_mut(), size_of::<T>(), protection, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        Rc::new(Shared(NonNull::new(at.cast()).unwrap()))
    }
}

impl<T: Words> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: mapped until we are dropped; its zeros are a valid value.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Words> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping, whose only references borrow from us.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<T>()) };
    }
}

/// Runs `child` in a process that ends with us, whatever happens to either.
fn fork(child: impl FnOnce()) -> pid_t {
    // SAFETY: this program has one thread, so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            // SAFETY: plain integers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends the process without running what its parent has registered.
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

/// Kills our child `pid`, and returns when the kernel has released its locks.
fn kill(pid: pid_t) {
    // SAFETY: plain integers; `pid` is our child, not yet waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    while libc::WIFSTOPPED(wait(pid)) {}
}

/// A process that works on its own, and ends with us.
pub struct Worker(pid_t);

impl Worker {
    pub fn start(work: impl FnOnce()) -> Self {
        Worker(fork(work))
    }

    /// `None` while it works; then whether it came to the end.
    pub fn outcome(&self) -> Option<bool> {
        let mut status = 0;
        // SAFETY: `status` is alive for the call; the process is our child.
        let done = unsafe { libc::waitpid(self.0, &raw mut status, libc::WNOHANG) };
        (done == self.0).then_some(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0)
    }
}

fn stop_oneself() {
    // SAFETY: no arguments to get wrong.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// The instructions of an operation, from where its process stopped before it.
pub struct Trace {
    /// Where each step from there begins.
    addresses: Vec<usize>,
    /// The first step of the operation.
    start: usize,
    /// For each step, the last one up to it that a breakpoint leads to, and how often it is hit before.
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

/// What a tracee does: prepares itself, and returns the operation.
pub type Prepare = Box<dyn FnOnce(&Page) -> Operation>;
/// What is executed step by step. What it owns lives until the kill.
pub type Operation = Box<dyn FnMut(&Page)>;

impl Tracee {
    /// Starts a process and lets it prepare. `None` where tracing is forbidden.
    pub fn start(prepare: Prepare) -> Option<Self> {
        alarm(2 * SOON.as_secs() as c_uint);
        let page = Shared::new();
        let pid = fork(|| {
            let mut operation = prepare(&page);
            // Not earlier: what becomes of neighbours would stop a tracee.
            // SAFETY: no arguments to get wrong.
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

    /// Executes the first `instructions` of the operation, or all of it if this time it has fewer.
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

    /// What it has written down so far.
    pub fn page(&self) -> &Page {
        &self.page
    }

    /// Lets it go on to the end of the operation, where it stops.
    pub fn finish(&self) {
        if !self.is_complete() {
            self.request(libc::PTRACE_CONT, 0, 0);
            assert!(!self.is_trapped(), "a breakpoint was left");
        }
    }

    /// Kills it, and returns what it has left in its page.
    pub fn kill(self) -> Rc<Shared> {
        kill(self.pid);
        Rc::clone(&self.page)
    }

    /// One instruction. False if the process has stopped itself: the operation is over.
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

    /// Runs until it comes to `address`. False if it never did.
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

    /// Where the next instruction is.
    fn address(&self) -> usize {
        let mut address = 0;
        self.registers(|registers| {
            address = machine::address(registers);
            false
        });
        address
    }

    /// Shows the registers to `look`, and writes them back if it says so.
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
        // SAFETY: the requests used here write to memory of ours only through the iovec of `registers`, which is alive.
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
    /// `int3`, one byte; the processor stops behind it.
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
    /// `brk #0`, four bytes; the processor stops on it.
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

/// A process beside the one that is traced.
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

    /// What a tracee does to wait until this one sleeps.
    pub fn until_asleep(&self) -> impl FnOnce() + 'static {
        let stat = format!("/proc/{}/stat", self.pid);
        move || wait_until("a neighbour sleeps", || std::fs::read_to_string(&stat).unwrap().contains(") S "))
    }

    /// What a tracee does to say that it is the one whom [`Page::await_sleeper`] waits for.
    pub fn expect_me(&self) -> impl FnOnce() + 'static {
        let page = Rc::clone(&self.page);
        move || page.go.store(std::process::id(), SeqCst)
    }

    /// `SIGKILL`.
    pub fn kill(mut self) {
        kill(self.pid);
        self.reaped = true;
    }

    /// Lets it go on, and waits until it has finished: an error if that takes too long. What it has seen.
    pub fn finish(mut self) -> Result<Vec<u64>, String> {
        // Who waits for a sleeper sees that one dead.
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
    /// A neighbour is where its parent wants it.
    pub fn arrive(&self) {
        self.ready.store(1, SeqCst);
    }

    /// A neighbour waits for the word to go on, or for its end.
    pub fn arrive_and_wait(&self) {
        self.arrive();
        while self.go.load(SeqCst) == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

impl Page {
    /// A neighbour waits until a tracee sleeps, or is dead.
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

/// Ends this program with a message if what is `going_on` is not over soon: a survivor that hangs is a violation.
pub fn expect_an_end(going_on: &str) {
    static MESSAGE: AtomicPtr<String> = AtomicPtr::new(null_mut());

    extern "C" fn give_up(_: c_int) {
        // SAFETY: set below, before the alarm, and never freed.
        let message = unsafe { &*MESSAGE.load(SeqCst) };
        // SAFETY: the message's own bytes; writing is allowed in a signal handler.
        unsafe { libc::write(2, message.as_ptr().cast(), message.len()) };
        // SAFETY: allowed in a signal handler.
        unsafe { libc::_exit(101) }
    }

    MESSAGE.store(Box::into_raw(Box::new(format!("survivors hang: {going_on}\n"))), SeqCst);
    let handler = give_up as extern "C" fn(c_int) as libc::sighandler_t;
    // SAFETY: the handler does nothing that a signal handler must not.
    unsafe { libc::signal(libc::SIGALRM, handler) };
}

/// From here on the program has so many seconds to come back here.
fn alarm(seconds: c_uint) {
    // SAFETY: a plain integer.
    unsafe { libc::alarm(seconds) };
}
