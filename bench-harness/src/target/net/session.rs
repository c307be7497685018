//! A producer's end of a connection to our node: a session a topic, batches out, acknowledgements in.
//!
//! Batches that are sent while acknowledgements are already here are gathered; before anything is waited for, what is gathered goes out. So
//! nothing waits for company, and company that has come goes together.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use tokio::runtime::Handle;
use walrus_node::{Acked, Acks, Appender, Client, ClientError};

use super::node::LastAck;
use crate::target::Producer;

pub(super) struct NetProducer<'a> {
    runtime: &'a Handle,
    client: &'a Client,
    topics: &'a [String],
    sessions: HashMap<u32, Session>,
    /// The topics of the batches in flight, oldest first.
    in_flight: VecDeque<u32>,
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
        runtime: &'a Handle,
        client: &'a Client,
        topics: &'a [String],
        last_ack: &'a LastAck,
    ) -> NetProducer<'a> {
        NetProducer { runtime, client, topics, sessions: HashMap::new(), in_flight: VecDeque::new(), last_ack }
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

impl Session {
    /// The next acknowledgement, once it comes.
    async fn next(&mut self) -> Result<Acked, ClientError> {
        let ready = tokio::select! {
            biased;
            ack = self.acks.next() => Some(ack),
            () = std::future::ready(()) => None,
        };
        let ack = match ready {
            Some(ack) => ack,
            None => {
                if std::mem::take(&mut self.is_gathering) {
                    // Why a session ended is told by its other half.
                    let _ = self.appender.flush().await;
                }
                self.acks.next().await
            }
        };
        Ok(ack?.expect("there is an end only for a sender that has finished"))
    }
}

impl Producer for NetProducer<'_> {
    fn append(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        self.send(topic, batch)?;
        self.wait_oldest()
    }

    fn send(&mut self, topic: u32, batch: &[Bytes]) -> Result<()> {
        let runtime = self.runtime;
        let session = self.session(topic)?;
        session.is_gathering = true;
        // A session that is over says why in `Acks::next`, which is waited for next.
        if let Err(error @ ClientError::Invalid { .. }) = runtime.block_on(session.appender.send(batch)) {
            return Err(error.into());
        }
        self.in_flight.push_back(topic);
        Ok(())
    }

    fn wait_oldest(&mut self) -> Result<()> {
        let topic = self.in_flight.pop_front().ok_or_else(|| anyhow!("nothing is in flight"))?;
        let runtime = self.runtime;
        runtime.block_on(self.session(topic)?.next())?;
        if self.in_flight.is_empty() {
            self.last_ack.was(Instant::now());
        }
        Ok(())
    }
}
