//! Orders from many strategies to one gateway, which must know which of them has died.
//!
//! ```text
//! cargo run --release --example gateway
//! ```
//!
//! The program starts itself as several strategies. Each sends numbered orders through a lane of its
//! own, so that no strategy waits for another one. One of them kills itself with SIGKILL in the
//! middle of writing an order. The gateway receives everything that was sent, in order for each
//! strategy, and is told how each of them ended: of a dead one it would now cancel the open orders.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Command, id};

use slipring::mpsc::{Consumer, Producer, Received};
use slipring::{Options, Ring};

const STRATEGIES: usize = 6;
const ORDERS: u64 = 20_000;
/// The strategy that dies, and after how many orders.
const FATAL: (usize, u64) = (2, 12_345);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [name, number] => strategy(name, number.parse()?),
        _ => gateway(),
    }
}

fn options() -> Options {
    Options::mpsc(64 << 10, STRATEGIES + 1)
}

/// An order: which strategy, which of its orders, and how many to buy.
fn encode(order: &mut [u8], strategy: usize, number: u64) {
    order[..8].copy_from_slice(&(strategy as u64).to_le_bytes());
    order[8..16].copy_from_slice(&number.to_le_bytes());
    order[16..24].copy_from_slice(&(100 * (1 + number % 9)).to_le_bytes());
}

fn strategy(name: &str, strategy: usize) -> Result<(), Box<dyn Error>> {
    let mut tx = Producer::open(name, &options())?;
    for number in 0..ORDERS {
        let mut order = tx.reserve(24)?; // in place; waits only if the gateway is a whole lane behind
        encode(&mut order, strategy, number);
        if (strategy, number) == FATAL {
            Command::new("kill").args(["-9", &id().to_string()]).status()?;
        }
        order.commit(24);
    }
    Ok(())
}

fn gateway() -> Result<(), Box<dyn Error>> {
    let name = format!("gateway-{}", id());
    let mut rx = Consumer::open(&name, &options())?;
    // A lane of our own: without it the ring would be at its end whenever all that came have left.
    let _desk = Producer::attach(rx.ring())?;
    let program = std::env::current_exe()?;
    let start = |number: usize| Command::new(&program).args([&name, &number.to_string()]).spawn();
    let mut strategies = (0..STRATEGIES).map(start).collect::<Result<Vec<_>, _>>()?;

    // Which strategy a lane belongs to is known from its first order on.
    let (mut of_lane, mut received) = (BTreeMap::new(), [0; STRATEGIES]);
    let (mut quantity, mut closed, mut died) = (0, 0, 0);
    while closed + died < STRATEGIES {
        match rx.recv()? {
            Received::Frame(order) => {
                let field = |at: usize| u64::from_le_bytes(order[at..at + 8].try_into().expect("eight bytes"));
                let (strategy, number) = (field(0) as usize, field(8));
                assert_eq!(number, received[strategy], "the orders of a strategy come in order");
                received[strategy] += 1;
                quantity += field(16);
                of_lane.insert(order.source().lane, strategy);
            }
            Received::Ended(end) => {
                let strategy = of_lane[&end.lane];
                let orders = received[strategy];
                if end.died {
                    println!("strategy {strategy} died after {orders} orders: they would be cancelled now");
                    died += 1;
                } else {
                    println!("strategy {strategy} is done: {orders} orders");
                    closed += 1;
                }
            }
        }
    }
    for child in &mut strategies {
        child.wait()?;
    }
    for (strategy, orders) in received.into_iter().enumerate() {
        assert_eq!(orders, if strategy == FATAL.0 { FATAL.1 } else { ORDERS });
    }
    assert_eq!((closed, died), (STRATEGIES - 1, 1));
    println!(
        "gateway: {} orders for {quantity}, of {STRATEGIES} strategies, one of which died",
        received.iter().sum::<u64>()
    );
    Ring::remove(&name, &options())?;
    Ok(())
}
