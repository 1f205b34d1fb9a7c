//! TLS by the configuration files of `examples/tls`, with a certificate made as `README.md` says.

use std::process::{Command, Stdio};
use std::time::Duration;

use slipring::{Options, spsc};

use crate::common::{Bridge, Rings, header, payload};

/// The openssl command of `README.md`, without its line ends.
fn certificate(rings: &Rings) -> bool {
    let readme = include_str!("../../README.md");
    let (_, command) = readme.split_once("$ openssl ").unwrap();
    let (command, _) = command.split_once("\n$").unwrap();
    let command = command.replace('\\', " ");
    let mut openssl = Command::new("openssl");
    openssl.args(command.split_whitespace()).current_dir(rings.path());
    match openssl.stderr(Stdio::null()).status() {
        Err(error) => {
            eprintln!("skipped: no openssl: {error}");
            false
        }
        Ok(status) => {
            assert!(status.success());
            true
        }
    }
}

fn configuration(rings: &Rings, name: &str, text: &str) -> String {
    let path = rings.path().join(name);
    let within = |file: &str| format!("\"{}\"", rings.path().join(file).display());
    let text = text.replace("\"cert.pem\"", &within("cert.pem")).replace("\"key.pem\"", &within("key.pem"));
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn frames_go_over_tls_between_those_who_have_the_key() {
    let rings = Rings::new();
    if !certificate(&rings) {
        return;
    }
    let text = include_str!("../../examples/tls/here.json5");
    let there = configuration(&rings, ".there.json5", include_str!("../../examples/tls/there.json5"));
    let here = configuration(&rings, ".here.json5", text);
    let lines = text.lines().filter(|line| !line.contains("mtls") && !line.contains("connect_"));
    let keyless = configuration(&rings, ".keyless.json5", &lines.collect::<Vec<_>>().join("\n"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = format!("tls/127.0.0.1:{port}");
    let there = Bridge::start(&rings, None, &["zenoh:secret", "ring:there", "--config", &there, "--listen", &at]);
    let mut rx = spsc::Consumer::open("there", &rings.options(Options::spsc(1 << 16))).unwrap();
    let mut tx = spsc::Producer::open("here", &rings.options(Options::spsc(1 << 16))).unwrap();
    tx.send_frame(header(), &payload(0)).unwrap();
    // Those that do not have the key find no receiver.
    let timeout = ["--timeout", "2s"];
    let without = ["ring:here", "zenoh:secret", "--config", &keyless, "--connect", &at];
    let without = Bridge::start(&rings, None, &[&without, &timeout[..]].concat());
    assert_eq!(without.end().0.code(), Some(124));
    let plain = at.replace("tls/", "tcp/");
    let plain =
        Bridge::start(&rings, None, &[&["ring:here", "zenoh:secret", "--connect", &plain], &timeout[..]].concat());
    assert_eq!(plain.end().0.code(), Some(124));
    let here = Bridge::start(&rings, None, &["ring:here", "zenoh:secret", "--config", &here, "--connect", &at]);
    assert_eq!(*rx.recv_deadline(Duration::from_secs(60)).unwrap(), *payload(0));
    drop(tx);
    assert_eq!((here.end().0.code(), there.end().0.code()), (Some(0), Some(0)));
}
