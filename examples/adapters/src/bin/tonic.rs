//! gRPC (`tonic`) over two byte streams in shared memory: a health check without a socket.
//!
//! ```text
//! cargo run --release --manifest-path examples/adapters/Cargo.toml --bin tonic
//! ```
//!
//! HTTP/2 needs a connection: `AsyncRead` and `AsyncWrite`. A pair of stream rings is one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use slipring::{Options, Ring, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Server};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A connection: one stream for each direction.
struct Connection {
    rx: stream::AsyncConsumer,
    tx: stream::AsyncProducer,
}

impl Connection {
    fn attach(receive: &Ring, send: &Ring) -> slipring::Result<Self> {
        Ok(Connection { rx: stream::Consumer::attach(receive)?.into(), tx: stream::Producer::attach(send)?.into() })
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rx).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tx).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tx).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tx).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Anonymous, for one program; two processes open named rings, or pass descriptors.
    let there = Ring::create_anonymous(&Options::stream(1 << 16))?;
    let back = Ring::create_anonymous(&Options::stream(1 << 16))?;
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("prices", ServingStatus::Serving).await;

    // One connection; a server for many takes each from where clients announce their rings.
    let connection = Connection::attach(&there, &back)?;
    let incoming = futures::stream::iter([Ok::<_, io::Error>(connection)]);
    let serving = tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));

    let mut connection = Some(Connection::attach(&back, &there)?);
    let connect = tower::service_fn(move |_| {
        let connection = connection.take().ok_or_else(|| io::Error::other("there is one connection only"));
        async move { connection.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://ring").connect_with_connector(connect).await?;
    let mut client = HealthClient::new(channel);
    let status = client.check(HealthCheckRequest { service: "prices".to_owned() }).await?.into_inner();
    println!("prices: {:?}", status.status());
    assert_eq!(status.status, ServingStatus::Serving as i32);
    drop(client); // closes the connection, and so ends the server
    serving.await??;
    Ok(())
}
