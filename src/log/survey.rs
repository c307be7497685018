//! What can still be read of a damaged log, and how many places are damaged. For `verify` and for reads; nothing is changed.
//!
//! Behind a damaged block the log goes on at the next self-consistent block with a later LSN. Whether that block begins an atomic
//! group is known only if the damaged one's header is still sound; otherwise the survey passes over blocks until a group has
//! ended, so that no part of a batch is shown as a whole one.
//!
//! Layer: log. Uses `walk`. Decides nothing about opening.

use super::damage::Damage;
use super::meta::{BlockMeta, Sink};
use super::recovery::{OpenError, Recovered};
use super::tail::Tail;
use super::walk::{Walker, Window, behind};
use crate::format::block::BlockView;
use crate::lsn::Position;
use crate::storage;

/// The rest of a damaged log.
pub(crate) struct Survey {
    /// Every damaged place, in order.
    pub(crate) damage: Vec<Damage>,
    /// The end of the last whole group that can be read.
    pub(crate) tail: Tail,
}

/// Goes through what lies behind the first damage. Whole groups go to `sink`.
pub(crate) fn survey(recovered: &Recovered, sink: &dyn Sink) -> Result<Survey, OpenError> {
    let mut survey = Survey { damage: recovered.damage.iter().cloned().collect(), tail: recovered.tail };
    let mut broken_at = recovered.end;
    while let Some(next) = go_on_behind(recovered, &broken_at)? {
        if next.is_new_damage {
            survey.damage.push(Damage::at(broken_at.position, broken_at.lsn, "unreadable".into()));
        }
        broken_at = walk_on(recovered, sink, next, &mut survey)?;
    }
    Ok(survey)
}

/// Where the log can be taken up again.
struct Resumption {
    from: Tail,
    /// Whether a group begins there.
    at_group_start: bool,
    is_new_damage: bool,
}

/// Follows the log from `next` to its next break, which is returned.
fn walk_on(recovered: &Recovered, sink: &dyn Sink, next: Resumption, survey: &mut Survey) -> Result<Tail, OpenError> {
    let mut walker = Walker::new(&recovered.segments, recovered.fences(), next.from);
    let (mut whole, mut group) = (next.at_group_start, Vec::new());
    while let Ok(view) = walker.step()? {
        group.push(BlockMeta::of(&view.portable, view.envelope.position, view.total_len));
        if view.portable.head.remaining > 0 {
            continue;
        }
        if whole {
            for block in &group {
                let segment = &recovered.segments[&block.position.segment()];
                segment.publish_behind_damage(block.lsn, block.position, block.total_len);
            }
            sink.publish(&group);
            survey.tail = walker.at;
        }
        (whole, group) = (true, Vec::new());
    }
    Ok(walker.at)
}

fn go_on_behind(recovered: &Recovered, broken_at: &Tail) -> storage::Result<Option<Resumption>> {
    let is_new_damage = *broken_at != recovered.end;
    if let Some((from, at_group_start)) = behind_damaged_payload(recovered, broken_at)? {
        return Ok(Some(Resumption { from, at_group_start, is_new_damage }));
    }
    let from = next_sound(recovered, broken_at)?;
    Ok(from.map(|from| Resumption { from, at_group_start: false, is_new_damage }))
}

/// The place behind a block whose header is sound, and only its payloads are not.
fn behind_damaged_payload(recovered: &Recovered, at: &Tail) -> storage::Result<Option<(Tail, bool)>> {
    let mut window = Window::new(&recovered.segments);
    let Some(segment) = recovered.segments.get(&at.position.segment()) else { return Ok(None) };
    let len = crate::limits::BLOCK_BYTES_MAX;
    if !at.position.offset().is_multiple_of(segment.header.block_align())
        || at.position.offset() >= segment.header.blocks_end()
    {
        return Ok(None);
    }
    let bytes = window.load(segment, at.position.offset(), len)?;
    let Ok(view) = BlockView::parse(bytes, &segment.place(at.position)) else { return Ok(None) };
    let head = &view.portable.head;
    let follows = head.lsn == at.lsn && head.prev_chain == at.chain && view.portable.verify_payloads().is_err();
    Ok(follows.then(|| (behind(&view), head.remaining == 0)))
}

/// The place before the next sound, unfenced block with a later LSN.
fn next_sound(recovered: &Recovered, at: &Tail) -> storage::Result<Option<Tail>> {
    let mut window = Window::new(&recovered.segments);
    for (number, segment) in recovered.segments.range(at.position.segment()..) {
        let header = &segment.header;
        let start = if *number == at.position.segment() { at.position.offset() } else { 0 };
        let first = start.max(header.first_block_offset()).next_multiple_of(header.block_align());
        for offset in (first..header.blocks_end()).step_by(header.block_align() as usize) {
            let position = Position::new(*number, offset);
            let Ok(view) = window.block(segment, position)? else { continue };
            let (head, incarnation) = (view.portable.head, view.envelope.incarnation);
            let dead = recovered.fences().iter().any(|fence| fence.kills(position, incarnation));
            if !dead && head.lsn > at.lsn {
                return Ok(Some(Tail { position, lsn: head.lsn, chain: head.prev_chain, ts_ns: head.ts_ns }));
            }
        }
    }
    Ok(None)
}
