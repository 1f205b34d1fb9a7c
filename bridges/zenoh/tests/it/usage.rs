//! Arguments that can never work: exit code 2, and a message that names them.

use crate::common::{Bridge, Rings, address};

/// The message of a bridge that ends with exit code 2.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let rings = Rings::new();
    let bridge = Bridge::start(&rings, None, arguments);
    let errors = bridge.errors_after_the_end(2);
    assert!(!errors.contains(".rs"), "a place in the sources of Zenoh: {errors}");
    errors
}

#[test]
fn what_can_never_work_is_refused_with_its_name() {
    let at = address();
    let connect = |pair: [&str; 2], more: &[&str]| refused(&[&pair[..], &["--connect", &at], more].concat());
    for (pair, text) in [
        (["zenoh:a", "zenoh:b"], "one of SRC and DST"),
        (["ring:a", "ring:b"], "one of SRC and DST"),
        (["ring:a", "zenoh:/a"], "zenoh:/a: Invalid Key Expr"),
        (["ring:a", "zenoh:a/*"], "a/*: a key to send on has no wildcard"),
        (["ring:a-*", "zenoh:a"], "one wildcard"),
        (["ring:a-*", "zenoh:a/*/b/*"], "one wildcard"),
        (["ring:a/b", "zenoh:a"], "ring:a/b: invalid segment name"),
        (["rpc:a/b", "zenoh:a"], "rpc:a/b: invalid segment name"),
        (["zenoh:a", "rpc:a/b"], "rpc:a/b: invalid segment name"),
        (["rpc:a", "zenoh:a/*"], "a/*: a key to send on has no wildcard"),
    ] {
        let errors = connect(pair, &[]);
        assert!(errors.contains(text), "{pair:?}: {errors}");
    }
    for pair in [["rpc:a", "zenoh:a"], ["zenoh:a", "rpc:a"]] {
        for option in [
            &["--policy", "drop"][..],
            &["--policy", "block"],
            &["--reconnect", "1s"],
            &["--count", "1"],
            &["--follow"],
            &["--timeout", "1s"],
        ] {
            let errors = connect(pair, option);
            assert!(errors.contains(option[0]), "{pair:?} {option:?}: {errors}");
        }
    }
    for pair in [["ring:a-*", "zenoh:a/**"], ["zenoh:a/**", "ring:a-*"]] {
        for option in [["--count", "1"], ["--timeout", "1s"]] {
            assert!(connect(pair, &option).contains(option[0]), "{pair:?} {option:?}");
        }
    }
    assert!(connect(["ring:a", "zenoh:a"], &["--reconnect", "1s"]).contains("--reconnect"));
    assert!(refused(&["ring:a", "zenoh:b"]).contains("--connect"));
    assert!(refused(&["ring:a", "zenoh:b", "--listen", "here"]).contains("here"));
    assert!(refused(&["ring:a", "zenoh:b", "--connect", &at, "--mode", "star"]).contains("star"));
}

#[test]
fn a_broken_configuration_is_refused_with_its_path() {
    let files = Rings::new();
    for (name, bytes) in [
        ("missing.json5", None),
        ("cut.json5", Some(&b"{ mode: 'peer', listen"[..])),
        ("unknown.json5", Some(b"{ no_such_field: 3 }")),
        ("empty.json5", Some(b"")),
        ("bytes.json5", Some(b"{ mode: '\xFF' }")),
        ("extension", Some(b"{}")),
    ] {
        let path = files.path().join(name);
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).unwrap();
        }
        let path = path.to_str().unwrap();
        let errors = refused(&["ring:a", "zenoh:b", "--config", path]);
        assert!(errors.contains(path), "{name}: {errors}");
    }
}
