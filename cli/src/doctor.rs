//! `slipring doctor`: checks what this machine or container lacks, with the fix.

mod container;

use std::fs;
use std::path::Path;

use clap::Args;
use rustix::fs::{CWD, FallocateFlags, MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::thread::futex;
use rustix::thread::{MembarrierQuery, membarrier_query, sched_getaffinity};
use serde_json::json;
use slipring::Error;
use slipring::transport::mq;

use crate::failure::{FAILED, Failure, Outcome};
use crate::{Context, output, transports, units};

/// Check what this machine or container offers, with the fix for what it lacks
#[derive(Args)]
#[command(
    after_help = "OK: fine. WARN: works, but slower or not everywhere; the fix is beside it. FAIL: rings will not work. \
        Exit code 1 if anything is FAIL."
)]
pub(crate) struct Doctor {
    /// Print what each transport promises instead
    #[arg(long)]
    transports: bool,
}

/// The result of a check.
pub(crate) enum Finding {
    Ok(String),
    Warn(String, &'static str),
    Fail(String, &'static str),
}

use Finding::{Fail, Ok as Fine, Warn};
use container::Container;

impl Doctor {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        if self.transports {
            return transports::print(context);
        }
        let directory = slipring::endpoint::segment_directory(context.dir.as_deref());
        // A directory that does not exist yet will be created beside those that do.
        let place = directory.as_deref().ok().and_then(|path| path.ancestors().find(|path| path.is_dir()));
        let place = place.unwrap_or(Path::new("/dev/shm"));
        let container = Container::find(place);
        let mut checks = vec![
            ("kernel", kernel()),
            ("processors", processors()),
            ("container", container.describe()),
            ("proc", container.proc().unwrap_or_else(proc)),
            ("user", container.user()),
            ("directory", trust(&directory)),
            ("file system", container.file_system(place)),
            ("allocation", allocation(place)),
            ("space", container.space(place)),
            ("memory", container.memory(place)),
            ("seccomp", container.seccomp()),
            ("memfd", memfd()),
            ("membarrier", membarrier()),
            ("futex_waitv", futex_waitv()),
            ("pidfd", container.pidfd()),
            ("memlock", memlock(&container)),
            ("huge pages", huge_pages()),
            ("clock", clock()),
            ("mqueue", mqueue()),
        ];
        checks.extend(container.time().map(|found| ("time", found)));
        present(&checks, context)
    }
}

/// Prints the results. Fails if one of them is a [`Fail`].
pub(crate) fn present(checks: &[(&str, Finding)], context: &Context) -> Outcome {
    let mut failed = 0;
    for (name, finding) in checks {
        let (verdict, text, fix) = match finding {
            Fine(text) => ("OK", text, None),
            Warn(text, fix) => ("WARN", text, Some(fix)),
            Fail(text, fix) => ("FAIL", text, Some(fix)),
        };
        failed += usize::from(verdict == "FAIL");
        if context.json {
            output::print_json(&json!({ "check": name, "verdict": verdict, "found": text, "fix": fix }))?;
            continue;
        }
        let mut lines = output::wrapped_behind(&format!("{verdict:4}  {name:12} "), text);
        if let Some(fix) = fix {
            lines.push_str(&output::wrapped_behind(&format!("{:6}{:12} fix: ", "", ""), fix));
        }
        output::print(&lines)?;
    }
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::new(FAILED, format_args!("{} failed", units::counted(failed, "check"))))
    }
}

/// The contents of a short file in /proc or /sys.
pub(crate) fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn kernel() -> Finding {
    let Some(release) = read("/proc/sys/kernel/osrelease") else {
        return Warn("unknown release".to_owned(), "mount /proc");
    };
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < (5, 16) => {
            Warn(format!("Linux {release}"), "5.16 has everything: futex_waitv, prefault, sealed memfds")
        }
        _ => Fine(format!("Linux {release}, {}", std::env::consts::ARCH)),
    }
}

fn processors() -> Finding {
    match sched_getaffinity(None).map(|set| set.count()) {
        Ok(1) => Warn("1 available".to_owned(), "allow a second one: with one, every wait sleeps instead of spinning"),
        Ok(n) => Fine(format!("{n} available")),
        Err(e) => Warn(format!("unknown: {e}"), "allow sched_getaffinity"),
    }
}

fn proc() -> Finding {
    match fs::read_link("/proc/self/fd/2") {
        Err(_) if !Path::new("/proc/self/fd").exists() => {
            Fail("/proc is not mounted".to_owned(), "mount -t proc proc /proc: rings get their names through it")
        }
        _ => Fine("/proc is mounted".to_owned()),
    }
}

fn trust(directory: &slipring::Result<std::path::PathBuf>) -> Finding {
    match directory {
        Ok(path) if path.exists() => Fine(format!("{} is private to this user", path.display())),
        Ok(path) => Fine(format!("{} will be created when it is needed", path.display())),
        Err(error) => {
            let error = error.to_string();
            let fix = Container::fix_of_directory(&error);
            Fail(error, fix)
        }
    }
}

fn allocation(place: &Path) -> Finding {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let done = rustix::fs::openat(CWD, place, flags, Mode::RUSR | Mode::WUSR)
        .and_then(|file| rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 4096));
    match done {
        Ok(()) => Fine("O_TMPFILE and fallocate work in the directory".to_owned()),
        Err(e) => Fail(
            format!("O_TMPFILE and fallocate: {e}"),
            "point SLIPRING_DIR to a tmpfs, ext4 or xfs with room, mounted read-write",
        ),
    }
}

fn memfd() -> Finding {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create("slipring-doctor", flags) {
        Ok(_) => Fine("sealed anonymous rings work".to_owned()),
        Err(e) => Warn(
            format!("memfd_create: {e}"),
            "allow memfd_create in the seccomp profile (docker: --security-opt seccomp=FILE): anonymous rings need it",
        ),
    }
}

fn membarrier() -> Finding {
    let needed = MembarrierQuery::GLOBAL_EXPEDITED | MembarrierQuery::REGISTER_GLOBAL_EXPEDITED;
    if membarrier_query().contains(needed) {
        Fine("busy senders need no fence for wake-ups".to_owned())
    } else {
        Warn(
            "not available: every send executes a fence".to_owned(),
            "Linux 4.16, and membarrier in the seccomp profile (docker: --security-opt seccomp=FILE)",
        )
    }
}

fn futex_waitv() -> Finding {
    // An empty list is invalid; any error but ENOSYS shows that the call exists.
    match futex::waitv(&[], futex::WaitvFlags::empty(), None, rustix::thread::futex::ClockId::Monotonic) {
        Err(Errno::NOSYS | Errno::PERM) => Warn(
            "not available: waiting for several rings polls".to_owned(),
            "Linux 5.16, and futex_waitv in the seccomp profile (docker: --security-opt seccomp=FILE)",
        ),
        _ => Fine("one wait for many rings".to_owned()),
    }
}

fn memlock(container: &Container) -> Finding {
    match getrlimit(Resource::Memlock).current {
        _ if container.may_lock_all() => Fine("CAP_IPC_LOCK: memory may be locked without limit".to_owned()),
        Some(limit) if limit < 64 << 20 => Warn(
            format!("at most {} may be locked", units::bytes(limit)),
            "ulimit -l unlimited (limits.conf: memlock; docker: --ulimit memlock=-1), for mlock",
        ),
        Some(limit) => Fine(format!("{} may be locked", units::bytes(limit))),
        None => Fine("memory may be locked without limit".to_owned()),
    }
}

pub(crate) fn huge_pages() -> Finding {
    let meminfo = read("/proc/meminfo").unwrap_or_default();
    let free = meminfo.lines().find_map(|line| line.strip_prefix("HugePages_Free:")?.trim().parse::<u64>().ok());
    let shmem = read("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default();
    let transparent = !shmem.is_empty() && !shmem.contains("[never]") && !shmem.contains("[deny]");
    match (free, transparent) {
        (Some(1..), _) | (_, true) => {
            let how = if transparent { "transparent ones allowed" } else { "no transparent ones" };
            Fine(format!("{} reserved and free, {how}", free.unwrap_or(0)))
        }
        _ => Warn(
            "none (only ?huge needs them)".to_owned(),
            "sysctl vm.nr_hugepages=64, or echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
        ),
    }
}

pub(crate) fn clock() -> Finding {
    let source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource").unwrap_or_default();
    match source.as_str() {
        "tsc" | "arch_sys_counter" | "kvm-clock" | "hyperv_clocksource_tsc_page" => {
            Fine(format!("{source}: read without a system call"))
        }
        "" => Warn("unknown source".to_owned(), "mount /sys"),
        _ => {
            Warn(format!("{source}: reading it is slow"), "boot with clocksource=tsc tsc=reliable, if the TSC is sound")
        }
    }
}

fn mqueue() -> Finding {
    if let Err(error @ Error::Unsupported { .. }) = mq::is_in_use("/slipring-doctor") {
        return Warn(error.to_string(), "a kernel with CONFIG_POSIX_MQUEUE; only mq: endpoints need it");
    }
    let mounts = read("/proc/self/mounts").unwrap_or_default();
    if mounts.lines().any(|line| line.split(' ').nth(2) == Some("mqueue")) {
        Fine("/dev/mqueue is mounted: queues can be listed".to_owned())
    } else {
        Fine("queues work; to list them, mkdir -p /dev/mqueue && mount -t mqueue none /dev/mqueue".to_owned())
    }
}
