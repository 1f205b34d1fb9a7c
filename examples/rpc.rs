//! Requests and replies between processes, while the server is killed.
//!
//! ```text
//! cargo run --release --example rpc
//! ```
//!
//! The program starts itself as a server that squares numbers. Four clients, threads here, call it.
//! Then the server is killed with SIGKILL in the middle of the calls, and started again. Each call
//! gets its own reply, or is told at once that the server has died; the client calls again.

use std::error::Error;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use slipring::rpc::{Client, Server};
use slipring::{Error as RingError, Options};

const CLIENTS: u16 = 4;
const CALLS: u64 = 50_000;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(name) => Ok(serve(&name)?),
        None => calls(),
    }
}

fn options() -> Options {
    Options::mpmc(64, 64)
}

fn serve(name: &str) -> slipring::Result<()> {
    let mut server = Server::open(name, CLIENTS, &options())?;
    loop {
        let request = server.recv()?;
        let number = request.payload().try_into().map(u64::from_le_bytes).unwrap_or(0);
        // The client may have died meanwhile: that does not concern the others.
        let _ = request.reply(&(number * number).to_le_bytes());
    }
}

fn calls() -> Result<(), Box<dyn Error>> {
    let name = format!("example-rpc-{}", std::process::id());
    drop(Server::open(&name, CLIENTS, &options())?); // creates the rings
    let mut server = start(&name)?;
    let (answered, told) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| client(&name, &answered, &told).expect("a call failed"));
        }
        while answered.load(Relaxed) < CALLS {
            std::thread::yield_now();
        }
        server.kill()?;
        server.wait()?;
        server = start(&name)?;
        std::io::Result::Ok(())
    })?;
    server.kill()?;
    server.wait()?;
    Server::remove(&name, &options())?;
    println!("{} calls answered, {} told of the death of the server", answered.load(Relaxed), told.load(Relaxed));
    assert_eq!(answered.load(Relaxed), CALLS * u64::from(CLIENTS));
    Ok(())
}

fn client(name: &str, answered: &AtomicU64, told: &AtomicU64) -> slipring::Result<()> {
    let mut client = Client::open(name, &options())?;
    for number in 0..CALLS {
        loop {
            match client.call(&number.to_le_bytes(), Duration::from_secs(60)) {
                Ok(reply) => {
                    assert_eq!(reply, (number * number).to_le_bytes());
                    break;
                }
                // It may have squared the number or not: here that makes no difference.
                Err(RingError::PeerDead) => told.fetch_add(1, Relaxed),
                Err(error) => return Err(error),
            };
        }
        answered.fetch_add(1, Relaxed);
    }
    Ok(())
}

fn start(name: &str) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?).arg(name).spawn()
}
