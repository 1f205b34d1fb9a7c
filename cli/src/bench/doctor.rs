//! `bench doctor`: reports what distorts figures on this machine, with the fix.

use clap::Args;

use super::machine::{governor, is_virtual, load, processors, read};
use crate::Context;
use crate::child::Cpus;
use crate::doctor::{self, Finding};
use crate::failure::Outcome;

use Finding::{Ok as Fine, Warn};

/// Report what distorts figures on this machine, with the fix
#[derive(Args)]
#[command(after_help = "OK: fine. WARN: figures will be worse, or vary more; the fix is beside it.")]
pub(super) struct BenchDoctor {}

impl BenchDoctor {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let cpus = Cpus::available();
        let checks = [
            ("build", build()),
            ("processors", pair(&cpus)),
            ("pinning", pinning(&cpus)),
            ("governor", frequency(&cpus)),
            ("smt", siblings(&cpus)),
            ("isolation", isolation(&cpus)),
            ("load", competition()),
            ("timer", doctor::clock()),
            ("huge pages", doctor::huge_pages()),
            ("machine", machine()),
        ];
        doctor::present(&checks, context)
    }
}

fn build() -> Finding {
    if cfg!(debug_assertions) {
        Warn("not optimised".to_owned(), "cargo build --release")
    } else {
        Fine("optimised".to_owned())
    }
}

fn pair(cpus: &Cpus) -> Finding {
    match cpus.count() {
        0 | 1 => Warn("one: both sides share it".to_owned(), "allow a second one (taskset, cpuset)"),
        count => Fine(format!("{count}, of which the first two are used: see --cpu")),
    }
}

fn pinning(cpus: &Cpus) -> Finding {
    let pinned = cpus.pinned(|_| Ok(Cpus::available().count() == 1)).unwrap_or(false);
    if pinned || cpus.is_alone() {
        Fine("each side stays where it is put".to_owned())
    } else {
        Warn("refused".to_owned(), "allow sched_setaffinity in the seccomp profile: sides that move meet cold caches")
    }
}

fn frequency(cpus: &Cpus) -> Finding {
    let governors: Vec<String> = cpus.list().iter().take(2).filter_map(|cpu| governor(*cpu)).collect();
    match governors.iter().find(|governor| *governor != "performance") {
        Some(governor) => Warn(format!("{governor}: the clock rate changes"), "cpupower frequency-set -g performance"),
        None if governors.is_empty() => Fine("not adjustable on this machine".to_owned()),
        None => Fine("performance".to_owned()),
    }
}

/// Whether the two processors are threads of one core, which share caches and compete for its
/// units.
fn siblings(cpus: &Cpus) -> Finding {
    let core = |cpu: &usize| read(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
    let cores: Vec<_> = cpus.list().iter().take(2).filter_map(core).collect();
    match cores[..] {
        [ref one, ref other] if one == other => Warn(
            format!("the first two processors are threads of one core ({one})"),
            "choose others with --cpu, or echo off > /sys/devices/system/cpu/smt/control",
        ),
        _ => Fine("the first two processors are cores of their own".to_owned()),
    }
}

fn isolation(cpus: &Cpus) -> Finding {
    let isolated = read("/sys/devices/system/cpu/isolated").unwrap_or_default();
    let quiet = read("/sys/devices/system/cpu/nohz_full").filter(|list| list != "(null)").unwrap_or_default();
    match cpus.list().iter().take(2).all(|cpu| lists(&isolated, *cpu) && lists(&quiet, *cpu)) {
        true => Fine(format!("isolcpus={isolated} nohz_full={quiet}")),
        false => Warn(
            "the scheduler and its ticks interrupt runs, which shows in maxima and high percentiles".to_owned(),
            "boot with isolcpus=A,B nohz_full=A,B rcu_nocbs=A,B and use --cpu A,B",
        ),
    }
}

/// Whether a list such as `0-3,8` contains `cpu`.
fn lists(list: &str, cpu: usize) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse(), last.parse()), (Ok(first), Ok(last)) if (first..=last).contains(&cpu))
    })
}

fn competition() -> Finding {
    match load() {
        Some(load) if load > 0.3 * processors() as f64 => Warn(
            format!("{load} threads want {} processors", processors()),
            "stop other programs; on a busy machine, rely on the ratios and not on the times",
        ),
        Some(load) => Fine(format!("load average {load}")),
        None => Warn("unknown".to_owned(), "mount /proc"),
    }
}

fn machine() -> Finding {
    if is_virtual() {
        Warn(
            "virtual: its processors may be far apart or preempted, and wake-ups are expensive".to_owned(),
            "measure on the real machine, or pin the virtual processors (virsh vcpupin)",
        )
    } else {
        Fine("not virtual, as far as its processor reports".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::lists;

    #[test]
    fn lists_of_processors() {
        for cpu in [0, 2, 3, 8] {
            assert!(lists("0,2-3,8-9", cpu), "{cpu}");
        }
        for (list, cpu) in [("", 0), ("0,2-3", 1), ("x", 0), ("1-", 1)] {
            assert!(!lists(list, cpu), "{list}");
        }
    }
}
