//! Tail, topics and status: docs/PROTOCOL.md#read
//!
//! Leader and follower serve alike: both read only what is durable, in whole batches, from their own log.
//!
//! Layer: leader. Uses `engine`, `net`, `wire`.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{sleep, timeout};

use super::{Counted, Phase, Server, blocking, count, read_violation};
use crate::engine::Engine;
use crate::limits::GROUP_BYTES_MAX;
use crate::net::stream::{FrameWriter, StreamError};
use crate::topic::index::TopicInfo;
use crate::topic::reader::{LogEntry, ReadError, ReadLimit};
use crate::wire::message::{
    ENTRIES_BYTES_PER_FRAME, ENTRIES_PER_FRAME_MAX, End, Entries, EntryHead, Ext, Message, ReadBegin, ReadOpened,
    ReadStart, Refused, Status, TOPICS_PER_FRAME_MAX, TopicRow, Topics,
};
use crate::wire::rights::Identity;
use crate::wire::{Code, Encoded, Violation};

/// How long a client may take to hear the last frame.
const LAST_WORD: Duration = Duration::from_secs(2);
/// How often a log that has ended (it has halted) is looked at again: nobody will say when it moves.
const ENDED_LOG_WAIT: Duration = Duration::from_secs(1);

/// One read.
pub(super) struct Read {
    server: Arc<Server>,
    log: Engine,
    topic: String,
    next: u64,
    /// Where it ends, if it is not live.
    end: Option<u64>,
    /// Entries that it may still have.
    left: u64,
    _ending: Counted,
}

impl Read {
    /// Finds out where it begins and ends.
    pub(super) async fn open(
        server: Arc<Server>,
        log: Engine,
        begin: ReadBegin,
    ) -> Result<(Read, ReadOpened), Violation> {
        let start = ReadStart::from_wire(begin.start_kind, begin.start_value)?;
        let unknown = || read_violation(&ReadError::UnknownTopic(begin.topic.clone()));
        let topic = log.topic(&begin.topic).ok_or_else(unknown)?;
        let next = start_offset(&log, &topic, start).await?;
        if next > topic.next_offset {
            let (topic, next_offset) = (topic.name, topic.next_offset);
            return Err(read_violation(&ReadError::BeyondEnd { topic, asked: next, next_offset }));
        }
        let opened = ReadOpened { start_offset: next, next_offset: topic.next_offset, ext: Ext::default() };
        let left = if begin.entries_max == 0 { u64::MAX } else { begin.entries_max };
        let end = begin.to_end.then_some(topic.next_offset);
        let _ending = Counted::new(&server.ending);
        Ok((Read { server, log, topic: begin.topic, next, end, left, _ending }, opened))
    }

    /// Serves it to its end.
    pub(super) async fn run(mut self, mut writer: FrameWriter) -> Result<(), StreamError> {
        // A client that wants no more stops the stream; while we wait for entries nothing else would tell us.
        let gone = writer.stopped();
        let end = tokio::select! {
            end = self.serve(&mut writer) => end?,
            () = gone => return Ok(()),
        };
        writer.send(end.encode()).await?;
        writer.finish();
        let _ = timeout(LAST_WORD, writer.stopped()).await;
        Ok(())
    }

    async fn serve(&mut self, writer: &mut FrameWriter) -> Result<End, StreamError> {
        let watermark = self.log.published();
        let mut phase = self.server.phase.subscribe();
        loop {
            let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(self.next)).min(self.left);
            if left == 0 {
                return Ok(End::new(Code::OK, ""));
            }
            // Before the read: whatever is published after it is seen by the wait below.
            let (seen, closing) = (watermark.lsn(), *phase.borrow() == Phase::Closing);
            match self.read(left).await {
                Err(error) => {
                    let Violation { code, what } = read_violation(&error);
                    return Ok(End::new(code, what));
                }
                Ok(entries) if !entries.is_empty() => {
                    let fit = entries.iter().take_while(|entry| entry.payload.len() <= GROUP_BYTES_MAX).count();
                    self.send(&entries[..fit], writer).await?;
                    if let Some(entry) = entries.get(fit) {
                        let (offset, bytes) = (entry.offset, entry.payload.len());
                        let what = format!(
                            "offset {offset} has {bytes} bytes, more than a read carries ({GROUP_BYTES_MAX}); read it from the folder"
                        );
                        return Ok(End::new(Code::INVALID, what));
                    }
                }
                Ok(_) if closing => return Ok(End::new(Code::DRAINING, "the node is stopping")),
                Ok(_) => {
                    let more = async {
                        match watermark.has_ended() {
                            true => sleep(ENDED_LOG_WAIT).await,
                            false => drop(watermark.changed_past(seen).await),
                        }
                    };
                    tokio::select! {
                        () = more => {}
                        _ = phase.wait_for(|&phase| phase == Phase::Closing) => {}
                    }
                }
            }
        }
    }

    async fn read(&self, left: u64) -> Result<Vec<LogEntry>, ReadError> {
        let (log, topic, offset) = (self.log.clone(), self.topic.clone(), self.next);
        let entries = usize::try_from(left).unwrap_or(usize::MAX).min(ENTRIES_PER_FRAME_MAX);
        let limit = ReadLimit { entries, bytes: ENTRIES_BYTES_PER_FRAME };
        blocking(move || log.read(&topic, offset, limit)).await
    }

    async fn send(&mut self, entries: &[LogEntry], writer: &mut FrameWriter) -> Result<(), StreamError> {
        for frame in entries_frames(entries) {
            writer.push(frame);
        }
        self.next += entries.len() as u64;
        self.left -= entries.len() as u64;
        count(&self.server.counters.read_entries, entries.len());
        writer.flush().await
    }
}

/// Where a read begins.
async fn start_offset(log: &Engine, topic: &TopicInfo, start: ReadStart) -> Result<u64, Violation> {
    Ok(match start {
        ReadStart::Start => topic.first_offset,
        ReadStart::End => topic.next_offset,
        ReadStart::Offset(offset) => offset,
        ReadStart::Last(entries) => topic.next_offset.saturating_sub(entries).max(topic.first_offset),
        ReadStart::Time(ts_ns) => {
            let (log, name) = (log.clone(), topic.name.clone());
            blocking(move || log.offset_at_time(&name, ts_ns)).await.map_err(|error| read_violation(&error))?
        }
    })
}

/// Entries as frames: several when they do not fit one, whatever the engine's idea of a limit is.
fn entries_frames(entries: &[LogEntry]) -> Vec<Encoded> {
    let mut frames = Vec::new();
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let mut bytes = 0;
        let fits = rest.iter().take(ENTRIES_PER_FRAME_MAX).take_while(|entry| {
            bytes += entry.payload.len();
            bytes == entry.payload.len() || bytes <= 2 * ENTRIES_BYTES_PER_FRAME
        });
        let n = fits.count();
        let (now, later) = rest.split_at(n);
        rest = later;
        frames.push(entries_frame(first, now));
    }
    frames
}

fn entries_frame(first: &LogEntry, entries: &[LogEntry]) -> Encoded {
    let mut heads = Vec::with_capacity(entries.len());
    let mut payload = BytesMut::with_capacity(entries.iter().map(|entry| entry.payload.len()).sum());
    let mut ts_ns = first.ts_ns;
    for entry in entries {
        let len = u32::try_from(entry.payload.len()).expect("what a frame cannot hold was left out");
        heads.push(EntryHead { ts_delta_ns: entry.ts_ns.saturating_sub(ts_ns), len });
        payload.extend_from_slice(&entry.payload);
        ts_ns = ts_ns.max(entry.ts_ns);
    }
    let message = Entries { first_offset: first.offset, ts_ns: first.ts_ns, heads, ext: Ext::default() };
    message.encode_with(payload.freeze())
}

/// The topics that `peer` may see.
pub(super) async fn topics(log: &Engine, peer: &Identity, mut writer: FrameWriter) -> Result<(), StreamError> {
    let rows: Vec<TopicRow> = log.topics().into_iter().filter(|topic| peer.may_touch(&topic.name)).map(row).collect();
    let mut chunks = rows.chunks(TOPICS_PER_FRAME_MAX).peekable();
    loop {
        let topics = chunks.next().unwrap_or_default().to_vec();
        let last = chunks.peek().is_none();
        writer.push(Topics { topics, last, ext: Ext::default() }.encode());
        if last {
            break;
        }
    }
    writer.flush().await?;
    writer.finish();
    Ok(())
}

fn row(topic: TopicInfo) -> TopicRow {
    TopicRow { name: topic.name, id: topic.id.get(), first_offset: topic.first_offset, next_offset: topic.next_offset }
}

/// How the node is.
pub(super) async fn status(server: &Server, mut writer: FrameWriter) -> Result<(), StreamError> {
    let json = Bytes::from(server.status().to_string());
    writer.push(Status { ext: Ext::default() }.encode_with(json));
    writer.flush().await?;
    writer.finish();
    Ok(())
}

/// Refuses a request.
pub(super) async fn refuse(refused: &Refused, mut writer: FrameWriter) -> Result<(), StreamError> {
    writer.send(refused.encode()).await?;
    writer.finish();
    Ok(())
}
