//! What a container engine takes away: room in `/dev/shm`, writing, `/proc`, system calls.

use slipring::broadcast::{Monitor, Publisher, Received, Start};
use slipring::{
    Error, Event, Mutex, Options, PidNamespace, Ring, Semaphore, SignalSemaphore, Token, WaitSet, mpmc, spsc,
};

use super::{Container, PLAIN, SOON, questions, say};
use crate::common::dir::TestDir;

const MIB: usize = 1 << 20;

pub fn member(role: &str) {
    match role {
        "small" => small(),
        "read" => read_only(),
        "no proc" => no_proc(),
        "deny EPERM" => denied(libc::EPERM),
        "deny ENOSYS" => denied(libc::ENOSYS),
        other => panic!("{other}"),
    }
}

#[track_caller]
fn assert_unsupported<T>(result: slipring::Result<T>, saying: &str) {
    match result.err() {
        Some(Error::Unsupported { what }) if what.contains(saying) => {}
        other => panic!("{other:?} is not `Unsupported` and says nothing of {saying}"),
    }
}

/// `/dev/shm` with the 64 MiB that Docker gives it.
#[test]
fn a_ring_that_does_not_fit_into_64_mib_is_refused_and_one_that_fits_never_faults() {
    let dir = TestDir::new("containers-small");
    let setup = "mount -t tmpfs -o size=64m,mode=0700 none $SLIPRING_DIR";
    Container { namespaces: PLAIN, setup }.run("limits small", &dir.0);
}

fn small() {
    let refused = |name: &str, capacity: usize, free: &str| {
        let error = Ring::create(name, &Options::spsc(capacity)).unwrap_err();
        assert!(matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull));
        let text = error.to_string();
        assert!(text.contains("bytes are needed") && text.contains(free) && text.contains("enlarge"), "{text}");
    };
    refused("large", 128 * MIB, &format!("{} are free", 64 * MIB));
    let mut tx = spsc::Producer::open("fits", &Options::spsc(32 * MIB)).unwrap(); // not prefaulted
    refused("second", 32 * MIB, "are free");
    // Others use up all that is left.
    let rest = std::path::Path::new(&std::env::var("SLIPRING_DIR").unwrap()).join(".rest");
    let full = std::io::copy(&mut std::io::repeat(1), &mut std::fs::File::create(rest).unwrap());
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    refused("tiny", 4096, "0 are free");
    assert_eq!(Ring::list(&Options::any()).unwrap(), ["fits"]);
    // Every page of the ring was allocated when it was created.
    let mut rx = spsc::Consumer::open("fits", &Options::spsc(4096)).unwrap();
    let payload = vec![7; 64 << 10];
    let mut sent = 0;
    for _ in 0..2 {
        while tx.try_send(&payload).is_ok() {
            sent += 1;
        }
        assert_eq!(rx.try_iter().map(|frame| frame.unwrap().len()).sum::<usize>(), sent * payload.len());
        sent = 0;
    }
    // A memfd is not limited by the size of /dev/shm, but by the memory of the control group.
    Ring::create_anonymous(&Options::spsc(MIB)).unwrap();
}

/// A directory that is mounted read-only can be observed, and its broadcast rings can be read.
#[test]
fn rings_in_a_read_only_directory_are_observed_and_broadcasts_read() {
    let dir = TestDir::new("containers-read");
    let options = |options: Options| options.directory(&dir.0);
    let mut tx = spsc::Producer::open("spsc", &options(Options::spsc(4096))).unwrap();
    tx.send(b"frame").unwrap();
    let jobs = mpmc::Producer::open("mpmc", &options(Options::mpmc(16, 8))).unwrap();
    jobs.send(b"job").unwrap();
    let mut publisher = Publisher::open("broadcast", &options(Options::broadcast(4096))).unwrap();
    publisher.send(b"early").unwrap();
    super::kinds::create_others(&dir.0);
    let setup = "mount --bind $SLIPRING_DIR $SLIPRING_DIR
                 mount -o remount,bind,ro $SLIPRING_DIR";
    let Some(mut member) = (Container { namespaces: PLAIN, setup }).start("limits read", &dir.0) else { return };
    publisher.send(b"late").unwrap();
    assert_eq!(member.ask("receive"), "early late");
    drop(publisher);
    assert_eq!(member.ask("end"), "closed");
}

fn read_only() {
    let any = Options::any();
    assert_eq!(Ring::list(&any).unwrap().len(), 7);
    for name in ["broadcast", "mpmc", "spsc"] {
        let ring = Ring::open(name, &any).unwrap();
        let participants = ring.participants().unwrap();
        assert!(participants[0].alive && participants[0].pid_namespace == PidNamespace::Other);
        assert_eq!((ring.stats().counts.sent, ring.verify().unwrap().frames), (1, 1));
        let mut frames = 0;
        ring.inspect(|_| {
            frames += 1;
            true
        })
        .unwrap();
        assert!(frames == 1 && !ring.is_idle().unwrap() && !ring.was_left_by_dead().unwrap());
        // What would write is refused.
        assert_unsupported(ring.reap_dead(), "read-only");
        assert_unsupported(ring.agree_on_type("text"), "read-only");
        assert_unsupported(Ring::remove(name, &any), "read-only");
        assert_unsupported(Ring::remove_if_unused(name, &any, |_| Ok(true)), "read-only");
    }
    let options = Options::spsc(4096);
    assert_unsupported(spsc::Consumer::open("spsc", &options), "read-only");
    assert_unsupported(spsc::Consumer::attach(&Ring::open("spsc", &any).unwrap()), "Monitor");
    assert_unsupported(mpmc::Consumer::open("mpmc", &Options::mpmc(16, 8)), "read-only");
    assert_unsupported(Ring::create("new", &options), "read-only");
    assert_unsupported(Ring::open_or_create("new", &options), "read-only");
    assert_unsupported(Semaphore::create("new", 1), "read-only");
    assert_unsupported(Mutex::open_or_create("new", 1), "read-only");
    assert_unsupported(SignalSemaphore::open_or_create("new"), "read-only");
    assert_unsupported(Event::create("new"), "read-only");
    assert_unsupported(Semaphore::open("semaphore"), "read-only");
    assert_unsupported(Semaphore::open_or_create("semaphore", 1), "read-only");
    assert_unsupported(Mutex::open("mutex"), "read-only");
    assert_unsupported(SignalSemaphore::open("signal"), "read-only");
    assert_unsupported(Event::open("event"), "read-only");
    assert_unsupported(Event::remove("event"), "read-only");

    let mut monitor = Monitor::open("broadcast", &Options::broadcast(4096), Start::Oldest).unwrap();
    let mut buffer = [0; 4096];
    let mut next = || match monitor.recv_into_deadline(&mut buffer, SOON) {
        Ok(Received::Frame(header)) => String::from_utf8_lossy(&buffer[..header.len as usize]).into_owned(),
        Err(Error::Closed) => "closed".to_owned(),
        other => panic!("{other:?}"),
    };
    say("ready");
    for question in questions() {
        match &*question {
            "receive" => say(format_args!("{} {}", next(), next())),
            "end" => say(next()),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn without_proc_the_errors_name_it() {
    let dir = TestDir::new("containers-proc");
    let setup = "mount -t tmpfs none /proc";
    Container { namespaces: PLAIN, setup }.run("limits no proc", &dir.0);
}

fn no_proc() {
    let names_proc = |error: Option<Error>| {
        let text = error.expect("it cannot work").to_string();
        assert!(text.contains("/proc"), "{text}");
    };
    names_proc(Ring::create("ring", &Options::spsc(4096)).err());
    names_proc(Semaphore::create("semaphore", 1).err());
    names_proc(spsc::pair(4096).err());
    assert!(Ring::list(&Options::any()).unwrap().is_empty());
}

/// A filter that fails these system calls with `error`, for this process and its threads to come.
fn forbid(calls: &[libc::c_long], error: i32) {
    const NUMBER: u32 = 0; // offset of `nr` in `struct seccomp_data`
    let code = |code: u32| code as u16;
    let mut program =
        vec![libc::sock_filter { code: code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), jt: 0, jf: 0, k: NUMBER }];
    for (n, call) in calls.iter().enumerate() {
        // To the last instruction.
        let jt = (calls.len() - n) as u8;
        program.push(libc::sock_filter {
            code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
            jt,
            jf: 0,
            k: *call as u32,
        });
    }
    for k in [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ERRNO | error as u32] {
        program.push(libc::sock_filter { code: code(libc::BPF_RET | libc::BPF_K), jt: 0, jf: 0, k });
    }
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: sets a flag of this thread.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the filter is a whole program, which the kernel copies; TSYNC puts all threads under it.
    let set = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const filter,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// A process under a filter, and one without: each wakes the other, and notices its end.
#[test]
fn without_membarrier_memfds_futex_waitv_and_pidfds_named_rings_work() {
    for role in ["limits deny EPERM", "limits deny ENOSYS"] {
        let dir = TestDir::new("containers-seccomp");
        let mut pings = spsc::Producer::open("pings", &Options::spsc(4096).directory(&dir.0)).unwrap();
        let mut pongs = spsc::Consumer::open("pongs", &Options::spsc(4096).directory(&dir.0)).unwrap();
        let mut program = super::member(role);
        let mut member = super::Member::start(program.env(super::DIR, &dir.0));
        for n in (0..1000_u64).map(u64::to_le_bytes) {
            pings.send_deadline(&n, SOON).unwrap();
            assert_eq!(*pongs.recv_deadline(SOON).unwrap(), n);
        }
        member.kill();
        assert!(matches!(pongs.recv_deadline(SOON), Err(Error::PeerDead)));
    }
}

fn denied(error: i32) {
    forbid(&[libc::SYS_membarrier, libc::SYS_memfd_create, libc::SYS_futex_waitv, libc::SYS_pidfd_open], error);
    assert_unsupported(Ring::create_anonymous(&Options::spsc(4096)), "memfd_create");
    assert_unsupported(spsc::pair(4096), "memfd_create");
    assert_unsupported(Event::create_anonymous(), "memfd_create");
    let mut pings = spsc::Consumer::open("pings", &Options::spsc(4096)).unwrap();
    let mut pongs = spsc::Producer::open("pongs", &Options::spsc(4096)).unwrap();
    let us = &pongs.ring().participants().unwrap().into_iter().find(|one| one.pid == std::process::id()).unwrap();
    assert!(us.alive && us.comm.is_some() && us.pidfd_inode == 0);
    let mut set = WaitSet::new().unwrap();
    set.add(Token(0), pings.readable()).unwrap();
    say("ready");
    loop {
        assert!(set.wait_deadline(SOON).unwrap().eq([Token(0)]));
        let frame = pings.recv_deadline(SOON).unwrap();
        pongs.send_deadline(&frame, SOON).unwrap();
    }
}
