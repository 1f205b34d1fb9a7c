//! The machine on which figures were measured. Every JSON report includes it, since a figure
//! without its machine is meaningless.

use rustix::thread::sched_getaffinity;
use serde_json::{Value, json};

use crate::doctor;

/// The contents of a short file in /proc or /sys; `None` if it does not exist or is empty.
pub(super) fn read(path: &str) -> Option<String> {
    doctor::read(path).filter(|text| !text.is_empty())
}

fn cpuinfo(key: &str) -> Option<String> {
    let info = read("/proc/cpuinfo")?;
    let line = info.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// Whether this is a virtual machine, as far as its processor reports.
pub(super) fn is_virtual() -> bool {
    cpuinfo("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"))
        || read("/sys/hypervisor/type").is_some()
}

pub(super) fn governor(cpu: usize) -> Option<String> {
    read(&format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"))
}

/// The number of runnable threads, averaged over the last minute.
pub(super) fn load() -> Option<f64> {
    read("/proc/loadavg")?.split(' ').next()?.parse().ok()
}

/// The number of online processors.
pub(super) fn processors() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .max(read("/proc/cpuinfo").map_or(0, |info| info.lines().filter(|line| line.starts_with("processor")).count()))
}

pub(super) fn describe() -> Value {
    json!({
        "cpu": cpuinfo("model name").or_else(|| cpuinfo("CPU part")),
        "architecture": std::env::consts::ARCH,
        "processors": processors(),
        "allowed": sched_getaffinity(None).map(|set| set.count()).ok(),
        "smt": read("/sys/devices/system/cpu/smt/active").map(|active| active == "1"),
        "governor": governor(0),
        "isolated": read("/sys/devices/system/cpu/isolated"),
        "nohz_full": read("/sys/devices/system/cpu/nohz_full"),
        "hypervisor": is_virtual(),
        "clocksource": read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "load_average": read("/proc/loadavg"),
        "slipring": env!("CARGO_PKG_VERSION"),
        "optimised": !cfg!(debug_assertions),
    })
}
