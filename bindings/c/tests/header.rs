//! `include/slipring.h` is what cbindgen makes of the sources: `make header` writes it anew, this
//! test compares.

use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config, DocumentationStyle, Language, LineEndingStyle, Style};

/// In the order of the header.
const SOURCES: [&str; 12] = [
    "error",
    "arguments",
    "frame",
    "producer",
    "consumer",
    "stream",
    "latest",
    "named",
    "set",
    "rpc",
    "handle",
    "ringbuffer",
];

const HEAD: &str = "\
/*
 * slipring.h: crash-safe shared-memory IPC for Linux, from C and C++.
 *
 * Written by `make header` from src/, and compared with it by `cargo test`: do not edit.
 *
 * Errors. A function returns 0 or a positive result, or a negative code: -SLIPRING_EAGAIN and so on,
 * or a negated errno value of a system call. slipring_strerror() explains a code,
 * slipring_last_error() has the details of the last failure in this thread. A pointer that is not
 * NULL must point to what the comment says, as everywhere in C. Every other wrong argument gets an
 * error: NULL, a misaligned pointer, an option that has no effect on what is opened, a handle that
 * was closed, of another type, of another thread, or of the parent process.
 *
 * Time-outs. All are in nanoseconds from now: 0 does not wait, a negative number has no limit.
 *
 * Threads. A handle belongs to the thread that makes the first call on it after opening it. Open one
 * for each thread, or hand it over by slipring_take(). Another thread may close it while its owner
 * is in no call. Wakers and cancellers are for all threads; slipring_wake() and slipring_cancel() are
 * also for signal handlers, and nothing else is. Do not leave a call by longjmp() or
 * pthread_cancel(): this thread's other calls would get -SLIPRING_EBUSY.
 *
 * fork. A handle belongs to the process that opened it: in a child every call gets
 * -SLIPRING_EFORKED, but for slipring_close(). Open it again there.
 */";

const AFTER_INCLUDES: &str = "
/** The version of this header: compare it with slipring_version(). */
#define SLIPRING_VERSION \"0.1.0\"
#define SLIPRING_VERSION_MAJOR 0
#define SLIPRING_VERSION_MINOR 1
#define SLIPRING_VERSION_PATCH 0

/** All options at their defaults: slipring_options options = SLIPRING_OPTIONS_INIT; */
#define SLIPRING_OPTIONS_INIT {sizeof(slipring_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL}
";

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn generate() -> String {
    let config = Config {
        language: Language::C,
        cpp_compat: true,
        style: Style::Both,
        documentation_style: DocumentationStyle::Doxy,
        header: Some(HEAD.to_owned()),
        include_guard: Some("SLIPRING_H".to_owned()),
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        no_includes: true,
        after_includes: Some(AFTER_INCLUDES.to_owned()),
        line_length: 100,
        line_endings: LineEndingStyle::LF,
        usize_is_size_t: true,
        ..Config::default()
    };
    let mut builder = Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(here().join(format!("src/{source}.rs")));
    }
    let mut text = Vec::new();
    builder.generate().expect("the sources are Rust").write(&mut text);
    // C89 has no comments of this form.
    let text = String::from_utf8(text).expect("the sources are UTF-8");
    let lines = text.lines().map(|line| match line.split_once("//") {
        Some((code, comment)) if line.starts_with(['#', '}']) => {
            format!("{}  /* {} */\n", code.trim_end(), comment.trim())
        }
        _ => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn the_header_is_that_of_the_sources() {
    let path = here().join("include/slipring.h");
    let header = generate();
    if std::env::var_os("SLIPRING_WRITE_HEADER").is_some() {
        std::fs::write(&path, &header).expect("the header can be written");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == header, "include/slipring.h is not up to date: run `make -C bindings/c header`");
}

#[test]
fn the_header_names_the_version() {
    assert!(AFTER_INCLUDES.contains(env!("CARGO_PKG_VERSION")));
    for (name, value) in [
        ("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ] {
        assert!(AFTER_INCLUDES.contains(&format!("#define SLIPRING_VERSION_{name} {value}\n")), "{name}");
    }
    let pc = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile")).expect("there is one");
    assert!(pc.contains(&format!("VERSION = {}\n", env!("CARGO_PKG_VERSION"))), "the Makefile's VERSION");
}
