//! iceoryx2, between processes: publish and subscribe without overflow, loaned samples, retrying
//! until delivered, which is its lossless mode. Asleep with an event beside it, as its
//! documentation recommends: a notification for each sample.

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::{event, publish_subscribe};
use zerocopy::IntoBytes;

use crate::ends::{Peer, Receiver, Sender, until};
use crate::job::{Link, Result, Wait};

pub(crate) struct PublishSubscribe;

pub(crate) struct SenderEnd<const W: usize> {
    publisher: Publisher<ipc::Service, [u64; W], ()>,
    notifier: Option<Notifier<ipc::Service>>,
    _node: Node<ipc::Service>,
}

pub(crate) struct ReceiverEnd<const W: usize> {
    subscriber: Subscriber<ipc::Service, [u64; W], ()>,
    listener: Option<Listener<ipc::Service>>,
    wait: Wait,
    _node: Node<ipc::Service>,
}

impl<const W: usize> Sender<W> for SenderEnd<W> {
    #[inline(always)]
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut sample = self.publisher.loan_uninit().expect("loan");
        let payload: &mut [u64; W] = sample.payload_mut().write([0; W]);
        write(payload.as_mut_bytes());
        // SAFETY: just written.
        let sample = unsafe { sample.assume_init() };
        sample.send().expect("send");
        if let Some(notifier) = &self.notifier {
            notifier.notify().expect("notify");
        }
    }
}

impl<const W: usize> Receiver<W> for ReceiverEnd<W> {
    #[inline(always)]
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        let sample = until(self.wait, || {
            let sample = self.subscriber.receive().expect("receive");
            if let (None, Some(listener)) = (&sample, &mut self.listener) {
                listener.blocking_wait(|_| ()).expect("wait");
            }
            sample
        });
        read(sample.payload().as_bytes());
    }
}

fn node() -> Result<Node<ipc::Service>> {
    Ok(NodeBuilder::new().create::<ipc::Service>()?)
}

fn name(link: &Link) -> Result<ServiceName> {
    Ok(link.unique_name().as_str().try_into()?)
}

type Factory<const W: usize> = publish_subscribe::PortFactory<ipc::Service, [u64; W], ()>;

fn service<const W: usize>(node: &Node<ipc::Service>, link: &Link) -> Result<Factory<W>> {
    let builder = node.service_builder(&name(link)?).publish_subscribe::<[u64; W]>();
    let builder = builder.enable_safe_overflow(false).history_size(0).subscriber_max_buffer_size(link.slots());
    Ok(builder.max_publishers(1).max_subscribers(1).open_or_create()?)
}

fn event(node: &Node<ipc::Service>, link: &Link) -> Result<event::PortFactory<ipc::Service>> {
    Ok(node.service_builder(&name(link)?).event().open_or_create()?)
}

impl Peer for PublishSubscribe {
    type Sender<const W: usize> = SenderEnd<W>;
    type Receiver<const W: usize> = ReceiverEnd<W>;

    fn sender<const W: usize>(link: &Link) -> Result<SenderEnd<W>> {
        let node = node()?;
        let service = service::<W>(&node, link)?;
        let builder = service.publisher_builder();
        let publisher = builder.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create()?;
        let notifier = match link.wait {
            Wait::Sleep => Some(event(&node, link)?.notifier_builder().create()?),
            _ => None,
        };
        Ok(SenderEnd { publisher, notifier, _node: node })
    }

    fn receiver<const W: usize>(link: &Link) -> Result<ReceiverEnd<W>> {
        let node = node()?;
        let subscriber = service::<W>(&node, link)?.subscriber_builder().create()?;
        let listener = match link.wait {
            Wait::Sleep => Some(event(&node, link)?.listener_builder().create()?),
            _ => None,
        };
        Ok(ReceiverEnd { subscriber, listener, wait: link.wait, _node: node })
    }
}
