//! `tarpc` over a pair of rings: one service, one client, no socket.
//!
//! ```text
//! cargo run --release --manifest-path examples/adapters/Cargo.toml --bin tarpc
//! ```
//!
//! A transport of `tarpc` is a `Stream` of what arrives and a `Sink` of what is sent. The handles of
//! rings for tasks are a `Stream` and a `Sink` of bytes; `Rings` encodes the messages with
//! `postcard`.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{Sink, Stream, StreamExt};
use serde::{Serialize, de::DeserializeOwned};
use slipring::{Options, Ring, spsc};
use tarpc::server::{BaseChannel, Channel};
use tarpc::{client, context};

#[tarpc::service]
trait Prices {
    /// The price of a symbol, in points.
    async fn price(symbol: String) -> Option<i64>;
}

#[derive(Clone)]
struct Book;

impl Prices for Book {
    async fn price(self, _: context::Context, symbol: String) -> Option<i64> {
        (symbol == "EURUSD").then_some(10_842)
    }
}

/// A pair of rings: receives values of the type `In`, sends those of the type `Out`.
struct Rings<In, Out> {
    rx: spsc::AsyncConsumer,
    tx: spsc::AsyncProducer,
    types: PhantomData<fn(Out) -> In>,
}

impl<In, Out> Rings<In, Out> {
    fn attach(receive: &Ring, send: &Ring) -> slipring::Result<Self> {
        let (rx, tx) = (spsc::Consumer::attach(receive)?, spsc::Producer::attach(send)?);
        Ok(Rings { rx: rx.into(), tx: tx.into(), types: PhantomData })
    }
}

const NO_MESSAGE: slipring::Error = slipring::Error::Corrupt { what: "message: postcard cannot decode it" };

impl<In: DeserializeOwned, Out> Stream for Rings<In, Out> {
    type Item = slipring::Result<In>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let bytes = ready!(self.rx.poll_next_unpin(cx));
        Poll::Ready(bytes.map(|bytes| postcard::from_bytes(&bytes?).map_err(|_| NO_MESSAGE)))
    }
}

impl<In, Out: Serialize> Sink<Out> for Rings<In, Out> {
    type Error = slipring::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<slipring::Result<()>> {
        Pin::new(&mut self.tx).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Out) -> slipring::Result<()> {
        let what = "message: postcard cannot encode it";
        let bytes = postcard::to_stdvec(&message).map_err(|_| slipring::Error::Invalid { what })?;
        Pin::new(&mut self.tx).start_send(bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<slipring::Result<()>> {
        Pin::new(&mut self.tx).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<slipring::Result<()>> {
        Pin::new(&mut self.tx).poll_close(cx)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Anonymous, for one program; two processes open named rings, or pass descriptors.
    let requests = Ring::create_anonymous(&Options::spsc(1 << 16))?;
    let replies = Ring::create_anonymous(&Options::spsc(1 << 16))?;
    let server = BaseChannel::with_defaults(Rings::attach(&requests, &replies)?);
    let serving = tokio::spawn(server.execute(Book.serve()).for_each(|reply| async {
        tokio::spawn(reply);
    }));
    let client = PricesClient::new(client::Config::default(), Rings::attach(&replies, &requests)?).spawn();
    for symbol in ["EURUSD", "GBPUSD"] {
        println!("{symbol}: {:?}", client.price(context::current(), symbol.to_owned()).await?);
    }
    assert_eq!(client.price(context::current(), "EURUSD".to_owned()).await?, Some(10_842));
    drop(client); // the server finds the end of the ring
    serving.await?;
    Ok(())
}
