#!/usr/bin/env python3
"""Executable model of the log on disk (docs/FORMAT.md), as src/log does it: a disk that loses, tears, fails and rots; a leader, a follower;
packing, indexes, retention and repair in the background. Every choice is a number, so that a run can be searched, made smaller and repeated.

Units: a sector has 2. A block of z sectors fills z of them in a segment as it is written, and 2z-1 units in a packed one. Small segments have
5 sectors and a window of 14 past the hint; large ones have 16 and a window of 11, so that a segment is longer than the window.

Not in it: topics, staged batches, rot of headers and small files, run ids and lineage, a full disk, a follower that rejoins (reason 3).

OPT names the clauses; its first values are the rules as they should be. `shipped` are those where src/ of 2026-11-25 does otherwise, and
loses something: docs/decisions/0003-model-of-packing-indexes-and-retention.md.

usage: model.py rand SECONDS [SEED] [mode=..] [bug=NAME,..] [opt=val ..]   random search; minimizes the first violation (v=1: its trace)
       model.py exh  SECONDS DEVIATIONS [..]                               every run with at most that many choices that are not the default
       model.py plants SECONDS [NAME,..]                                   break each rule of PLANTS, say whether the search finds it
       model.py ablate SECONDS [NAME,..]                                   the same for the clauses of ABLATIONS
       model.py shipped SECONDS [NAME,..]                                   one after the other, the rules as src/ had them
modes (which faults): crash, io (failed writes and flushes too), dir (and failed flushes of folders), rot, repair (rot, then --accept-loss),
all, follow, iofollow."""
import random, sys, time
from collections import namedtuple

OPT = dict(
    # ---- from the first model
    cut='end',            # fence.cut in the failure path: 'end' of the last durable block | 'planned' place of the failed one
    supersede=True,       # a new fence replaces those with a cut at or behind its own
    reserve=1,            # fences kept free for opening (the failure path may not use them)
    fence_always=True,    # every unclean writable open makes a fence (False: only when blocks lie behind P)
    hint_at_fence=True,   # a fence's / open's superblock write carries hint = its cut
    bad_kept=True,        # a file with a failed write/flush is not recycled by this process
    resume_fresh=True,    # the resume segment has never been written by this process
    ro_flush=True,        # a read-only open flushes before it reads, too
    clip_slots=True,      # accept-loss lowers the slots' LSN to the cut (slots are reserved)
    group_marks=True,     # marks and hints stand at group ends on leaders too (False: dsync per block moves the mark inside a group)
    flush_first=True,     # an open flushes superblock and segments before it reads them (False: after its superblock writes)
    open_dirsync=True,    # an open flushes the folders before it reads them (a kill leaves renames unflushed)
    erase=True,           # an open erases what its fence kills before it writes; only then a fence with resume = cut may go
    # ---- 0001
    drop_past=True,       # an open drops fences with resume = cut that lie before its tail
    # ---- 0003
    start='base',         # the log is followed from: 'base' | 'hint', if that is later (format.md)
    gap=True,             # the way from a fence's cut to its resume does not count against the window past the hint (False: src waits for it, for ever)
    erase_first=True,     # accept-loss erases behind the cut before its fence (False: after it)
    head_stays=True,      # accept-loss leaves the blocks of a packed segment's head where they are (False: the first goes to its start)
    name_doubt=True,      # once a flush of wal/ has failed, this process packs no segment and writes no base
    base_doubt=True,      # once the flush behind a base has failed, this process packs no segment
    idx_lazy=True,        # 0012: an index is not flushed; a power cut leaves none of it, or what its sum does not fit (False: content and name are flushed)
    idx_flush=True,       # idx/ is flushed whenever indexes must be gone (False: only by whoever removed one)
    # ---- 0013
    way_stays=True,       # an opening's fence leaves those that resume elsewhere until everything is erased (False: it replaces them, and with them the way that does not count)
)
SHIPPED = [('gap', False, 'io'), ('erase_first', False, 'repair'), ('head_stays', False, 'repair'), ('name_doubt', False, 'dir'), ('base_doubt', False, 'dir'), ('idx_flush', False, 'repair'),
           ('way_stays', False, 'all')]
BUG = set()
V = False
GEOMETRY = None                                                    # None: the run chooses; else 0 small, 1 large
MAXF, SPARES = 5, 3

class Crash(Exception): pass
class IOFail(Exception): pass
class DeadEnd(Exception): pass
class Violation(Exception): pass
class Damage(Exception):
    def __init__(s, why, n, r): s.why, s.n, s.r = why, n, r; Exception.__init__(s, '%s n=%s' % (why, n))

P = namedtuple('P', 'lsn prev body rem size kind chain first')     # portable block; first = first lsn of its group
B = namedtuple('B', 'salt inc pos mark p step')                    # envelope + portable; step 2: in sectors, 1: packed
HDR = namedtuple('HDR', 'salt packed units')
SB = namedtuple('SB', 'ver clean role inc epoch run hint fences')
H = namedtuple('H', 'pos lsn chain')
F = namedtuple('F', 'inc cut lsn resume why')                      # why: O opened, F failed, L loss accepted
BASE = namedtuple('BASE', 'lsn pos chain')
BASE0 = BASE(1, (1, 0), 0)
IDX = namedtuple('IDX', 'hdr inc prev blocks')                     # blocks: ((p, pos), ..)
R = namedtuple('R', 'sb taken pos lsn chain end n clean strag idx_last unidx')   # pos/lsn/chain: the tail (end of whole groups); end/n: where the chain ends

def mk(lsn, prev, body, rem, size, kind, first): return P(lsn, prev, body, rem, size, kind, hash((prev, lsn, body, rem, kind)), first)

class Chooser:
    """every nondeterministic choice; script = list of ints, then random (rng) or 0"""
    def __init__(s, script=(), rng=None): s.script, s.rng, s.i, s.trace = script, rng, 0, []
    def pick(s, n, w=None):
        if n <= 1: return 0
        if s.i < len(s.script): c = s.script[s.i] % n
        elif s.rng:
            if w is None: c = int(s.rng.random() * n)
            else:
                x = s.rng.random() * sum(w); c = 0
                while c < n - 1 and x >= w[c]: x -= w[c]; c += 1
        else: c = 0
        s.i += 1; s.trace.append((c, n)); return c

class W:
    __slots__ = ('key', 'val', 'st')                               # st 0 in flight, 1 complete (visible, not durable), 2 failed: may still land
    def __init__(s, key, val): s.key, s.val, s.st = key, val, 0

FOLDER = {'n': 'wal', 'q': 'wal', 'base': 'root', 'slots': 'root', 'i': 'idx'}   # a rename into quarantine/ is settled by a flush of either folder

class Disk:
    def __init__(s, w): s.world, s.d, s.w, s.m, s.md, s.nf, s.doubt = w, {}, [], {}, {}, 0, set(); s.cached = None; s.ops = {'wal': [], 'root': [], 'idx': []}; s.lazy = {}
    def get(s, key):
        for w in reversed(s.w):
            if w.key == key and w.st == 1: return w.val
        return s.d.get(key)
    def put(s, key, val): w = W(key, val); s.w.append(w); return w
    def persist(s, ws):
        for w in ws:
            if w not in s.w: continue
            i = s.w.index(w); s.d[w.key] = w.val
            s.w = [x for j, x in enumerate(s.w) if x is not w and not (j < i and x.key == w.key and x.st == 1)]
    def done(s, fids): return [w for w in s.w if w.st == 1 and w.key[0] in fids]
    def sync_write(s, key, val, fail=True):                        # write + flush of that write, with crash points
        w = s.put(key, val); s.world.tick()
        if fail and s.world.fails(): w.st = 2; raise IOFail()
        s.persist_new(w)
    def persist_new(s, w): w.st = 1; s.w.remove(w); s.w.append(w); s.persist([w])
    # names: a folder's changes survive a power cut as a prefix of their order, until a flush of it
    def mset(s, ch):
        s.m.update(ch); s.cached = None
        s.ops[FOLDER[next(iter(ch))[0]]].append(ch); s.world.tick()
    def mflush(s, folder, fail=True):
        if s.ops[folder] and fail and s.world.dirfails(): s.doubt.add(folder); raise IOFail()
        if folder not in s.doubt:                                  # what a failed flush has left is settled by no later one of this process
            for ch in s.ops[folder]: s.md.update(ch)
            s.ops[folder] = []
        s.world.tick()
    def die(s):                                                    # process gone, LOCK released: whatever could land has landed or not
        ch = s.world.ch; s.doubt = set()
        open_ = [w for w in s.w if w.st != 1]; s.w = [w for w in s.w if w.st == 1]
        mode = ch.pick(4) if open_ else 0
        for w in open_:
            x = (0, 1, None, None)[mode]
            if x is None: x = ch.pick(2) if mode == 2 else ch.pick(3)
            if x == 1: w.st = 1; s.w.append(w)
            elif x == 2: w.st = 1; w.val = 'X'; s.w.append(w)
    def power(s):
        s.die(); ch = s.world.ch
        mode = ch.pick(4) if s.w else 0
        for w in s.w:
            x = (0, 1, None, None)[mode]
            if x is None: x = ch.pick(2) if mode == 2 else ch.pick(3)
            if x == 1: s.d[w.key] = w.val
            elif x == 2: s.d[w.key] = 'X'
        s.w = []
        for f in s.ops:
            if s.ops[f]:
                for c in s.ops[f][:ch.pick(len(s.ops[f]) + 1)]: s.md.update(c)
                s.ops[f] = []
        for k, v in s.lazy.items():                                # its name may be durable, and its content not
            if s.md.get(k) is v and ch.pick(2): s.md[k] = None
        s.lazy = {}; s.m = dict(s.md); s.cached = None
    def segs(s):
        if s.cached is None: s.cached = sorted(k[1] for k, v in s.m.items() if k[0] == 'n' and v)
        return s.cached
    def base(s): return s.m.get(('base',)) or BASE0
    def live(s): b = s.base().pos[0]; return [n for n in s.segs() if n >= b]
    def hdr(s, seg): f = s.m.get(('n', seg)); h = f and s.get((f, 'h')); return h if isinstance(h, HDR) else None
    def blk(s, pos):                                               # self-consistent block at pos, or None
        f = s.m.get(('n', pos[0]))
        if not f: return None
        c = s.get((f, pos[1]))
        if not c or c == 'X' or c[1] != 0: return None
        b, h = c[0], s.get((f, 'h'))
        if not isinstance(h, HDR) or b.step != (1 if h.packed else 2) or b.pos != pos or b.salt != h.salt and 'nosalt' not in BUG: return None
        for i in range(1, units(b.p, b.step) // b.step):
            if s.get((f, pos[1] + i * b.step)) != (b, i): return None
        return b

def units(p, step): return 2 * p.size if step == 2 else 2 * p.size - 1
def after(b): return (b.pos[0], b.pos[1] + units(b.p, b.step))
def dead(pos, inc, fences): return any(pos >= f.cut and inc <= f.inc for f in fences)

def measure(d, h, fences):
    """how far places lie behind the hint's place h, in units of the log"""
    at, t = {}, 0
    for n in d.segs():
        at[n] = t; hd = d.hdr(n); t += hd.units if hd else 0
    def line(p): return (at[p[0]] if p[0] in at else sum(d.hdr(n).units for n in at if n < p[0] and d.hdr(n))) + p[1]
    lh = line(h)
    jumps = [(f.resume, line(f.resume) - line(f.cut)) for f in fences if f.resume != f.cut and h <= f.cut] if OPT['gap'] else []
    return lambda q: line(q) - lh - sum(j for r, j in jumps if r <= q)

def stragglers(d, fences, hint, frm):
    """docs/FORMAT.md, Torn or damaged: every self-consistent block behind the tail, within the window past the hint"""
    out, past = [], measure(d, hint.pos, fences)
    for n in d.live():
        if n < max(hint.pos[0], frm[0]): continue
        h = d.hdr(n)
        for o in range(0, h.units if h else 0, 1 if h and h.packed else 2):
            if (n, o) < frm: continue
            b = d.blk((n, o))
            if b and past((n, o)) <= d.world.window: out.append(b)
    return out

def step(d, pos, n, chain, fences):
    """the next block of the log behind pos: docs/FORMAT.md, Following the log"""
    nxt = [(x, 0) for x in d.live() if x > pos[0]][:1]
    for q in [pos] + [f.resume for f in reversed(fences) if f.cut == pos and f.resume != pos] + nxt:
        b = d.blk(q)
        if b and b.p.lsn == n and b.p.prev == chain and not dead(b.pos, b.inc, fences): return b

def believable(d, seg, hint, fences):
    """the index of a segment, if it was made of this file and no fence kills its last block"""
    i = d.m.get(('i', seg)); h = d.hdr(seg)
    if not i or not h: return None
    if dead(i.blocks[-1][1], i.inc, fences) and 'idxfence' not in BUG: return None
    if 'idxhdr' in BUG: return i
    if seg < hint.pos[0]: return i if i.hdr.units == h.units or 'idxlen' in BUG else None   # below the hint the header is not read, only its length
    return i if i.hdr == h else None

def recover(d, idx=False):
    """what an open finds; pure. idx: it believes indexes. Raises Damage"""
    sl = [d.get(('sb', i)) for i in (0, 1)]; ok = [x for x in sl if isinstance(x, SB)]
    if not ok: raise Damage('no superblock', 0, None)
    sb = max(ok, key=lambda x: x.ver); base, h = d.base(), sb.hint; fences = sb.fences
    clean = sb.clean and (len(ok) == 2 or 'clean1' in BUG)
    pos, n, chain = base.pos, base.lsn, base.chain
    if OPT['start'] == 'hint' and h.lsn > n: pos, n, chain = h.pos, h.lsn, h.chain
    start, got, believed, odd = n, [], set(), n == h.lsn and chain != h.chain
    if idx:
        for seg in d.live():
            i = believable(d, seg, h, fences)
            if not i: continue
            skip = n - i.blocks[0][0].lsn
            if not 0 <= skip < len(i.blocks): continue
            if (i.prev if skip == 0 else i.blocks[skip - 1][0].chain) != chain and 'idxlsn' not in BUG: continue
            believed.add(seg)
            for p, q in i.blocks[skip:]:
                got.append((p, q)); n, chain, pos = p.lsn + 1, p.chain, (q[0], q[1] + units(p, 1 if i.hdr.packed else 2)); odd |= n == h.lsn and chain != h.chain
    stopped = False
    while True:
        if clean and n >= h.lsn: stopped = True; break
        b = step(d, pos, n, chain, fences)
        if not b: break
        got.append((b.p, b.pos)); pos, n, chain = after(b), n + 1, b.p.chain; odd |= n == h.lsn and chain != h.chain
    j = max([i + 1 for i, (p, q) in enumerate(got) if p.rem == 0] or [0])
    if 'nogroup' in BUG: j = len(got)
    tail = (base.pos, base.lsn, base.chain)
    if start != base.lsn: tail = (h.pos, h.lsn, h.chain)
    if j: p, q = got[j - 1]; hd = d.hdr(q[0]); tail = ((q[0], q[1] + units(p, 1 if hd and hd.packed else 2)), p.lsn + 1, p.chain)
    strag = [] if clean else stragglers(d, fences, h, tail[0])
    full = {q[0] for p, q in got[:j] if q[0] < tail[0][0]}
    r = R(sb, got[:j], *tail, pos, n, clean, strag, idx and tail[0][0] in believed, sorted(x for x in full if not d.m.get(('i', x))))
    if odd: raise Damage('another history than the hint', n, r)
    if stopped: return r
    if h.lsn > n and 'nohintev' not in BUG: raise Damage('hint', n, r)
    if tail[1] == base.lsn > 1 and not any(f.why == 'L' and f.cut == tail[0] and f.lsn == tail[1] for f in fences) and 'nobaseev' not in BUG: raise Damage('base', n, r)
    if (d.m.get(('slots',)) or 0) > n and 'noslotev' not in BUG: raise Damage('slot', n, r)
    for b in strag:
        if b.mark > n and not dead(b.pos, b.inc, fences) and 'nomarkev' not in BUG: raise Damage('mark of %s' % (b.pos,), n, r)
    return r

def set_fence(fences, f, room):
    """docs/FORMAT.md, Fences: what the new one replaces; None if there is no room"""
    def keep(o):
        if o.resume == o.cut and OPT['drop_past'] and o.cut < f.cut: return False
        if OPT['way_stays'] and f.why == 'O' and o.cut < f.cut < o.resume: return False      # the log went on at the cut: an opening has erased what it kills
        if not OPT['supersede']: return True
        says_empty = o.why == 'L' and f.why != 'L' and 'repempty' not in BUG
        leads_on = OPT['way_stays'] and f.why == 'O' and o.why != 'L'
        return o.cut < f.cut or o.cut == f.cut and o.resume != o.cut and (says_empty or leads_on)
    fs = [o for o in fences if keep(o)]
    return fs + [f] if len(fs) < room else None

class G:                                                           # a commit group in flight (= one atomic group)
    __slots__ = 'ps ws mode dsync durable acked bad segs'.split()

class Node:
    def __init__(s, world, d, role): s.world, s.d, s.role, s.up, s.E, s.L, s.Lw = world, d, role, False, [], 0, 0; s.mkfs()
    def mkfs(s):
        d = s.d; s.salt = 0; s.segu = 2 * s.world.sectors
        for n in range(1, 4):
            d.nf += 1; s.salt += 1; d.d[(d.nf, 'h')] = HDR(s.salt, False, s.segu); d.m[('n', n)] = d.nf
        d.md = dict(d.m); d.cached = None; h = H((1, 0), 1, 0)
        for v in (1, 2): d.d[('sb', v % 2)] = SB(v, False, s.role, 0, 0, 0, h, ())
    def log(s, *a):
        if V: print('   ', 'LF'[s.role - 1], *a)
    # ---- superblock
    def sb_put(s, hint=None, clean=False):
        if hint is None: hint = s.hint
        i = 1 - s.newest; v = SB(s.ver + 1, clean, s.role, s.inc, s.epoch, s.run, hint, tuple(s.fences))
        s.ver += 1; s.log('sb slot', i, 'hint', hint.pos, hint.lsn, 'inc', v.inc, 'clean' if clean else '', *v.fences); s.d.sync_write(('sb', i), v); s.newest, s.hint = i, hint
    def sb_both(s, hint=None):
        s.sb_put(hint)
        if 'oneslot' not in BUG: s.sb_put(hint)
    def took(s, sb): s.ver, s.newest, s.epoch, s.run, s.fences, s.inc, s.hint = sb.ver, (0 if s.d.get(('sb', 0)) == sb else 1), sb.epoch, sb.run, list(sb.fences), sb.inc, sb.hint
    # ---- open
    def settle(s):                                                 # what every open does before it reads
        d = s.d
        if s.world.fails(): raise IOFail()
        s.world.tick()
        if OPT['open_dirsync']:
            for f in ('root', 'wal'): d.mflush(f)
        if OPT['flush_first']: d.persist([w for w in d.w if w.st == 1])
        s.world.tick()
    def remove_indexes(s, keep):
        d = s.d; gone = [k for k, v in d.m.items() if k[0] == 'i' and v and not keep(k[1])]
        for k in gone: s.log('removes index', k[1]); d.mset({k: None})
        if (gone or OPT['idx_flush']) and 'idxnoflush' not in BUG: d.mflush('idx')
    def erase(s, blocks):
        d = s.d
        for b in blocks:
            f = d.m[('n', b.pos[0])]; s.log('erase', b.p.lsn, b.pos, 'inc', b.inc)
            if b.step == 1: d.d[(f, b.pos[1] ^ 1)] = None          # packed blocks share sectors
            d.sync_write((f, b.pos[1]), None)
    def open(s, idx):
        d = s.d; s.settle(); r = recover(d, idx); sb = r.sb
        s.world.check_recovered(s, r, 'idx' if idx else ''); s.took(sb)
        s.wm, s.pos, s.lsn, s.chain = r.lsn, r.pos, r.lsn, r.chain; s.wmh = H(s.pos, s.lsn, s.chain)
        unclean = not r.clean and (OPT['fence_always'] or r.strag or r.n != r.lsn)
        if unclean:
            fs = set_fence(s.fences, F(sb.inc, r.pos, r.lsn, r.pos, 'O'), MAXF)
            if fs is None: raise DeadEnd('no room for a fence at open')
            s.fences = fs
        s.inc += 1
        if s.role == 1: s.epoch += 1; s.world.runs += 1; s.run = s.world.runs
        s.sb_both(s.wmh if OPT['hint_at_fence'] else sb.hint)
        here = s.pos[0]; there = d.live()
        if 'idxstale' not in BUG: s.remove_indexes(lambda n: n < here and n in there or n == here and r.idx_last)
        if OPT['erase'] and 'noerase' not in BUG: s.erase(r.strag)
        if OPT['erase']: s.fences = [f for f in s.fences if f.resume != f.cut and not (OPT['way_stays'] and f.why != 'L' and f.cut == s.pos)]
        s.q, s.fl, s.halted, s.badsegs, s.up, s.touched, s.trim_failed = [], None, False, set(), True, {here}, False
        if not OPT['flush_first']: d.persist([w for w in d.w if w.st == 1])
        s.E = s.E[:r.lsn - 1]; s.L = max(s.L, r.lsn - 1); s.Lw = s.L
        s.live = list(r.taken); s.files = {n: d.m[('n', n)] for n in d.segs()}; s.beg = d.base()
        s.given = [n for n in d.segs() if n < s.beg.pos[0]]; s.unidx = {q[0] for p, q in s.live if q[0] < here and not d.m.get(('i', q[0]))} | {here}
        if s.role == 1:
            for i in range(9):
                if s.room([1]): break
                if s.place(s.pos, 1)[0] in s.files: s.sb_put(s.wmh)     # more than the window past the hint
                else: s.spare()
            else: raise DeadEnd('no room for the first block of a reign')
            s.submit([(1, 'E', s.run)], False)
    # ---- commit
    def next_seg(s, n): return min((x for x in s.files if x > n), default=n + 1)   # of those that this process knows by a durable name
    def place(s, pos, size):
        h = s.files.get(pos[0]) and s.d.get((s.files[pos[0]], 'h'))
        return pos if h and not h.packed and pos[1] + 2 * size <= h.units else (s.next_seg(pos[0]), 0)
    def fits(s, pos, sizes, window):
        for z in sizes:
            pos = s.place(pos, z)
            if pos[0] not in s.files: return None
            pos = (pos[0], pos[1] + 2 * z)
        return measure(s.d, s.hint.pos, s.fences)(pos) <= window
    def room(s, sizes): return s.fits(s.pos, sizes, s.world.window - 6)   # with room for what the failure path may waste at ends of segments
    def put(s, g, p, mark):
        q = s.place(s.pos, p.size); f = s.files[q[0]]; b = B(s.d.get((f, 'h')).salt, s.inc, q, mark, p, 2)
        g.ws += [s.d.put((f, q[1] + 2 * i), (b, i)) for i in range(p.size)]; g.segs.add(q[0]); s.touched.add(q[0]); s.unidx.add(q[0]); s.pos = after(b)
        s.live.append((p, q))
    def submit(s, spec, written, ps=None):
        """spec: [(size, kind, body)]; or ps: portable blocks from a leader"""
        g = G(); g.ws, g.segs, g.bad, g.durable, g.acked = [], set(), False, False, False
        if ps is None:
            ps, first = [], s.lsn
            for i, (z, kind, body) in enumerate(spec):
                ps.append(mk(s.lsn + i, ps[-1].chain if ps else s.chain, body, len(spec) - 1 - i, z, kind, first))
        s.E += ps
        g.ps, g.mode = ps, 'w' if written else 'd'
        g.dsync = not written and (all(x.durable or x.mode == 'd' for x in s.q) or 'dsyncw' in BUG) and s.world.ch.pick(2) == 0
        mark = s.lsn if 'mark' in BUG else s.mid().lsn
        for p in ps: s.put(g, p, mark)
        s.lsn, s.chain = ps[-1].lsn + 1, ps[-1].chain; s.q.append(g); s.log('submit', [(p.lsn, p.kind, p.size) for p in ps], g.mode, 'dsync' if g.dsync else 'flush', 'at', g.ws[0].val[0].pos, 'inc', s.inc, 'mark', mark)
    def complete(s, g, w):
        if s.world.fails(): w.st = 2; g.bad = True; s.log('write FAILS', w.key); return
        w.st = 1; s.d.w.remove(w); s.d.w.append(w)
        if g.dsync:
            s.d.persist([w])
            if all(x.st == 1 for x in g.ws) and not g.bad:
                g.durable = True
                if 'dsyncw' in BUG:
                    for x in s.q[:s.q.index(g)]:
                        if all(y.st == 1 for y in x.ws): x.durable = True
        elif 'markunflushed' in BUG and all(x.st == 1 for x in g.ws): g.durable = True
    def flush_begin(s):
        cov = [g for g in s.q if not g.durable and not g.bad and not g.dsync and all(w.st == 1 for w in g.ws)]
        segs = set().union(*[g.segs for g in cov]) if cov else set()
        s.fl = [(x, [w for w in s.d.done({s.files[x]})]) for x in sorted(segs)], cov; s.log('flush begins', sorted(segs))
    def flush_end(s):
        parts, cov = s.fl; s.fl = None
        for x, ws in parts:
            if s.world.fails():
                s.log('flush FAILS seg', x); s.Lw = s.L
                for w in ws: w.st = 2 if w in s.d.w else w.st
                for g in cov: g.bad = g.bad or x in g.segs
                for g in s.q: g.bad = g.bad or (x in g.segs and not g.durable and any(w in ws for w in g.ws))
                return
            s.d.persist(ws)
        for g in cov: g.durable = not g.bad
        s.log('flush ends')
    def progress(s):
        while s.q and s.q[0].durable:
            g = s.q.pop(0); last = g.ws[-1].val[0]; s.wm = last.p.lsn + 1; s.wmh = H(after(last), s.wm, last.p.chain)
            s.L = max(s.L, s.wm - 1); s.Lw = max(s.L, s.Lw)
        for g in s.q:
            if any(x.bad for x in s.q) or not all(w.st == 1 for w in g.ws): break
            if g.mode == 'w': s.Lw = max(s.Lw, g.ps[-1].lsn); g.acked = True
            else: break
    def mid(s):
        h = s.wmh
        if not OPT['group_marks'] and s.q and s.q[0].dsync:
            for w in s.q[0].ws:
                if w.st != 1: break
                b, i = w.val
                if i == b.p.size - 1: h = H(after(b), b.p.lsn + 1, b.p.chain)
        return h
    # ---- failure path: src/commit/fence.rs
    def fail(s):
        d = s.d; s.log('FAILURE PATH')
        for g in s.q:
            for w in list(g.ws):
                if w.st == 0: s.complete(g, w)
        if s.fl: s.flush_end()
        s.progress()
        if not s.q: return
        s.Lw = s.L                                                 # 'written' above the mark: lost if we die before they are written again
        planned = s.q[0].ws[0].val[0].pos; cut = s.wmh.pos if OPT['cut'] == 'end' else planned
        s.badsegs |= {n for n in s.touched if n >= cut[0]}
        res = (s.next_seg(max(s.touched) if OPT['resume_fresh'] else cut[0]), 0)
        s.live = [x for x in s.live if x[0].lsn < s.wm]
        try:
            if res[0] not in s.files: raise IOFail()          # no spare: halts
            fs = set_fence(s.fences, F(s.inc, cut, s.wm, res, 'F'), MAXF - OPT['reserve'])
            if fs is None: raise IOFail()
            s.fences = fs; s.inc += 1; s.sb_both(s.wmh if OPT['hint_at_fence'] else None)
        except IOFail: s.halted = True; s.log('halted, Indeterminate'); return
        s.pos = res
        try:
            fit = s.fits(res, [p.size for g in s.q for p in g.ps], s.world.window)
            if fit is None: raise IOFail()
            if not fit: raise DeadEnd('the commit thread waits for ever: written again at %s, further than the window past the hint at %s' % (res, s.hint.pos))
            for g in s.q:
                g.ws, g.segs, g.bad = [], set(), False
                for p in g.ps: s.put(g, p, s.wm)
            for g in s.q:
                for w in g.ws:
                    s.world.tick()
                    if s.world.fails(): w.st = 2; raise IOFail()
                    w.st = 1; d.w.remove(w); d.w.append(w)
            for x in sorted(set().union(*[g.segs for g in s.q])):
                s.world.tick(); ws = d.done({s.files[x]})
                if s.world.fails():
                    for w in ws: w.st = 2
                    raise IOFail()
                d.persist(ws)
            for g in s.q: g.durable = True
            s.progress(); s.world.see('written again'); s.log('rewritten at', res)
        except IOFail:
            try:
                fs = set_fence(s.fences, F(s.inc, res, s.wm, res, 'F'), MAXF)
                if fs is None: raise IOFail()
                s.fences = fs; s.inc += 1; s.sb_both(); s.E = s.E[:s.wm - 1]; s.log('RolledBack, halted')
            except IOFail: s.log('halted, Indeterminate')
            s.halted = True
    # ---- spares, retention: src/log/keeper
    def spare(s, f=None):
        d = s.d
        if 'wal' in d.doubt: raise IOFail()
        n = max([0] + [k[1] for k, v in d.m.items() if v and (k[0] == 'n' or k[0] == 'q' and 'repnumber' not in BUG)] + [s.pos[0]]) + 1
        if f is None: d.nf += 1; f = d.nf
        s.salt += 1; s.world.tick()
        d.persist_new(d.put((f, 'h'), HDR(s.salt, False, s.segu))); s.world.tick(); d.mset({('n', n): f}); s.log('spare', n); d.mflush('wal'); s.files[n] = f
    def quietly(s, job):                                           # what fails in the background leaves things as they are
        try: job()
        except IOFail: s.log('failed')
    def retain(s):
        """the hint first; base, durably; then nobody finds the segments any more"""
        d, w = s.d, s.world
        if s.trim_failed or 'wal' in d.doubt and OPT['name_doubt']: return
        if s.wm > s.hint.lsn and 'basehint' not in BUG: s.refresh()
        if s.halted: return
        limit = min((s.lsn if 'baseflight' in BUG else s.wm if 'basehint' in BUG else s.hint.lsn) - 1, w.slot_floor(s)); oldest = s.beg.pos[0]
        cuts = []
        for i, (p, q) in enumerate(s.live):
            if q[0] > oldest and p.lsn <= limit and (p.lsn == p.first or 'basemid' in BUG) and all(q[0] != c[1][1][0] for c in cuts): cuts.append((i, (p, q)))
        if not cuts: return
        i, (p, q) = cuts[-1 - w.ch.pick(len(cuts))]
        nb = BASE(p.lsn, q, p.prev); gone = [n for n in sorted(s.files) if oldest <= n < q[0]]
        if 'latebase' not in BUG:
            d.mset({('base',): nb})
            if 'basenoflush' not in BUG:
                try: d.mflush('root')
                except IOFail: s.trim_failed = True; return
        s.log('retention: base', nb, 'gives away', gone); s.live = s.live[i:]; s.beg = nb; s.given += gone
        for n in gone: s.files.pop(n, None); s.unidx.discard(n); d.m.get(('i', n)) and d.mset({('i', n): None})
        s.world.see('retention, in a segment' if q[1] else 'retention'); first = q[0]
        if 'fencedrop' in BUG: s.fences = [f for f in s.fences if f.resume == f.cut or f.cut[0] > first]
        else: s.fences = [f for f in s.fences if f.resume == f.cut or f.resume[0] > first]
        if 'latebase' in BUG:
            while s.given: s.part_with(0)
            d.mset({('base',): nb}); d.mflush('root')
    def part_with(s, at=None):
        """one that was given away: removed, or recycled as a spare; in any order"""
        d, w = s.d, s.world; n = s.given.pop(w.ch.pick(len(s.given)) if at is None else at); f = d.m.get(('n', n))
        if not f: return
        h = d.get((f, 'h')); again = h and not h.packed and h.units == s.segu and not (OPT['bad_kept'] and n in s.badsegs) and 'wal' not in d.doubt
        if again and w.ch.pick(2) and len([x for x in s.files if x > s.pos[0]]) < SPARES:
            s.log('recycles', n); s.world.see('recycle')
            if 'recyclenow' in BUG: s.spare(f); d.mset({('n', n): None}); return
            d.mset({('n', n): None})
            if 'recyclenoflush' not in BUG: d.mflush('wal')
            s.spare(f)
        else: s.log('removes', n); d.mset({('n', n): None})
    # ---- indexes: src/log/keeper/indexing.rs
    def index_due(s): lim = s.pos[0] if 'idxearly' in BUG else s.hint.pos[0]; return sorted(n for n in s.unidx if n < lim and any(q[0] == n for p, q in s.live))
    def write_index(s, n):
        d = s.d; bl = tuple(x for x in s.live if x[1][0] == n and (x[0].lsn < s.wm or 'idxearly' in BUG))
        if not bl: return
        s.unidx.discard(n); h = d.get((s.files[n], 'h')); s.log('index', n, [p.lsn for p, q in bl])
        i = IDX(h, s.inc, bl[0][0].prev, bl); d.mset({('i', n): i})
        if OPT['idx_lazy']: d.lazy[('i', n)] = i
        else: d.mflush('idx')
    # ---- packing: src/log/keeper/packing.rs
    def packable(s):
        out = []; named = {x for f in s.fences for x in (f.cut[0], f.resume[0])}; d = s.d
        if 'wal' in d.doubt and OPT['name_doubt'] or s.trim_failed and OPT['base_doubt']: return out
        for n in sorted({q[0] for p, q in s.live}):
            lim = s.pos[0] if 'packtail' in BUG else s.wmh.pos[0] if 'packhint' in BUG else s.hint.pos[0]
            bl = [x for x in s.live if x[1][0] == n]; h = d.get((s.files[n], 'h')); i = d.m.get(('i', n))
            if n >= lim or h.packed or n in s.badsegs and 'packnamed' not in BUG: continue
            if n in named and 'packnamed' not in BUG: continue
            if bl[0][1] != (n, 0) and 'packbase' not in BUG: continue
            if 'packtail' not in BUG and (not i or i.hdr != h or [p for p, q in i.blocks] != [p for p, q in bl]): continue
            if sum(units(p, 1) for p, q in bl) // 2 + 1 < s.segu // 2: out.append(n)
        return out
    def packed_file(s, n, blocks, salt, first=0):
        """the packed form, under no name yet; returns it and the places of its blocks"""
        d = s.d; d.nf += 1; f, o, moved = d.nf, first, []
        total = first + sum(units(p, 1) for p, q in blocks); d.d[(f, 'h')] = HDR(salt, True, total + total % 2)
        for p, q in blocks:
            old = d.blk(q)
            if not old or old.p != p: raise IOFail()               # damaged: it stays as it is
            b = B(salt, 0 if 'packinc0' in BUG else old.inc, (n, o), old.mark, p, 1)
            for i in range(units(p, 1)):
                if 'packnoflush' in BUG: w = d.put((f, o + i), (b, i)); w.st = 1
                else: d.d[(f, o + i)] = (b, i)
            moved.append((p, (n, o))); o += units(p, 1)
        return f, moved
    def pack(s, n):
        d = s.d; bl = [x for x in s.live if x[1][0] == n and x[0].lsn < s.wm]; old = d.get((s.files[n], 'h'))
        if not bl: return
        if d.m.get(('i', n)) and 'packidx' not in BUG: d.mset({('i', n): None})
        s.world.tick()
        if s.world.fails(): s.unidx.add(n); return
        s.salt += 1; f, moved = s.packed_file(n, bl, old.salt if 'packsalt' in BUG else s.salt)
        if 'packunlink' in BUG: d.mset({('n', n): None})
        d.mset({('n', n): f})
        try: d.mflush('wal')
        except IOFail: s.log('packed', n, 'but its name is in doubt'); return   # the old file is read until the next open
        s.log('packed', n, moved); s.files[n] = f; s.live = [x for x in s.live if x[1][0] != n or x[0].lsn >= s.wm] + moved; s.live.sort()
        s.unidx.add(n); s.world.see('pack')
        if 'packtail' not in BUG: s.write_index(n)
    # ---- repair --accept-loss: src/log/repair.rs
    def repair(s, r):
        d, cut = s.d, r.pos; s.took(r.sb); s.wmh = H(r.pos, r.lsn, r.chain); here = cut[0]; s.files = {n: d.m[('n', n)] for n in d.segs()}
        nothing = r.lsn == d.base().lsn; s.log('REPAIR cut at', cut, 'lsn', r.lsn, 'nothing left' if nothing else '')
        if OPT['clip_slots'] and (d.m.get(('slots',)) or 0) > r.lsn: d.mset({('slots',): r.lsn}); d.mflush('root')
        if 'idxrepair' not in BUG and 'idxorder' not in BUG: s.remove_indexes(lambda n: n < here)
        s.world.marked = True                                      # from here on nothing hides the damage any more
        def aside():
            if 'repnoquar' in BUG: return
            for n in d.live():
                if n > here or n == here and nothing: s.log('sets aside', n); d.mset({('n', n): None, ('q', n): d.m[('n', n)]})
            d.mflush('wal')
        def fence():
            res = (here + 1, 0) if nothing else cut
            if 'repnofence' not in BUG:
                fs = set_fence(s.fences, F(s.inc, cut, r.lsn, res, 'L'), MAXF)
                if fs is None: raise DeadEnd('no room for a fence in a repair')
                s.fences = fs
            s.inc += 1; s.sb_both(s.wmh)
        def head():
            h = d.hdr(here)
            if nothing or not h or not h.packed or 'rephead' in BUG: return
            bl = [x for x in r.taken if x[1][0] == here]; s.salt += 1; first = bl[0][1][1] if OPT['head_stays'] else 0
            f, moved = s.packed_file(here, bl, h.salt if 'packsalt' in BUG else s.salt, first); d.mset({('n', here): f}); d.mflush('wal'); s.log('head', moved)
        def erase():
            h = d.hdr(here)
            if nothing or not h or h.packed and 'rephead' not in BUG or 'repnoerase' in BUG: return
            bl = [b for b in (d.blk((here, o)) for o in range(cut[1], h.units, 1 if h.packed else 2)) if b]
            s.erase(bl)
        steps = [aside, head, erase, fence] if OPT['erase_first'] else [aside, head, fence, erase]
        if 'repfirst' in BUG: steps = [fence, aside, head, erase]
        if 'repheadlate' in BUG: steps = [aside, fence, head, erase]
        for x in steps: x()
        if 'idxorder' in BUG: s.remove_indexes(lambda n: n < here)
        s.log('repaired')
    # ---- what may happen next
    def actions(s):
        """(weight, function), the first is the default"""
        a, w = [], s.world
        if s.halted: return [(1, lambda: None)]
        if any(g.bad for g in s.q): return [(1, s.fail)]
        if s.fl: a.append((3, s.flush_end))
        for g in s.q:
            for x in g.ws:
                if x.st == 0: a.append((3, lambda g=g, x=x: s.complete(g, x)))
        if not s.fl and any(not g.durable and not g.dsync and all(x.st == 1 for x in g.ws) for g in s.q): a.append((1 if any(g.mode == 'w' for g in s.q) else 3, s.flush_begin))
        sub = []
        if len(s.q) < 3:
            if s.role == 1: sub.append((4, s.do_submit))
            elif w.next_for(s): sub.append((6, lambda: s.submit(None, False, w.next_for(s)) if s.room([p.size for p in w.next_for(s)]) else s.make_room()))
        a += sub if not s.q or not a else []
        if sub and s.q and len(a) and sub[0] not in a: a += sub
        e = w.eager
        if s.hint != s.mid(): a.append((1, s.refresh))
        if s.want_spare(): a.append((2, lambda: s.quietly(s.spare)))
        a.append((.7 * (1 + e / 8), lambda: s.quietly(s.retain)))
        if s.given: a.append((1 * e, lambda: s.quietly(s.part_with)))
        due = s.index_due()
        if due: a.append((3 * e, lambda: s.quietly(lambda: s.write_index(due[w.ch.pick(len(due))]))))
        can = s.packable()
        if can: a.append((5 * e, lambda: s.quietly(lambda: s.pack(can[w.ch.pick(len(can))]))))
        if not s.q and not s.fl: a.append((.6 * w.calm, s.clean_stop))
        return a
    def want_spare(s): return 'wal' not in s.d.doubt and len([x for x in s.files if x > s.pos[0]]) < SPARES
    def make_room(s):
        if s.hint != s.wmh: s.refresh()
        elif s.want_spare(): s.quietly(s.spare)
    def do_submit(s):
        w = s.world; n = 1 + w.ch.pick(3, (3, 2, 2)); sizes = [1 + w.ch.pick(2, (3, 1)) for _ in range(n)]
        if not s.room(sizes): return s.make_room()
        w.body += 1; s.submit([(z, 'D', (w.body * 4 + i)) for i, z in enumerate(sizes)], w.ch.pick(3, (3, 1, 1)) == 1 and s.role == 1)
    def refresh(s):
        try: s.sb_put(s.mid())
        except IOFail: s.halted = True; s.log('hint refresh failed: halted')
    def clean_stop(s):
        def indexes():
            for n in sorted(s.unidx):
                if n < s.wmh.pos[0] or s.world.ch.pick(2): s.write_index(n)
        s.quietly(indexes)
        try: s.sb_put(s.wmh, True); s.log('CLEAN STOP')
        except IOFail: pass
        s.d.die(); s.up = False

class World:
    def __init__(s, ch, mode):
        s.ch, s.mode, s.runs, s.body, s.nfail, s.rotted, s.ncrash, s.states, s.ndir = ch, mode, 0, 0, 0, 0, 0, 0, 0
        s.fresh, s.pending, s.seen = True, None, {}
        g = ch.pick(2) if GEOMETRY is None else GEOMETRY
        s.sectors, s.window = ((5, 28), (16, 22))[g]
        s.eager = (1, 8)[ch.pick(2)]                               # how much goes on in the background, beside everything else
        s.calm = (1, .25)[ch.pick(2)]                              # how seldom it crashes
        s.maxfail = 3 if mode in ('io', 'all', 'iofollow', 'dir') else 0; s.maxdir = 1 if mode in ('dir', 'all') else 0
        s.nodes = [Node(s, Disk(s), 1)]
        if mode in ('follow', 'iofollow'): s.nodes.append(Node(s, Disk(s), 2))
    def tick(s):
        s.states += 1
        if s.ncrash < 8 and s.ch.pick(2, (30, 1)): raise Crash()
    def fails(s):
        if s.nfail >= s.maxfail: return False
        if s.ch.pick(2, (12, 1)): s.nfail += 1; return True
        return False
    def dirfails(s):
        if s.ndir >= s.maxdir or not any(n.up for n in s.nodes): return False
        if s.ch.pick(2, (6, 1)): s.ndir += 1; return True
        return False
    def slot_floor(s, n): return (n.d.m.get(('slots',)) or 1) if n.role == 1 and len(s.nodes) > 1 else 10 ** 9
    def next_for(s, f):
        l = s.nodes[0]
        if not l.up or l.halted: return None
        ps = l.E[f.lsn - 1: l.wm - 1]
        if 'midgroup' in BUG: return ps[:1] or None
        for i, p in enumerate(ps):
            if p.rem == 0: return ps[:i + 1]
    def see(s, what): s.seen[what] = s.seen.get(what, 0) + 1
    def check_recovered(s, n, r, how=''):
        base = n.d.base(); E = n.E if n.role == 1 else s.nodes[0].E; k = r.lsn - 1; who = 'LF'[n.role - 1]
        if k < n.L: raise Violation('I1/I6 %s lost acknowledged or shown: recovered %d < %d' % (who, k, n.L))
        if k < n.Lw: raise Violation('I2 %s lost written after kill: %d < %d' % (who, k, n.Lw))
        got = [p for p, q in r.taken]; want = E[base.lsn - 1:k] if OPT['start'] == 'base' else E[r.taken[0][0].lsn - 1:k] if r.taken else []
        if got != want: raise Violation('I3-5 %s recovered is no prefix: got %s want %s' % (who, [(p.lsn, p.body) for p in got], [(p.lsn, p.body) for p in E[base.lsn - 1:k]]))
        if got and base.lsn == got[0].lsn != got[0].first: raise Violation('I3 %s half a group at the beginning' % who)
        for p, q in r.taken:
            b = n.d.blk(q)
            if not b or b.p != p: raise Violation('I8 %s believes lsn %d at %s, which is not there' % (who, p.lsn, q))
        if got and got[-1].rem: raise Violation('I3 %s half a group at the end' % who)
        if n.role == 2:
            l = s.nodes[0]
            if k > (l.wm - 1 if l.up else l.L): raise Violation('I9 follower ahead: %d > %d' % (k, l.L))
        elif len(s.nodes) > 1 and k < s.nodes[1].L: raise Violation('I9 leader behind its follower %d < %d' % (k, s.nodes[1].L))
        s.see('open ' + how)
        if r.taken and any((n.d.hdr(q[0]) or HDR(0, False, 0)).packed for p, q in r.taken): s.see('packed in the log')
        if V: print('   ', who, 'recovered', k, how, 'tail at', r.pos, 'from', base.pos, base.lsn, 'clean' if r.clean else '', 'behind it', [(b.p.lsn, b.pos) for b in r.strag])
    def crash(s, n, why=''):
        s.ncrash += 1; n.up = False; s.see('crash')
        power = s.ch.pick(2)
        if V: print('  CRASH', 'LF'[n.role - 1], 'power' if power else 'kill', why, 'pending', [(w.key, w.st) for w in n.d.w], 'names', {k: v for k, v in n.d.ops.items() if v})
        if power: n.d.power(); n.Lw = n.L
        else: n.d.die()
    # ---- rot and repair
    def marks(s, n):
        """the highest durable mark on disk that speaks of the present history"""
        d = n.d; m, base = 0, d.base(); sb = max((x for x in (d.get(('sb', 0)), d.get(('sb', 1))) if isinstance(x, SB)), key=lambda x: x.ver)
        if base.lsn > 1 and not any(f.why == 'L' and f.cut == base.pos for f in sb.fences): m = base.lsn + 1
        for i in (0, 1):
            x = d.get(('sb', i))
            if isinstance(x, SB): m = max(m, x.hint.lsn)
        for seg in d.live():
            h = d.hdr(seg)
            for o in range(h.units if h else 0):
                b = d.blk((seg, o))
                if b and b.p.lsn - 1 < len(n.E) and n.E[b.p.lsn - 1] == b.p: m = max(m, b.mark)
        return max(m, d.m.get(('slots',)) or 0)
    def rot(s, n):
        d = n.d; d.d.update({w.key: w.val for w in d.w if w.st == 1}); d.w = []     # at rest: in a file that has its name for good,
        for c in d.ops['wal']: d.md.update(c)                                       # or a power cut may bring back the form that packing has replaced, whole
        d.ops['wal'] = []
        if not s.fresh or not all(isinstance(d.d.get(('sb', i)), SB) for i in (0, 1)): return   # one fault at a time
        try: r = recover(d)
        except Damage as e: raise Violation('I7 damage without rot: %s' % e)
        s.check_recovered(n, r); D = s.marks(n); out = r.taken; t = s.ch.pick(len(out) + (2 if s.mode != 'repair' else 0))
        s.rotted += 1; s.fresh = False
        if t >= len(out):
            if t - len(out) < 2 and s.mode != 'repair':
                key = ('sb', t - len(out)); d.d[key] = 'X'
                if V: print('  ROT slot', key)
            return
        p, q = out[len(out) - 1 - t]; b = d.blk(q); f = d.m[('n', q[0])]
        o = q[1] + b.step * s.ch.pick(units(p, b.step) // b.step); keys = [(f, o)] if b.step == 2 else [(f, o - o % 2), (f, o - o % 2 + 1)]
        was = {k: d.d.get(k) for k in keys}
        for k in keys: d.d[k] = 'X'
        # in a packed segment a sector may hold ends of two blocks: the first that it hits counts
        hit = min(c[0].p.lsn for c in was.values() if c and c != 'X' and c[0].p.lsn >= out[0][0].lsn); p = n.E[hit - 1]
        if V: print('  ROT block lsn', p.lsn, q, 'highest mark', D)
        try: r2 = recover(d)
        except Damage as e:
            if V: print('   found:', e)
            if e.r.lsn != p.first: raise Violation('I11 a repair would cut at lsn %d, not at %d' % (e.r.lsn, p.first))
            if s.ch.pick(2, (1, 3)) if s.mode == 'repair' else s.ch.pick(2): s.pending = (p.first, was, list(n.E)); n.L = n.Lw = min(n.L, p.first - 1); return
            d.d.update(was); return
        if r2.lsn > p.lsn: raise Violation('I8 wrong bytes served around the rot')
        if p.lsn < D: raise Violation('I8 silent cut of lsn %d below mark %d' % (p.lsn, D))
        try:
            if recover(d, True).lsn != r2.lsn: d.d.update(was); return   # an index vouches for it: documented, damage in old segments is not seen
        except Damage: pass
        n.E = n.E[:r2.lsn - 1]; n.L = n.Lw = min(n.L, r2.lsn - 1)  # cannot be told
    def after_rot(s, n):
        """a damaged folder is opened or repaired; True once it can be opened"""
        cut, was, E = s.pending; idx = bool(s.ch.pick(2))
        def took(k):
            if k == cut - 1: n.E = n.E[:k]; n.L = n.Lw = min(n.L, k); s.pending = None; return True
            raise Violation('I11 a repair cut at lsn %d ends at %d' % (cut, k + 1))
        if s.ch.pick(4, (3, 1, 0, 0)) == 1:                        # somebody opens it instead
            n.settle()
            try: r = recover(n.d, idx)
            except Damage as e: return False
            if r.lsn <= cut: return took(r.lsn - 1)
            if s.marked: return took(r.lsn - 1)
            n.d.d.update(was); n.L = n.Lw = n.L; s.pending = None; return True   # an index hides it: documented; the bytes come back
        n.settle()
        try: r = recover(n.d)
        except Damage as e:
            if e.r.lsn != cut: raise Violation('I11 a repair would cut at lsn %d, not at %d' % (e.r.lsn, cut))
            n.repair(e.r); s.see('repair'); return took(cut - 1)
        return took(r.lsn - 1)
    marked = False
    # ---- steps
    def run(s, steps):
        ch = s.ch
        for t in range(steps):
            n = s.nodes[ch.pick(len(s.nodes))] if len(s.nodes) > 1 else s.nodes[0]
            try:
                if not n.up:
                    if s.pending and not s.after_rot(n): continue
                    c = ch.pick(3, (6, 1, 3 if s.mode == 'repair' else 1))
                    if c == 1:
                        if OPT['ro_flush']:
                            for f in ('root', 'wal'): n.d.mflush(f, False)
                            n.d.persist([w for w in n.d.w if w.st == 1])
                        r = recover(n.d); s.check_recovered(n, r, 'ro'); n.L = max(n.L, r.lsn - 1); n.Lw = max(n.L, n.Lw)
                        continue
                    if c == 2 and s.mode in ('rot', 'repair', 'all') and s.rotted < (3 if s.mode == 'repair' else 2): s.marked = False; s.rot(n); continue
                    n.open(bool(ch.pick(2))); s.fresh = True
                    if V: print('   open:', 'inc', n.inc, 'fences', n.fences, 'segments', n.d.segs())
                    continue
                acts = n.actions(); extra = 1 if s.ncrash < 8 else 0
                if len(s.nodes) > 1 and n.role == 2: acts = acts + [(1, s.record_slot)]
                if n.role == 1 and len(s.nodes) == 1 and s.mode in ('rot', 'repair', 'all'): acts = acts + [(.4, s.fake_slot)]
                i = ch.pick(len(acts) + extra, [a[0] for a in acts] + [1.2 * s.calm])
                if i == len(acts): s.crash(n); continue
                acts[i][1]()
                for w in list(n.d.w):
                    if w.st == 2 and n.up and ch.pick(2, (4, 1)): w.st = 1; n.d.w.remove(w); n.d.w.append(w)   # lands late
                if n.up and not n.halted: n.progress()
            except Crash: s.crash(n, 'inside')
            except IOFail:
                if V: print('    open or repair failed')
                n.up = False; n.d.die()
            except Damage as e: raise Violation('I7 %s damage without rot: %s' % ('LF'[n.role - 1], e))
            except DeadEnd as e: raise Violation('I10 %s' % e)
    def record_slot(s):                                            # lazily: what the follower acknowledged
        l, f = s.nodes
        if l.up: l.d.mset({('slots',): f.wm}); l.d.mflush('root', False) if s.ch.pick(2) else None
    def fake_slot(s):
        n = s.nodes[0]; n.d.mset({('slots',): n.wm}); n.d.mflush('root', False)

def one(ch, mode, steps):
    w = World(ch, mode)
    try: w.run(steps); return w, None
    except Violation as e: return w, str(e)

def sort(e): return ''.join(c for c in e if not c.isdigit())        # which violation it is, whatever its numbers

def shrink(script, mode, steps, key, secs=7):
    def bad(sc):
        w, e = one(Chooser(sc), mode, steps); return e is not None and sort(e) == sort(key)
    cur = list(script); t0 = time.time(); changed = True
    while changed and time.time() - t0 < secs:
        changed = False
        for size in (32, 16, 8, 4, 2, 1):
            i = 0
            while i < len(cur) and time.time() - t0 < secs:
                for c in (cur[:i] + cur[i + size:], cur[:i] + [0] * size + cur[i + size:]):
                    if c != cur and (len(c) < len(cur) or sum(1 for x in c if x) < sum(1 for x in cur if x)) and bad(c): cur = c; changed = True; break
                else: i += size
    while cur and cur[-1] == 0: cur.pop()
    return cur

SEEN = {}
def rand(seconds, seed, mode, steps=60):
    t0, n, st, rng = time.time(), 0, 0, random.Random(seed)
    while time.time() - t0 < seconds:
        ch = Chooser(rng=random.Random(rng.getrandbits(64))); w, e = one(ch, mode, rng.choice((25, 45, steps, 2 * steps, 3 * steps))); n += 1; st += ch.i
        for k, x in w.seen.items(): SEEN[k] = SEEN.get(k, 0) + x
        if e: return n, st, e, [c for c, _ in ch.trace]
    return n, st, None, None

def exh(seconds, dev, mode, steps=22):
    t0, n, st, stack = time.time(), 0, 0, [([], 0)]
    while stack:
        if time.time() - t0 > seconds: return n, st, 'TIME (%d left on the stack)' % len(stack), None
        sc, d = stack.pop(); ch = Chooser(sc); w, e = one(ch, mode, steps); n += 1; st += ch.i
        tr = [c for c, _ in ch.trace]
        if e: return n, st, e, tr
        if d < dev:
            for i in range(len(sc), len(tr)):
                for a in range(1, ch.trace[i][1]): stack.append((tr[:i] + [a], d + 1))
    return n, st, None, None

def hunt(secs, seed, modes):
    tot = 0; st = 0
    for m in modes:
        r = rand(secs, seed, m); tot += r[0]; st += r[1]
        if r[2]: return tot, st, r[2], r[3], m
    return tot, st, None, None, ''

def main(a):
    global V, GEOMETRY
    kv = dict(x.split('=', 1) for x in a if '=' in x); a = [x for x in a if '=' not in x]; mode = kv.pop('mode', 'crash')
    v = kv.pop('v', ''); BUG.update(x for x in kv.pop('bug', '').split(',') if x); g = kv.pop('geometry', None); GEOMETRY = None if g is None else int(g)
    for k, x in kv.items():
        assert k in OPT, k
        OPT[k] = {'0': False, '1': True}.get(x, x)
    secs = float(a[1]) if len(a) > 1 else 20
    only = a[2].split(',') if len(a) > 2 and a[0] in ('plants', 'ablate', 'shipped') else None
    if a[0] == 'plants':
        for b, ms in PLANTS:
            if only and b not in only: continue
            BUG.clear(); BUG.update(b.split('+')); n, st, e, _, m = hunt(secs, 7, ms)
            print('%-22s %-8s %7d runs  %s' % (b, m, n, (e or 'NOT FOUND')[:130]), flush=True)
        return
    if a[0] in ('ablate', 'shipped'):
        keep = dict(OPT)
        for k, x, ms in [(k, x, (m,)) for k, x, m in SHIPPED] if a[0] == 'shipped' else [(k, x, ('crash', 'io', 'rot', 'repair', 'dir', 'all')) for k, x in ABLATIONS]:
            if only and k not in only: continue
            OPT.clear(); OPT.update(keep); OPT[k] = x; n, st, e, tr, m = hunt(secs, 5, ms)
            print('%-22s %-8s %7d runs  %s' % ('%s=%s' % (k, x), m, n, e or 'NOT FOUND'), flush=True)
            if e and (a[0] == 'shipped' or v):
                sc = shrink(tr, m, 180, e, 20); V = True; one(Chooser(sc), m, 180); V = False; print('-' * 40, len(sc), 'choices', flush=True)
        return
    if a[0] == 'exh': r = exh(secs, int(a[2]), mode)
    else: r = rand(secs, int(a[2]) if len(a) > 2 else 1, mode)
    print('%s %s: %d runs, %d choices: %s' % (a[0], mode, r[0], r[1], r[2] or 'no violation'), dict(sorted(SEEN.items())), flush=True)
    if r[3]:
        sc = shrink(r[3], mode, 180, r[2]); V = bool(v); w, e = one(Chooser(sc), mode, 180); print('minimized to', len(sc), 'choices:', e, sc if not v else '')

ABLATIONS = [('erase', False), ('cut', 'planned'), ('supersede', False), ('reserve', 0), ('hint_at_fence', False), ('bad_kept', False), ('resume_fresh', False), ('ro_flush', False),
             ('clip_slots', False), ('flush_first', False), ('open_dirsync', False), ('group_marks', False), ('fence_always', False), ('drop_past', False), ('start', 'hint')]
PLANTS = [  # what was there before
    ('noerase', ['rot', 'follow', 'iofollow', 'all']), ('oneslot', ['rot', 'io', 'all']), ('markunflushed', ['crash']), ('mark', ['crash']), ('midgroup', ['follow']), ('dsyncw', ['crash']), ('nogroup', ['crash']),
    ('noslotev', ['rot']), ('nomarkev', ['rot']), ('clean1', ['rot', 'crash']), ('nosalt', ['crash', 'io']), ('nohintev', ['rot', 'repair']),
    # packing
    ('packtail', ['crash', 'all']), ('packhint', ['crash', 'rot', 'repair', 'all']), ('packnamed', ['io', 'all']), ('packbase', ['crash', 'repair']), ('packnoflush', ['crash']), ('packunlink', ['crash']),
    ('packinc0', ['crash', 'rot', 'repair']), ('packsalt', ['crash', 'repair']), ('packidx', ['crash', 'repair']), ('packidx+idxlen', ['crash', 'repair']), ('rephead', ['repair']), ('packhint+nohintev', ['repair', 'crash']),
    # indexes
    ('idxearly', ['crash', 'io']), ('idxlsn', ['repair', 'crash']), ('idxfence', ['repair', 'io']), ('idxhdr', ['crash', 'repair']), ('idxstale', ['crash', 'rot', 'repair', 'io']), ('idxrepair', ['repair']),
    ('idxrepair+idxstale', ['repair']), ('idxorder', ['repair']), ('idxnoflush', ['repair', 'crash']),
    # retention
    ('latebase', ['crash']), ('basenoflush', ['crash']), ('basehint', ['crash', 'rot']), ('baseflight', ['crash']), ('basemid', ['crash']), ('recyclenow', ['crash', 'all']), ('recyclenoflush', ['crash', 'all']), ('fencedrop', ['io', 'all']),
    ('nobaseev', ['rot', 'repair']), ('basehint+nobaseev', ['rot', 'repair']),
    # repair
    ('repfirst', ['repair']), ('repnofence', ['repair']), ('repnoquar', ['repair']), ('repnoerase', ['repair']), ('repempty', ['repair']), ('repnumber', ['repair']), ('repheadlate', ['repair']),
]
if __name__ == '__main__': main(sys.argv[1:]) if sys.argv[1:] else print(__doc__)
