#!/usr/bin/env python3
"""Executable model of the early blocks (entries acknowledged as `written` out of shared memory before they have a block on disk).

A run is a row of steps of callers, of the commit thread and of what goes wrong, each choice a number, so that runs can be searched, made
smaller and repeated. SIGKILL and power cut come between any two sub-steps, those of an opening and of a repair among them. After each
opening the entries of the log are held against the history H (in the order of LSNs):
  gap    they are not H[:k]: something missing in front of something present, twice, elsewhere, changed, of another epoch, or come back
  loss   k is too small: SIGKILL keeps all that was acknowledged (but for a failed flush not yet rewritten), a power cut all that was flushed

What is modelled: log blocks (W being written, C complete in the page cache, D durable, X of a failed flush: on the device or not); shared
memory as sectors (two records each; a payload each) with every version since the file was made; names of DATA/early, durable at the flush of
the folder; grant, slots, queue; a failed write or flush with fence and rewrite, or halt; opening as leader and as follower (which may
cut and take another history), accept-loss.
What is not: fences, torn tails and evidence of damage (docs/FORMAT.md and its model: here the log ends at its first hole), topics made and
staged batches, entries larger than a slot, a full log, `written` appends by the queue, read-only opens, the lock-free part of an append.

RULES names the rules. The first text of the spec had neither reign nor count (`spec` prints what is lost), and folder_first only by format.md.
Broken without a loss found (a few thousand runs each): index, offset, short_ends, payload_first, remove_flush, salt, zeros, salt+zeros; remove: open.

usage: early_model.py                                   random search and every run with few deviations, rules as they should be
       early_model.py rand SECONDS [SEED] [rule=val ..]  exh SECONDS DEVIATIONS [STEPS] [rule=val ..]   (v=1: the trace of the first violation)
       early_model.py breaks SECONDS [NAME,..]          break each rule of BREAKS, say whether that loses anything
       early_model.py spec                              the holes of the first text, minimized"""
import random, sys, time
from collections import namedtuple

RULES = dict(
    reign=True,         # the file's header names its reign's epoch; it counts only while that is the epoch of the log's tail
    count=True,         # record 0's mark is also over n_entries of the block before it, as the log or the slot before has it
    lsn=True,           # each record has the LSN, and its mark is over it (False: record 0 only)
    index=True,         # the mark is over the record's index in its slot
    sum=True,           # the payload is held against its sum
    offset=True,        # a record is bad unless its offset is its topic's next
    bad_ends=True,      # a bad record ends its block (False: the record behind it is looked at)
    short_ends=True,    # a block cut short by a bad record is the last one taken
    wait_write=True,    # a slot is used again when its block's write is complete (False: once it has been taken)
    ack_last=True,      # acknowledged when the record is stored (False: before)
    payload_first=True, # payload, then record (False: record first; acknowledged after both)
    stop_grant=True,    # what is pushed to the queue stops the grant
    early_first=True,   # early blocks are planned before what stopped the grant
    idle=True,          # lent only while no durable group is unpublished
    fail_stops=True,    # a failed write or flush stops the grant
    epoch_late=False,   # (instead of reign) the EPOCH block is written only when the file's removal is flushed: one flush more
    before_epoch=True,  # replayed before the EPOCH block (False: behind it)
    old_epoch=True,     # replayed in the epoch that acknowledged them
    flush_first=True,   # the file goes when the replayed blocks are flushed (False: when they are written)
    write_first=True,   # the file goes when the replayed blocks are written (False: when they are in memory)
    remove=True,        # the file goes before the new one is made (False: it is taken over as it stands)
    remove_flush=True,  # flush of the folder behind the removal
    folder_first=True,  # an opening and a repair flush the folder before they look (a kill leaves a removal unflushed)
    loss_moves=True, loss_flush=True,          # accept-loss moves the file away first; flushes the folder before it cuts
    follow_moves=True, follow_flush=True,      # the same for an opening as follower
    salt=True,          # a new file has a new salt
    zeros=True,         # a new file is zeros (False: it gets the old one's sectors)
)
BREAKS = [(k,) for k in RULES if RULES[k]] + [('salt', 'zeros'), ('short_ends', 'count'), ('sum', 'offset'), ('remove_flush', 'reign')]
SLOTS, ROOM, A_SECTOR, MAXCRASH = 2, 3, 2, 4
PATTERN = 'aaawcaawcafwc'                                            # what exh does unless it deviates: append, write, complete, flush

Blk = namedtuple('Blk', 'lsn epoch inc ents')                       # ents: ((id, topic, offset), ..); an EPOCH block has none here, but counts one entry
Rec = namedtuple('Rec', 'lsn topic off sum mark')
class Crash(Exception): pass                                        # args: 1 SIGKILL, 2 power cut
class IOFail(Exception): pass
class Violation(Exception): pass
class Seen(Exception): pass
STATES, V = set(), False

class Chooser:
    """every choice; script = list of ints, then random (rng) or 0"""
    def __init__(s, script=(), rng=None): s.script, s.rng, s.i, s.trace = script, rng, 0, []
    def pick(s, n, w=None):
        if n <= 1: return 0
        if s.i < len(s.script): c = s.script[s.i] % n
        elif s.rng: c = s.rng.choices(range(n), w)[0] if w else int(s.rng.random() * n)
        else: c = 0
        s.i += 1; s.trace.append((c, n)); return c

class File:
    """shared memory: every version of each sector since the last power cut"""
    def __init__(s, header, old=None): s.v = {k: list(x) for k, x in old.v.items()} if old else {}; s.store('h', header)
    def get(s, k): return s.v.get(k, (None,))[-1]
    def store(s, k, x): s.v.setdefault(k, [None]).append(x)
    def record(s, slot, i): return (s.get((slot, i // A_SECTOR)) or [None] * A_SECTOR)[i % A_SECTOR]
    def store_record(s, slot, i, r):
        x = list(s.get((slot, i // A_SECTOR)) or [None] * A_SECTOR); x[i % A_SECTOR] = r; s.store((slot, i // A_SECTOR), tuple(x))

def mark(salt, i, lsn, before):
    return (salt, i if RULES['index'] else 0, lsn if RULES['lsn'] or i == 0 else 0, before if RULES['count'] and i == 0 else 0)
def entries(b): return len(b.ents) or 1

class World:
    def __init__(w, ch, search=None):
        w.ch, w.search = ch, search; w.calm = ch.rng and ch.rng.choice((12, 40, 120)); w.sound = ch.rng and ch.rng.choice((2, 8, 40))
        w.log, w.inc, w.epoch, w.salt, w.ids, w.ncrash, w.t = [[Blk(1, 1, 1, ()), 'D']], 1, 1, 1, 0, 0, 0
        w.H, w.acked, w.need = [], 0, 0                             # H: (id, lsn, topic, off, epoch); need: how many of it must be there after this crash
        w.file = w.durable_file = File((1, 1)); w.ops = []          # the name DATA/early: now, as flushed, what it was made in between
        w.start()
    def start(w):                                                   # the volatile state of a leader
        w.up, w.halted, w.lent, w.failed, w.flushfail, w.at_fail, w.queue, w.todo = True, False, False, 0, False, 0, 0, []
        w.slots, w.open = [None] * SLOTS, None                      # slot: the block to be, until it is complete; open: which one callers fill
        w.lsn = w.lend_lsn = w.log[-1][0].lsn + 1; w.off = w.offsets(); w.lend_off = list(w.off); w.before = entries(w.log[-1][0])
    def offsets(w):
        o = [0, 0]
        for b, _ in w.log:
            for e in b.ents: o[e[1]] = e[2] + 1
        return o
    # ---- what goes wrong
    def say(w, *a): V and print('  ', *a)
    def tick(w):
        w.note()
        if w.ncrash < MAXCRASH:
            c = w.ch.pick(3, (w.calm if w.up else 10, 1, 1))
            if c: raise Crash(c)
    def note(w):
        f = lambda x: x and tuple((k, tuple(v)) for k, v in sorted(x.v.items(), key=repr))
        k = hash((tuple((b, st) for b, st in w.log), f(w.file), f(w.durable_file), tuple(map(id, w.ops)) and len(w.ops), w.epoch, w.inc, tuple(w.H), w.acked, w.need, w.up, w.halted,
                  w.lent, w.failed, w.queue, tuple(w.todo), tuple(w.slots), w.open, w.lsn, w.lend_lsn, w.ncrash))
        STATES.add(k); return k
    def fails(w): return w.ch.pick(2, (w.sound, 1)) == 1
    def ends_at(w, n): w.log = w.log[:n]                            # the chain ends there; what lies behind is fenced by the next opening
    def durable(w): return sum(len(b.ents) for b, st in w.log if st == 'D')
    def crash(w, kind):
        w.say('SIGKILL' if kind == 1 else 'POWER CUT', '' if w.up else '(inside)'); w.ncrash += 1
        need = w.need if not w.up else w.acked
        if w.up and w.flushfail and w.acked == w.at_fail:           # excused: what a failed flush may have taken when its slot was used again, until it is rewritten
            risk = [b.lsn for b, st in w.log if st in 'WX'] + [b.lsn for b in w.todo]
            risk = [n for n in risk if not any(x and x[0] == n for x in w.slots)]
            if risk: need = min(need, sum(1 for h in w.H if h[1] < min(risk)))
        if kind == 2: need = min(need, w.durable())
        w.need, w.up = need, False; w.settle(kind)
        if kind == 2:
            names = [w.durable_file] + w.ops; w.file = w.durable_file = names[w.ch.pick(len(names))]; w.ops = []
            if w.file:
                for k, v in sorted(w.file.v.items(), key=repr):
                    w.file.v[k] = [v[-1 - w.ch.pick(len(v), (4,) + (1,) * (len(v) - 1))]]
        w.say('  log', [(b.lsn, st) for b, st in w.log], 'need', w.need)
    def settle(w, kind):
        """what of the blocks not flushed is there: a prefix, as a hole ends the chain. default: all of C, nothing of W and X"""
        for i, (b, st) in enumerate(w.log):
            lost = w.ch.pick(2, (2, 1)) == 1 if st == 'C' and kind == 2 else w.ch.pick(2) == 0 if st in 'WX' else False
            if lost: w.ends_at(i); break
            if st in 'WX': w.log[i][1] = 'C'
        if kind == 2:
            for x in w.log: x[1] = 'D'
    # ---- callers
    def append_early(w):
        f, topic = w.file, w.ch.pick(2)
        if w.open is None or len(w.slots[w.open][1]) == ROOM:
            free = [i for i in range(SLOTS) if w.slots[i] is None]
            if not free: return
            if w.open is not None: w.before = ROOM
            w.open = free[0]; w.slots[w.open] = (w.lend_lsn, ()); w.lend_lsn += 1
        slot = w.open; lsn, ents = w.slots[slot]; i = len(ents); w.ids += 1; e = (w.ids, topic, w.lend_off[topic]); w.lend_off[topic] += 1
        w.H.append((e[0], lsn, topic, e[2], w.epoch)); w.say('early append', w.H[-1], 'slot', slot)
        rec = Rec(lsn if RULES['lsn'] or i == 0 else 0, topic, e[2], e[0], mark(f.get('h')[0], i, lsn, w.before))
        if not RULES['ack_last']: w.acked = len(w.H)
        def payload(): f.store((slot, 'p', i), e[0]); w.tick()
        def record(): f.store_record(slot, i, 'torn'); w.tick(); f.store_record(slot, i, rec); w.tick()
        for x in (payload, record) if RULES['payload_first'] else (record, payload): x()
        w.slots[slot] = (lsn, ents + (e,)); w.acked = len(w.H)
    def push(w):
        w.queue += 1; w.say('durable append is queued')
        if RULES['stop_grant']: w.lent = False
    # ---- commit thread
    def unpublished(w): return w.queue or any(st != 'D' and w.is_durable(b) for b, st in w.log) or any(w.is_durable(b) for b in w.todo)
    def is_durable(w, b): return any(e[0] < 0 for e in b.ents)      # entries of durable appends have negative ids
    def pending(w): return sorted(x for i, x in enumerate(w.slots) if x and x[1] and x[0] >= w.lsn)
    def writing(w): return w.log[-1][1] == 'W'
    def lend(w): w.lent = True; w.lend_lsn = max(w.lsn, w.lend_lsn); w.say('grant lent from LSN', w.lend_lsn)
    def write(w):
        """the next block into the page cache: rewrites, then early blocks, then what was queued"""
        early = w.pending()
        if w.todo: b = w.todo.pop(0)._replace(inc=w.inc)
        elif early and not (w.queue and not RULES['early_first']):
            lsn, ents = early[0]; slot = w.slots.index(early[0]); b = Blk(lsn, w.epoch, w.inc, ents)
            if slot == w.open: w.open = None; w.before = len(ents)
            if not RULES['wait_write']: w.slots[slot] = None
            w.lsn = lsn + 1
            for e in ents: w.off[e[1]] = e[2] + 1
        else:
            w.queue = 0; w.ids += 1; topic = w.ch.pick(2); b = Blk(w.lsn, w.epoch, w.inc, ((-w.ids, topic, w.off[topic]),)); w.off[topic] += 1; w.lsn += 1
            w.H.append((-w.ids, b.lsn, topic, b.ents[0][2], w.epoch))
            if not w.lent: w.lend_lsn, w.lend_off = w.lsn, list(w.off)
            w.before = 1
        w.log.append([b, 'W']); w.say('write of block', b)
    def complete(w):
        b = w.log[-1][0]
        if w.fails(): w.say('write failed'); w.log.pop(); return w.failure([b], False)
        w.log[-1][1] = 'C'; w.say('write of', b.lsn, 'complete')
        w.slots = [None if x and x[0] == b.lsn else x for x in w.slots]
        if w.open is not None and w.slots[w.open] is None: w.open = None   # (only with a rule broken)
        if not w.todo: w.flushfail = False
    def flush(w):
        if w.fails():
            w.say('flush failed')
            for x in w.log: x[1] = 'X' if x[1] == 'C' else x[1]
            return w.failure([], True)
        for x in w.log: x[1] = 'D'
        w.failed = 0; w.say('flushed')
        for i, h in enumerate(w.H):
            if h[0] < 0 and h[1] <= w.log[-1][0].lsn: w.acked = max(w.acked, i + 1)
    def failure(w, last, flushed):
        """docs: fence behind the last durable block, the same blocks again from memory; or halt"""
        w.failed += 1; w.flushfail |= flushed; w.at_fail = w.acked
        if RULES['fail_stops']: w.lent = False
        w.todo = last + w.todo; w.tick()
        if not flushed:
            if any(st == 'C' for _, st in w.log) and w.fails():
                w.flushfail = flushed = True
                for x in w.log: x[1] = 'X' if x[1] == 'C' else x[1]
            else:
                for x in w.log: x[1] = 'D'
        if w.failed > 1 or w.ch.pick(4) == 1:
            w.halted = True; w.lent = False; w.say('halt')
            if w.ch.pick(2) == 0: return                            # no fence to be had
        w.tick()
        w.todo = [b for b, st in w.log if st != 'D'] + w.todo; w.ends_at(sum(st == 'D' for _, st in w.log)); w.inc += 1; w.say('fence at LSN', w.log[-1][0].lsn + 1); w.tick()
    # ---- openings
    def name(w, f): w.file = f; w.ops.append(f); w.tick()
    def flush_folder(w): w.durable_file = w.file; w.ops = []; w.tick()
    def recover(w):
        if RULES['folder_first']: w.flush_folder()
        if any(st == 'C' for _, st in w.log) and w.fails(): w.flush_fails(True)
        for x in w.log: x[1] = 'D'
        w.tick()
    def flush_fails(w, excused):
        w.say('flush failed in the opening'); n = w.durable()
        for x in w.log: x[1] = 'X' if x[1] == 'C' else x[1]
        w.settle(1)
        if excused: w.need = min(w.need, sum(len(b.ents) for b, _ in w.log))
        raise IOFail()
    def read_early(w):
        f, b, off, out = w.file, w.log[-1][0], w.offsets(), []
        h = f and f.get('h')
        if not h or RULES['reign'] and h[1] != b.epoch: return []
        n, before, epoch, ends = b.lsn + 1, entries(b), b.epoch, False
        while not ends:
            slot = [s for s in range(SLOTS) if isinstance(f.record(s, 0), Rec) and f.record(s, 0).lsn == n and f.record(s, 0).mark == mark(h[0], 0, n, before)]
            if not slot: break
            ents = []
            for i in range(ROOM):
                r = f.record(slot[0], i); p = f.get((slot[0], 'p', i))
                if r is None or r != 'torn' and (RULES['lsn'] or i == 0) and r.lsn != n: break   # the end of the block: empty or of another LSN
                if r == 'torn' or r.mark != mark(h[0], i, n, before) or RULES['sum'] and r.sum != p or RULES['offset'] and r.off != off[r.topic]:
                    if RULES['bad_ends']: ends = RULES['short_ends']; break
                    continue
                ents.append((p, r.topic, r.off)); off[r.topic] = r.off + 1
            if not ents: break
            out.append(tuple(ents)); n += 1; before = len(ents)
        return out
    def open_leader(w):
        w.say('opening'); w.recover(); early = w.read_early(); epoch = w.log[-1][0].epoch
        w.say('  tail', w.log[-1][0].lsn + 1, 'early', early)
        w.inc += 1; w.epoch += 1; w.tick()                          # superblock, flushed
        todo = [(epoch if RULES['old_epoch'] else w.epoch, e) for e in early]; mine = (w.epoch, ())
        if not RULES['epoch_late']: todo.insert(len(todo) if RULES['before_epoch'] else 0, mine)
        old = w.file
        def remove():
            if w.file and RULES['remove']:
                w.name(None)
                if RULES['remove_flush']: w.flush_folder()
        if not RULES['write_first']: remove()
        def put(todo):
            for ep, e in todo: w.log.append([Blk(w.log[-1][0].lsn + 1, ep, w.inc, e), 'W']); w.tick(); w.log[-1][1] = 'C'; w.tick()
        def flush():
            if w.fails(): w.flush_fails(False)
            for x in w.log: x[1] = 'D'
            w.tick()
        put(todo)
        if not RULES['flush_first']: remove()
        flush(); remove()
        if RULES['epoch_late']: put([mine]); flush()
        w.salt += 1; h = (w.salt if RULES['salt'] else 1, w.epoch)
        if RULES['remove'] or not w.file: w.name(File(h, None if RULES['zeros'] else old))
        else: w.file.store('h', h); w.tick()
        w.check(); w.start()
    def open_follower(w):
        w.say('opening as follower'); w.recover(); w.moved(RULES['follow_moves'], RULES['follow_flush']); w.inc += 1; w.check()
        if w.ch.pick(2): w.cut(); w.tick()
        for _ in range(w.ch.pick(3)):                               # what another leader's log has: its EPOCH, its blocks; flushed
            n = w.log[-1][0].lsn + 1; w.ids += 1; t = w.ch.pick(2); e = w.epoch + 1 if w.log[-1][0].epoch <= w.epoch else w.log[-1][0].epoch
            ents = () if e != w.log[-1][0].epoch else ((-w.ids, t, w.offsets()[t]),)
            w.log.append([Blk(n, e, w.inc, ents), 'D']); w.history(); w.say('  follows', w.log[-1]); w.tick()
        w.epoch = max(w.epoch, w.log[-1][0].epoch); w.tick(); w.need = len(w.H)
    def accept_loss(w):
        w.say('accept-loss'); w.recover(); w.moved(RULES['loss_moves'], RULES['loss_flush']); w.inc += 1; w.tick(); w.cut(); w.tick()
    def moved(w, moves, flushes):
        w.need = min(w.need, w.durable())                           # from here on what only the file has is in quarantine/
        if w.file and moves:
            w.name(None)
            if flushes: w.flush_folder()
    def cut(w): w.ends_at(max(1, len(w.log) - 1 - w.ch.pick(3))); w.history(); w.say('  cut at LSN', w.log[-1][0].lsn + 1)
    def history(w): w.H = w.found(); w.acked = w.need = len(w.H)
    def found(w): return [(e[0], b.lsn, e[1], e[2], b.epoch) for b, _ in w.log for e in b.ents]
    def check(w):
        e = w.found(); w.say('  found', e)
        if e != w.H[:len(e)]: raise Violation('gap: found %s of %s' % (e, w.H))
        if len(e) < w.need: raise Violation('loss: found %d of %d' % (len(e), w.need))
        w.history()
    # ---- steps
    def actions(w):
        if not w.up: return [('O', 6, w.open_leader), ('F', .5, w.open_follower), ('L', .5, w.accept_loss)]
        out = []
        if not w.halted:
            if w.lent: out.append(('a', 5, w.append_early))
            if w.writing(): out.append(('c', 2, w.complete))
            elif w.todo or w.pending() or w.queue: out.append(('w', 2, w.write))
            if not w.writing() and any(st == 'C' for _, st in w.log) and not w.todo: out.append(('f', 1, w.flush))
            if not w.queue: out.append(('p', .6, w.push))
            if not w.lent and not w.todo and not w.queue and not w.writing() and (not RULES['idle'] or not w.unpublished()): out.append(('l', 3, w.lend))
            elif not w.lent and not RULES['idle'] and not w.pending(): out.append(('l', 3, w.lend))
        return out + [('k', .4, lambda: w.crash(1)), ('K', .4, lambda: w.crash(2))]
    def run(w, steps):
        for w.t in range(steps):
            if w.search is not None and w.ch.i >= len(w.ch.script):
                k = w.note(), w.t
                if w.search['left'] <= w.search['seen'].get(k, -1): return
                w.search['seen'][k] = w.search['left']
            acts = w.actions(); want = ('l' if w.up and not w.lent and not w.queue else '') + PATTERN[w.t % len(PATTERN)]
            acts.sort(key=lambda a: (a[0] not in want, a[0] != want[0]))   # (stable) the default first
            if w.ncrash >= MAXCRASH: acts = [a for a in acts if a[0] not in 'kK'] or acts
            a = acts[w.ch.pick(len(acts), [x[1] for x in acts])]
            try:
                a[2]()
                if w.up: w.tick()
            except Crash as e: w.crash(e.args[0])
            except IOFail: pass

def one(ch, steps, search=None):
    w = World(ch, search)
    try: w.run(steps)
    except Violation as e: return str(e)

def rand(secs, seed):
    t0, n, rng = time.time(), 0, random.Random(seed)
    while time.time() - t0 < secs:
        ch = Chooser(rng=random.Random(rng.getrandbits(64))); steps = rng.choice((12, 20, 30, 45)); e = one(ch, steps); n += 1
        if len(STATES) > 4e6: STATES.clear()
        if e: return n, e, [c for c, _ in ch.trace]
    return n, None, None

def exh(secs, dev, steps=14):
    """every run with at most dev choices that are not the default; a state met with as many left is not gone into again"""
    t0, n, stack, seen = time.time(), 0, [((), dev)], {}
    while stack:
        if time.time() - t0 > secs: return n, 'TIME (%d left)' % len(stack), None
        sc, left = stack.pop(); ch = Chooser(sc); e = one(ch, steps, dict(left=left, seen=seen)); n += 1; tr = [c for c, _ in ch.trace]
        if e: return n, e, tr
        if left:
            for i in range(len(sc), len(tr)):
                for a in range(1, ch.trace[i][1]): stack.append((tuple(tr[:i]) + (a,), left - 1))
    return n, None, None

def shrink(script, kind, secs=6):
    bad = lambda sc: (one(Chooser(sc), 45) or '').startswith(kind[:4]); cur, t0, more = list(script), time.time(), True
    while more and time.time() - t0 < secs:
        more = False
        for size in (16, 8, 4, 2, 1):
            i = 0
            while i < len(cur) and time.time() - t0 < secs:
                for c in (cur[:i] + cur[i + size:], cur[:i] + [0] * size + cur[i + size:]):
                    if (len(c), sum(map(bool, c))) < (len(cur), sum(map(bool, cur))) and bad(c): cur = c; more = True; break
                else: i += size
    return cur

def show(r):
    global V
    if r[2]: sc = shrink(r[2], r[1]); V = True; one(Chooser(sc), 45); V = False

def smallest(secs):
    """of the violations that random search finds in secs, the one of fewest choices"""
    best, t0, seed = None, time.time(), 0
    while time.time() - t0 < secs:
        seed += 1; r = rand(5, seed)
        if r[2]:
            sc = shrink(r[2], r[1], 2)
            if not best or (len(sc), sum(map(bool, sc))) < (len(best[2]), sum(map(bool, best[2]))): best = r[0], r[1], sc
    return best or (0, None, None)

def main(a):
    kv = dict(x.split('=', 1) for x in a if '=' in x); a = [x for x in a if '=' not in x]; v = kv.pop('v', ''); t0 = time.time()
    for k, x in kv.items(): assert k in RULES, k; RULES[k] = x not in ('0', 'False')
    secs = float(a[1]) if len(a) > 1 else 20
    def out(what, r): print('%s: %d runs, %d states, %.0f s: %s' % (what, r[0], len(STATES), time.time() - t0, r[1] or 'no violation'), flush=True); v and show(r); return bool(r[2])
    if not a: return out('random', rand(20, 1)) | out('2 deviations in 14 steps', exh(15, 2)) | out('3 deviations in 6 steps', exh(18, 3, 6))
    if a[0] == 'rand': return out('random', rand(secs, int(a[2]) if len(a) > 2 else 1))
    if a[0] == 'exh': return out('exhaustive', exh(secs, int(a[2]), int(a[3]) if len(a) > 3 else 14))
    if a[0] == 'spec':
        for x, y in (('count', 'reign'), ('reign', 'count')):
            RULES[x], RULES[y] = False, True; v = '1'; out('without ' + x, smallest(20))
        return
    for b in [tuple(x.split('+')) for x in a[2].split(',')] if len(a) > 2 else BREAKS:
        for k in b: RULES[k] = False
        r = rand(secs, 3); how = 'random'
        if not r[2]: r = exh(secs, 3, 12); how = 'exhaustive'
        for k in b: RULES[k] = True
        print('%-20s %6d runs  %s' % ('+'.join(b), r[0], '%s, %s' % (how, r[1][:90]) if r[2] else 'NOT FOUND'), flush=True)

if __name__ == '__main__': sys.exit(main(sys.argv[1:]) or 0)
