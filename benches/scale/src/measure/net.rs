//! Network namespaces joined by pairs of veth interfaces: the hosts of the measurements.
//!
//! Used by `scene.rs`. Relies on `ip` of iproute2, and on the rights of root. The names contain the
//! process id, and are removed when [`Net`] is dropped; links vanish with their namespaces.

use std::process::{Command, Stdio};

/// Namespaces, each joined with each other.
pub(super) struct Net {
    names: Vec<String>,
}

impl Net {
    /// `hosts` namespaces, or `None` where they are not allowed.
    pub(super) fn new(hosts: usize) -> Option<Net> {
        let mut net = Net { names: Vec::new() };
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
