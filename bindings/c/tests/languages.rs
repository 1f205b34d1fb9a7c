//! A Rust program and a C++ program that each declare the same message understand each other, and
//! are told when they do not. The C++ side is `peers/typed.cpp`, which this test compiles; without a
//! C++ compiler it says so and does nothing.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use slipring::typed::{Message, Typed};
use slipring::{Error, Options, spsc};

slipring::message! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Level { price: i64, size: u32, orders: u32 }
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Quote { bid: i64, ask: i64, weights: [[f32; 3]; 2], venue: [u8; 8], levels: [Level; 2] }
}

const QUOTES: i64 = 5000;

fn quote(number: i64) -> Quote {
    let level = Level { price: number * 2, size: 3, orders: 4 };
    let weights = [[number as f32; 3], [0.5, 0.25, 0.125]];
    Quote { bid: number, ask: -number, weights, venue: *b"exchange", levels: [level, Level { price: 0, ..level }] }
}

#[test]
fn a_cpp_program_exchanges_typed_messages_with_rust() {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| OsString::from("c++"));
    if Command::new(&compiler).arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: there is no C++ compiler; set CXX");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Beside the test programs: the library under the name that programs load.
    let built = std::env::current_exe().unwrap().with_file_name("libslipring_c.so");
    symlink(built, directory.path().join("libslipring.so.0")).unwrap();
    let program = directory.path().join("typed");
    let compiled = Command::new(&compiler)
        .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-O1", "-o"])
        .arg(&program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/typed.cpp"))
        .args(["-l:libslipring.so.0", "-L"])
        .arg(directory.path())
        .arg(format!("-Wl,-rpath,{}", directory.path().display()))
        .status()
        .unwrap();
    assert!(compiled.success());

    let segments = directory.path().join("segments");
    let options = Options::spsc(1 << 16).directory(&segments);
    let mut tx: Typed<Quote, _> = Typed::new(spsc::Producer::open("to_cpp", &options).unwrap()).unwrap();
    let mut rx: Typed<Quote, _> = Typed::new(spsc::Consumer::open("from_cpp", &options).unwrap()).unwrap();
    let peer = Command::new(&program)
        .args(["to_cpp", "from_cpp"])
        .env("SLIPRING_DIR", &segments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sending = std::thread::spawn(move || (0..QUOTES).try_for_each(|number| tx.send(&quote(number))));
    for number in 0..QUOTES {
        let back: Quote = rx.recv().unwrap();
        assert_eq!(back, Quote { bid: -number, ask: number, ..quote(number) });
    }
    sending.join().unwrap().unwrap();
    assert_eq!(rx.recv().unwrap_err(), Error::Closed);

    let output = peer.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let (other, error) = said.split_once('\n').unwrap();
    let mut ours = String::new();
    Quote::describe(&mut ours);
    assert!(error.contains(&ours) && error.contains(other), "{said}");
}
