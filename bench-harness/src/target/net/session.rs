//! A producer's end of a connection to our node: a session a topic, batches out, acknowledgements in. Several producers share the sessions.
//!
//! Batches that are sent while acknowledgements are already here are gathered; before anything is waited for, what is gathered goes out. So
//! nothing waits for company, and company that has come goes together.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::task::{self, Poll, Waker};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;
use walrus_node::{Acked, Acks, Appender, Client, ClientError, SharedAppender};

use super::node::LastAck;
use crate::target::Producer;

/// One a topic, for all who append to it.
pub(super) type Sessions = [OnceCell<SharedAppender>];

pub(super) struct NetProducer<'a> {
    runtime: &'a Runtime,
    client: &'a Client,
    topics: &'a [String],
    sessions: HashMap<u32, Session>,
    /// The topics of the batches in flight, oldest first.
    in_flight: VecDeque<u32>,
    /// Those of all producers, where there are several, each of which waits for its own batch.
    shared: Option<&'a Sessions>,
    last_ack: &'a LastAck,
}

struct Session {
    appender: Appender,
    acks: Acks,
    /// Something was handed over and may not have gone out yet.
    is_gathering: bool,
}

impl<'a> NetProducer<'a> {
    pub(super) fn new(
        runtime: &'a Runtime,
        client: &'a Client,
        topics: &'a [String],
        shared: Option<&'a Sessions>,
        last_ack: &'a LastAck,
    ) -> NetProducer<'a> {
        NetProducer { runtime, client, topics, sessions: HashMap::new(), in_flight: VecDeque::new(), shared, last_ack }
    }

    fn session(&mut self, topic: u32) -> Result<&mut Session> {
        if !self.sessions.contains_key(&topic) {
            let name = &self.topics[topic as usize];
            let opened = self.runtime.block_on(self.client.append(name));
            let (appender, acks) = opened.with_context(|| format!("a session on {name}"))?;
            self.sessions.insert(topic, Session { appender, acks, is_gathering: false });
        }
        Ok(self.sessions.get_mut(&topic).expect("it was put there"))
    }
}

/// Drives `future` on the runtime only if it has to wait: a program that is asynchronous itself enters it once, and not for each entry.
fn now_or_on<T>(runtime: &Runtime, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut task::Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => runtime.block_on(future),
    }
}

impl Session {
    /// The next acknowledgement, once it comes. What is gathered goes out before.
    async fn next(&mut self) -> Result<Acked, ClientError> {
        if std::mem::take(&mut self.is_gathering) {
            // Why a session ended is told by its other half.
            let _ = self.appender.flush().await;
        }
        Ok(self.acks.next().await?.expect("there is an end only for a sender that has finished"))
    }
}

impl Producer for NetProducer<'_> {
    fn append(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        let Some(shared) = self.shared else {
            self.send(topic, batch)?;
            return self.wait_oldest();
        };
        self.runtime.block_on(async {
            let session =
                shared[topic as usize].get_or_try_init(|| self.client.append_shared(&self.topics[topic as usize]));
            session.await?.append(batch.to_vec()).await
        })?;
        self.last_ack.was(Instant::now());
        Ok(())
    }

    fn send(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        let runtime = self.runtime;
        let session = self.session(topic)?;
        session.is_gathering = true;
        // A session that is over says why in `Acks::next`, which is waited for next.
        if let Err(error @ ClientError::Invalid { .. }) = now_or_on(runtime, session.appender.send(batch)) {
            return Err(error.into());
        }
        self.in_flight.push_back(topic);
        Ok(())
    }

    fn wait_oldest(&mut self) -> Result<()> {
        let topic = self.in_flight.pop_front().ok_or_else(|| anyhow!("nothing is in flight"))?;
        let runtime = self.runtime;
        let session = self.session(topic)?;
        if session.acks.ready()?.is_none() {
            runtime.block_on(session.next())?;
        }
        if self.in_flight.is_empty() {
            self.last_ack.was(Instant::now());
        }
        Ok(())
    }
}
