//! Network namespaces joined by pairs of veth interfaces: the hosts of the measurements.
//!
//! What arrives at a host is received by the kernel on the processor of that host, as the
//! interrupts of a network card would have it; without this, the kernel receives on the processor
//! that sends.
//!
//! Used by `scene.rs`. Relies on `ip` of iproute2, and on the rights of root. The names contain the
//! process id, and are removed when [`Net`] is dropped, or by the next run if this one was killed;
//! links vanish with their namespaces.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Namespaces, each joined with each other.
pub(super) struct Net {
    names: Vec<String>,
    /// On which processor the kernel receives for each host.
    receives: RefCell<Vec<Option<usize>>>,
}

impl Net {
    /// `hosts` namespaces, or `None` where they are not allowed.
    pub(super) fn new(hosts: usize) -> Option<Net> {
        remove_left();
        let mut net = Net { names: Vec::new(), receives: RefCell::new(vec![None; hosts]) };
        for host in 0..hosts {
            let name = format!("scale{}-{host}", std::process::id());
            ip(&["netns", "add", &name])?;
            net.names.push(name);
            net.inside(host, &["link", "set", "lo", "up"])?;
        }
        for a in 0..hosts {
            for b in a + 1..hosts {
                let [one, other] = [format!("to{b}"), format!("to{a}")];
                let (ns_a, ns_b) = (&net.names[a], &net.names[b]);
                ip(&["link", "add", &one, "netns", ns_a, "type", "veth", "peer", "name", &other, "netns", ns_b])?;
                for (host, device, peer) in [(a, &one, b), (b, &other, a)] {
                    net.inside(host, &["addr", "add", &format!("{}/30", address(host, peer)), "dev", device])?;
                    net.inside(host, &["link", "set", device, "up"])?;
                }
            }
        }
        Some(net)
    }

    fn inside(&self, host: usize, arguments: &[&str]) -> Option<()> {
        ip(&[&["-n", self.names[host].as_str()], arguments].concat())
    }

    /// Lets the kernel receive on this processor what arrives at `host`.
    pub(super) fn receive_on(&self, host: usize, core: usize) -> io::Result<()> {
        if self.receives.borrow_mut()[host].replace(core) == Some(core) {
            return Ok(());
        }
        let mask = 1 << core;
        let all = format!("for queue in /sys/class/net/to*/queues/rx-0; do echo {mask:x} > $queue/rps_cpus; done");
        let done = self.command(host).args(["sh", "-ec", &all]).status()?;
        if done.success() { Ok(()) } else { Err(io::Error::other("rps_cpus of a namespace cannot be written")) }
    }

    /// A command that starts in the namespace of `host`.
    pub(super) fn command(&self, host: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[host]]);
        command
    }
}

/// The address of `host` on its link to `peer`.
pub(super) fn address(host: usize, peer: usize) -> String {
    let (a, b) = (host.min(peer), host.max(peer));
    format!("10.213.{}.{}", 16 * a + b, 1 + usize::from(host > peer))
}

/// Removes the namespaces of runs whose process has ended.
fn remove_left() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if owner(&name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

/// The process that made a namespace of this name, if it is one of ours: `scalePID-HOST`.
fn owner(name: &str) -> Option<u32> {
    let (pid, host) = name.strip_prefix("scale")?.split_once('-')?;
    host.parse::<usize>().ok()?;
    pid.parse().ok()
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Option<()> {
    let done = Command::new("ip").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_our_namespaces_have_an_owner() {
        let names = ["scale123-0", "scale123-", "scale-0", "scalex-0", "other123-0", "scale123"];
        assert_eq!(names.map(owner), [Some(123), None, None, None, None, None]);
    }
}
