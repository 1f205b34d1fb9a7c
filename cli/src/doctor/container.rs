//! What a container changes for rings: which processes see the same directory, as whom, and what its
//! engine takes away.
//!
//! Used by `doctor`. Reads `/proc` and the control groups; where they cannot be read, a check says
//! so. The fixes are options of Docker, which Podman has as well, and fields of Kubernetes.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfs, StatVfsMountFlags, statvfs};
use rustix::process::{PidfdFlags, geteuid, getpid, pidfd_open};

use super::Finding::{self, Fail, Ok as Fine, Warn};
use super::read;
use crate::units;

/// Inodes of the first namespaces of each type (linux/proc_ns.h); a container has others.
const FIRST: [(&str, u64); 5] =
    [("pid", 0xEFFF_FFFC), ("ipc", 0xEFFF_FFFF), ("user", 0xEFFF_FFFD), ("cgroup", 0xEFFF_FFFB), ("time", 0xEFFF_FFFA)];
/// What an unmapped user looks like (user_namespaces(7)).
const OVERFLOW: u32 = 65534;
/// Of `/dev/shm`, if the engine is told nothing else.
const DEFAULT_SHM: u64 = 64 << 20;

/// What was found once, for several checks.
pub(super) struct Container {
    /// The engine, if there is one.
    engine: Option<&'static str>,
    /// The namespaces that are not the first of the machine.
    own: Vec<&'static str>,
    mount: Option<Mount>,
}

/// The file system in which the directory of rings lies: a line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    kind: String,
    source: String,
}

impl Container {
    /// `place` is the directory of rings, or the one in which it will be made.
    pub(super) fn find(place: &Path) -> Self {
        let own = FIRST.iter().filter(|(name, first)| {
            fs::metadata(format!("/proc/self/ns/{name}")).is_ok_and(|found| found.st_ino() != *first)
        });
        let place = place.canonicalize().unwrap_or_else(|_| place.to_owned());
        Container {
            engine: engine(),
            own: own.map(|(name, _)| *name).collect(),
            mount: read("/proc/self/mountinfo").and_then(|table| mount_of(&place, &table)),
        }
    }

    /// A description, not a verdict.
    pub(super) fn describe(&self) -> Finding {
        let own = match &self.own[..] {
            [] => "the namespaces of the machine".to_owned(),
            own => format!("namespaces of its own: {}", own.join(", ")),
        };
        let pids = if self.own.contains(&"pid") { "; pids of other ones mean nothing here" } else { "" };
        Fine(match self.engine {
            Some(engine) if self.own.is_empty() => format!("traces of {engine}, but {own}"),
            Some(engine) => format!("{engine}; {own}{pids}"),
            None => format!("no container engine found; {own}{pids}"),
        })
    }

    /// Whether `/proc` shows this process under its own pid.
    pub(super) fn proc(&self) -> Option<Finding> {
        let ourselves = fs::read_link("/proc/self").ok();
        let pid = std::process::id().to_string();
        (Path::new("/proc/self").is_symlink() && ourselves.as_deref() != Some(Path::new(&pid))).then(|| {
            Warn(
                "/proc is that of another pid namespace".to_owned(),
                "mount -t proc proc /proc in the container (unshare: --mount-proc)",
            )
        })
    }

    /// The type of the file system, and which other containers see it.
    pub(super) fn file_system(&self, place: &Path) -> Finding {
        const SHARE: &str = "docker: -v /dev/shm/slipring:/dev/shm/slipring in each container, or --ipc=shareable \
                             here and --ipc=container:NAME there; Kubernetes: mount one emptyDir in both";
        let Some(Mount { point, kind, source }) = &self.mount else {
            return Warn("unknown: no /proc/self/mountinfo".to_owned(), "mount /proc");
        };
        let at = format!("{kind} at {}", point.display());
        if statvfs(place).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY)) {
            return Fail(
                format!("{at}, read-only: rings can only be observed"),
                "mount it read-write: no :ro behind -v, no readOnly in volumeMounts; with --read-only add -v or --tmpfs",
            );
        }
        match kind.as_str() {
            "overlay" => Warn(
                format!("{at}: no other container sees it, and its pages are written to disk"),
                "docker: -v /dev/shm/slipring:/dev/shm/slipring and SLIPRING_DIR=/dev/shm/slipring in each container",
            ),
            // The engines name the /dev/shm that they make so.
            "tmpfs" if source == "shm" => {
                Warn(format!("{at}, made for this container: others see it only by --ipc"), SHARE)
            }
            "tmpfs" | "ramfs" | "hugetlbfs" => Fine(format!("{at}: in memory")),
            _ => Warn(
                format!("{at}: its pages are written to disk"),
                "point SLIPRING_DIR to a directory on tmpfs, such as /dev/shm",
            ),
        }
    }

    /// Whether there is room for rings.
    pub(super) fn space(&self, place: &Path) -> Finding {
        const ROOM: &str = "mount -o remount,size=1G /dev/shm (docker: --shm-size=1g; Kubernetes: emptyDir with \
                            medium: Memory and sizeLimit: 1Gi)";
        let StatVfs { f_bavail, f_blocks, f_frsize, .. } = match statvfs(place) {
            Ok(found) => found,
            Err(e) => return Warn(format!("unknown: {e}"), "make the directory accessible"),
        };
        let (free, all) = (f_bavail.saturating_mul(f_frsize), f_blocks.saturating_mul(f_frsize));
        let text = format!("{} free in {}", units::bytes(free), place.display());
        match all {
            1..=DEFAULT_SHM => Warn(format!("{text}, {} in all", units::bytes(all)), ROOM),
            _ if free < DEFAULT_SHM => Warn(text, ROOM),
            _ => Fine(text),
        }
    }

    /// Whether the control group has the memory that the file system promises.
    pub(super) fn memory(&self, place: &Path) -> Finding {
        let all = statvfs(place).map_or(0, |fs| fs.f_blocks.saturating_mul(fs.f_frsize));
        let in_memory = self.mount.as_ref().is_some_and(|mount| mount.kind == "tmpfs");
        match memory_limit(&read("/proc/self/cgroup").unwrap_or_default(), Path::new("/sys/fs/cgroup")) {
            Some(limit) if in_memory && all > limit => Warn(
                format!(
                    "the control group may use {}, rings included; the file system promises {}",
                    units::bytes(limit),
                    units::bytes(all)
                ),
                "docker: --memory larger than all rings and the program together, or a smaller --shm-size; \
                 Kubernetes: resources.limits.memory above sizeLimit. Beyond it, processes are killed",
            ),
            Some(limit) => Fine(format!("the control group may use {}, rings included", units::bytes(limit))),
            None => Fine("no limit of a control group".to_owned()),
        }
    }

    /// Who this user is to other containers.
    pub(super) fn user(&self) -> Finding {
        let uid = geteuid().as_raw();
        let Some(map) = read("/proc/self/uid_map") else {
            return Warn(format!("uid {uid}, of an unknown user namespace"), "mount /proc");
        };
        match outside(uid, &map) {
            Some(outside) if outside == uid && is_whole(&map) => Fine(format!("uid {uid}, the same everywhere")),
            Some(outside) => Warn(
                format!("uid {uid} here is uid {outside} outside: only processes that are it there can share rings"),
                "the same mapping in all containers: docker: --userns=host; podman: --userns=keep-id; then one --user",
            ),
            None => Fail(
                format!("uid {uid} is what every unmapped user looks like: no owner can be told from another"),
                "docker: --user with a uid that the user namespace maps (see /proc/self/uid_map)",
            ),
        }
    }

    /// Whether a filter of system calls is in force. The checks of the calls tell what it forbids.
    pub(super) fn seccomp(&self) -> Finding {
        match status("Seccomp").as_deref() {
            Some("0") => Fine("no filter of system calls".to_owned()),
            Some("2") => Fine("a filter of system calls; what it forbids is listed here".to_owned()),
            Some(_) => Fail(
                "strict: only read, write and exit are allowed".to_owned(),
                "start it without PR_SET_SECCOMP; docker: --security-opt seccomp=FILE",
            ),
            None => Warn("unknown: no /proc/self/status".to_owned(), "mount /proc"),
        }
    }

    /// Whether the death of a peer is an event.
    pub(super) fn pidfd(&self) -> Finding {
        match pidfd_open(getpid(), PidfdFlags::empty()) {
            Ok(_) => Fine("the death of a peer in the same pid namespace ends a wait at once".to_owned()),
            Err(e) => Warn(
                format!("pidfd_open: {e}: deaths of peers are noticed by the clock, within 50 ms"),
                "Linux 5.3, and pidfd_open in the seccomp profile (docker: --security-opt seccomp=FILE)",
            ),
        }
    }

    /// Whether the clock is that of other containers. `None` where there are no time namespaces.
    pub(super) fn time(&self) -> Option<Finding> {
        let ahead = seconds_ahead(&read("/proc/self/timens_offsets")?);
        Some(match ahead {
            0 => Fine("the monotonic clock is that of the machine".to_owned()),
            _ => Warn(
                format!("the monotonic clock is {ahead} s ahead of the machine's"),
                "no time namespace (unshare: without --time): the stamps of frames of others are of another clock",
            ),
        })
    }

    /// `CAP_IPC_LOCK`, which lifts the limit on locked memory in the first user namespace only.
    pub(super) fn may_lock_all(&self) -> bool {
        const IPC_LOCK: u32 = 14;
        let capabilities = status("CapEff").and_then(|set| u64::from_str_radix(&set, 16).ok()).unwrap_or(0);
        capabilities >> IPC_LOCK & 1 == 1 && !self.own.contains(&"user")
    }

    /// The fix for a directory that is refused.
    pub(super) fn fix_of_directory(error: &str) -> &'static str {
        if error.contains("another user") || error.contains("ermission denied") {
            "run as its owner (docker: --user UID:GID; Kubernetes: runAsUser), see ls -ldn, or point SLIPRING_DIR to a \
             directory of your own with mode 0700"
        } else {
            "point SLIPRING_DIR to a directory of your own with mode 0700"
        }
    }
}

/// A field of `/proc/self/status`.
fn status(field: &str) -> Option<String> {
    let status = read("/proc/self/status")?;
    status.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
}

/// The engine, by what each leaves in a container.
fn engine() -> Option<&'static str> {
    let first = read("/proc/1/cgroup").unwrap_or_default();
    let is_set = |name| std::env::var_os(name).is_some();
    if is_set("KUBERNETES_SERVICE_HOST") || first.contains("kubepods") {
        Some("Kubernetes")
    } else if Path::new("/run/.containerenv").exists() || first.contains("libpod") {
        Some("Podman")
    } else if Path::new("/.dockerenv").exists() || first.contains("docker") {
        Some("Docker")
    } else if is_set("container") || first.contains("lxc") {
        Some("a container")
    } else {
        None
    }
}

/// The mount that holds `place`, the last of those with the longest path (proc_pid_mountinfo(5)).
fn mount_of(place: &Path, table: &str) -> Option<Mount> {
    let mounts = table.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = PathBuf::from(before.split(' ').nth(4)?.replace("\\040", " "));
        let mut after = after.split(' ');
        place.starts_with(&point).then_some(Mount {
            point,
            kind: after.next()?.to_owned(),
            source: after.next()?.to_owned(),
        })
    });
    mounts.max_by_key(|mount| mount.point.as_os_str().len())
}

/// What `uid` is in the namespace outside, by a map of ranges (user_namespaces(7)). `None` if it is
/// not mapped, or looks so.
fn outside(uid: u32, map: &str) -> Option<u32> {
    let is_ambiguous = uid == OVERFLOW && !is_whole(map);
    let ranges = map.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse::<u32>().ok());
        Some((numbers.next()??, numbers.next()??, numbers.next()??))
    });
    let mut found = ranges.filter_map(|(inside, outside, len)| {
        let at = uid.checked_sub(inside).filter(|at| *at < len)?;
        outside.checked_add(at)
    });
    if is_ambiguous { None } else { found.next() }
}

/// Whether a map is that of the first user namespace.
fn is_whole(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Seconds by which the monotonic clock is ahead (time_namespaces(7)).
fn seconds_ahead(offsets: &str) -> i64 {
    let monotonic = offsets.lines().find_map(|line| line.trim().strip_prefix("monotonic"));
    monotonic.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The smallest limit of a control group and of those above it, by `/proc/self/cgroup` and the
/// mounted hierarchy. The limits of cgroups that this container does not see are not known.
fn memory_limit(own: &str, mounted: &Path) -> Option<u64> {
    let limits = own.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, Path::new(fields.next()?).strip_prefix("/").ok()?);
        let (base, file) = match controllers {
            "" => (mounted.to_owned(), "memory.max"),
            "memory" => (mounted.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        let groups = path.ancestors().map(|group| base.join(group));
        groups.filter_map(|group| read(group.join(file).to_str()?)?.parse::<u64>().ok()).min()
    });
    // Without a limit, the older ones say nearly 2^63.
    limits.filter(|limit| *limit < 1 << 60).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_of_users() {
        let whole = "         0          0 4294967295";
        assert_eq!((outside(0, whole), outside(OVERFLOW, whole)), (Some(0), Some(OVERFLOW)));
        let rootless = "0 1000 1\n1 100000 65536";
        assert_eq!([0, 1, 999].map(|uid| outside(uid, rootless)), [Some(1000), Some(100_000), Some(100_998)]);
        assert_eq!(outside(OVERFLOW, rootless), None, "mapped, but all that are not look so, too");
        assert_eq!((outside(5, "0 0 1"), outside(0, ""), outside(1, "1 4294967295 2")), (None, None, Some(u32::MAX)));
        assert_eq!(outside(2, "1 4294967295 2"), None);
    }

    #[test]
    fn the_mount_of_a_directory() {
        let table = "22 1 0:1 / / rw - overlay overlay rw,lowerdir=a\n\
                     30 22 0:2 / /dev/shm rw,nosuid shared:3 - tmpfs shm rw,size=65536k\n\
                     31 30 0:3 /slipring /dev/shm/sli\\040pring rw - tmpfs tmpfs rw\nnonsense\n1 2 - x";
        let of = |place: &str| mount_of(place.as_ref(), table).map(|mount| (mount.kind, mount.source));
        assert_eq!(of("/tmp"), Some(("overlay".into(), "overlay".into())));
        assert_eq!(of("/dev/shm/slipring-0"), Some(("tmpfs".into(), "shm".into())));
        assert_eq!(of("/dev/shm/sli pring"), Some(("tmpfs".into(), "tmpfs".into())));
        assert_eq!(of("/dev/shmx").unwrap().0, "overlay");
    }

    #[test]
    fn clocks() {
        assert_eq!(seconds_ahead("monotonic           0         0\nboottime            0         0"), 0);
        assert_eq!(seconds_ahead("monotonic     1000000         0\nboottime  7  0"), 1_000_000);
        assert_eq!(seconds_ahead("monotonic  -5  0"), -5);
        assert_eq!(seconds_ahead("nonsense"), 0);
    }

    #[test]
    fn limits_of_memory() {
        let mounted = tempfile::tempdir().unwrap();
        let limit = |own| memory_limit(own, mounted.path());
        let write = |group: &str, file: &str, text: &str| {
            fs::create_dir_all(mounted.path().join(group)).unwrap();
            fs::write(mounted.path().join(group).join(file), text).unwrap();
        };
        assert_eq!(limit("0::/a/b"), None);
        write("a/b", "memory.max", "max\n");
        assert_eq!(limit("0::/a/b"), None);
        write("a", "memory.max", "1000\n");
        write("a/b", "memory.max", "2000\n");
        assert_eq!((limit("0::/a/b"), limit("0::/"), limit("1:cpu:/a")), (Some(1000), None, None));
        write("memory/c", "memory.limit_in_bytes", "9223372036854771712");
        assert_eq!(limit("5:memory:/c\n0::/"), None);
        write("memory/c", "memory.limit_in_bytes", "777");
        assert_eq!(limit("5:memory:/c\n0::/a"), Some(777));
    }
}
