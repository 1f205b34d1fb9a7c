#!/usr/bin/env python3
"""Weakens every memory ordering and every rule of the algorithms once, and prints which models fail.

    python3 loom-tests/mutants.py [part of a name] ...      (all of them: a quarter of an hour on two cores)

Every Acquire, Release, AcqRel and SeqCst in the files below is found automatically; the rules are listed. All mutants
are compiled at once, into a copy of the sources under target/, each behind a switch that SLIPRING_MUTANT selects; the
sources are never changed. Prints a table in Markdown. The exit code is 1 if a mutant passes every model and is not
among those explained at the end of this file, or if one of those is caught.
"""
import json, os, pathlib, re, shutil, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "mutants"
CONTROL = 900  # seconds for one model without a mutant, which every model has to pass
SLACK = 10  # with a mutant it may take this many times as long, plus a minute; beyond that it is neither caught nor passed
SLOW = 2  # seconds; slower models run only for mutants that all others let pass

# The models that test each file.
FILES = {
    "src/ring/spsc/core.rs": ["spsc", "wake::spsc"],
    "src/ring/spsc/ahead.rs": ["spsc", "wake::spsc"],
    "src/ring/spsc/layout.rs": ["spsc", "wake::spsc"],
    "src/ring/broadcast/gate.rs": ["broadcast"],
    "src/ring/broadcast/join.rs": ["broadcast"],
    "src/ring/broadcast/layout.rs": ["broadcast"],
    "src/ring/broadcast/lossy.rs": ["broadcast"],
    "src/ring/broadcast/seat.rs": ["broadcast"],
    "src/ring/mpsc/core.rs": ["mpsc"],
    "src/ring/mpsc/lanes.rs": ["mpsc"],
    "src/ring/mpsc/layout.rs": ["mpsc"],
    "src/ring/mpmc/core.rs": ["mpmc", "wake::mpmc"],
    "src/ring/mpmc/recovery.rs": ["mpmc"],
    "src/ring/mpmc/inspect.rs": ["mpmc"],
    "src/ring/latest/core.rs": ["latest", "wake::latest"],
    "src/ring/stream/core.rs": ["spsc::stream"],
    "src/ring/stream/layout.rs": ["spsc::stream"],
    "src/wait/eventcount.rs": ["eventcount", "several", "wake"],
    "src/wait/several.rs": ["several"],
    "src/wait/barrier.rs": ["eventcount", "wake"],
    "src/wait/semaphore.rs": ["semaphore"],
    "src/wait/mutex.rs": ["mutex"],
    "src/wait/count.rs": ["count::"],
    "src/wait/event.rs": ["event::"],
    "src/segment/message_type.rs": ["message_type"],
    "src/segment/liveness/table.rs": ["liveness"],
    "src/segment/liveness/lifecycle.rs": ["liveness"],
}

# Files of the same directories that have orderings and no model.
WITHOUT_MODELS = ["src/ring/attachment.rs", "src/ring/spsc/untrusted.rs", "src/wait/cancel.rs",
                  "src/ring/broadcast/inspect.rs", "src/ring/broadcast/subscriber.rs"]

# file, how the function (or impl) begins, the exact text in it, what replaces it, name
AHEAD = "src/ring/spsc/ahead.rs"
SPSC, MPMC, EC = "src/ring/spsc/core.rs", "src/ring/mpmc/core.rs", "src/wait/eventcount.rs"
LATEST = "src/ring/latest/core.rs"
SEVERAL, SEM, MUTEX = "src/wait/several.rs", "src/wait/semaphore.rs", "src/wait/mutex.rs"
COUNT, EVENT = "src/wait/count.rs", "src/wait/event.rs"
TYPE = "src/segment/message_type.rs"
RECOVERY = "src/ring/mpmc/recovery.rs"
TABLE, LIFE = "src/segment/liveness/table.rs", "src/segment/liveness/lifecycle.rs"
BROADCAST, MPSC_LANES = "src/ring/broadcast/", "src/ring/mpsc/"
RULES = [
    (MPSC_LANES + "lanes.rs", "pub(crate) fn take", "!self.change(lane, free, held)",
     "{ self.change(lane, free, held); false }", "a producer takes a lane that another one has taken"),
    (MPSC_LANES + "lanes.rs", "pub(crate) fn take", "self.announce();", ";", "a lane that was taken is not announced"),
    (MPSC_LANES + "lanes.rs", "pub(crate) fn give_back", "self.announce();", ";", "a close is not announced"),
    (MPSC_LANES + "lanes.rs", "pub(crate) fn recover", "self.announce();", ";", "a death is not announced"),
    (MPSC_LANES + "lanes.rs", "pub(crate) fn recover", "state.phase() == Phase::Held && state.owner() == id",
     "state.owner() == id", "a lane that was closed is marked as dead"),
    (MPSC_LANES + "layout.rs", "pub(super) fn next", "(self.0 >> 15).wrapping_add(1)", "self.0 >> 15",
     "the next owner of a lane has the epoch of the last"),
    (MPSC_LANES + "core.rs", "pub(crate) fn find", "lane.bytes.has_next()", "lane.bytes.has_next() && !lane.state.has_ended()",
     "an end is told before the last frame"),
    (MPSC_LANES + "core.rs", "pub(crate) fn find", "self.publish(self.current);", ";",
     "what was released is not published when a lane is left"),
    (MPSC_LANES + "core.rs", "fn end", "self.changes = None;", ";", "an end is told again and again"),
    (MPSC_LANES + "core.rs", "pub(crate) fn attach", "drop(ring.change(number, state, state.with(Phase::Closed)))", "{}",
     "an end is not told again to a successor"),
    (BROADCAST + "gate.rs", "pub(crate) fn make_room", "self.least(floor, first)", "(first, None::<Slow>)",
     "the publisher does not look again behind its fence"),
    (BROADCAST + "gate.rs", "fn least", "is_within(exact, floor, tail) && is_before(exact, least)", "false",
     "the publisher waits for no subscriber"),
    (BROADCAST + "join.rs", "fn admit", "!is_before(boundary.at, self.load_floor())", "true",
     "a subscriber does not look at the floor again"),
    (BROADCAST + "lossy.rs", "pub(super) fn read_at", "is_before(position, self.floor().load(Ordering::Relaxed))", "false",
     "a copy is not validated"),
    (BROADCAST + "layout.rs", "fn boundary", "before % 8 == 0 && position.load(Ordering::Relaxed) == before",
     "true", "a boundary may be torn"),
    (BROADCAST + "layout.rs", "pub(super) fn next", "State(self.0.wrapping_add(4)).with(mode)", "self.with(mode)",
     "a successor has the epoch of its predecessor"),
    (BROADCAST + "seat.rs", "pub(crate) fn hold", "Err(Evicted)", "Ok(())",
     "an evicted subscriber looks at frames"),
    (EC, "impl Sleep for One", "word.fetch_and(!CALL, Relaxed);", "word.store(0, Relaxed);", "a call clears the bit of a set"),
    (EC, "    fn arm", "before & bit == 0", "before == 0", "a set does not raise its bit beside a call's"),
    (EC, "pub(super) fn arm", "event.arm(bit)", "event.arm(2)", "all sets share one bit"),
    (EC, "pub(super) fn arm", "event.register()",
     "{ let word = event.0.word().load(Relaxed); (word, word & 1 == 0) }", "a set does not register"),
    (EC, "pub(crate) fn interrupt", "event.0.word().fetch_and(!bit, Release)", "event.0.word().load(Relaxed)",
     "One: an interrupt does not change the word"),
    (EC, "pub(crate) fn interrupt", "event.0.word().fetch_add(WAKE_UP, Release)", "event.0.word().load(Relaxed)",
     "Many: an interrupt does not change the word"),
    (SEVERAL, "pub(crate) fn pass", "ready()", "false", "a set does not check between arming and sleeping"),
    (SEVERAL, "fn wait", "(now ^ key.word) & !key.others != 0", "false", "a set sleeps on a word that has changed"),
    (SPSC, "fn end_chain", "self.shared.word(next).store(0, Ordering::Relaxed);", ";", "the next header is not zeroed"),
    (AHEAD, "pub(super) fn covers", "is_before(next, self.zero_end)", "self.zero_end != next",
     "the window is treated as having no end"),
    (AHEAD, "pub(super) fn begin", "shared.zero(later(self.zero_end, next.wrapping_add(8)), end);",
     "shared.zero(self.zero_end, later(self.zero_end, end));", "the window begins inside a record"),
    (AHEAD, "pub(super) fn begin", "shared.zero(later(self.zero_end, next.wrapping_add(8)), end);",
     "{ let from = later(self.zero_end, next.wrapping_add(32)); shared.zero(from, later(end, from)); }", "the window has a hole"),
    (AHEAD, "pub(super) fn go_on", "shared.zero_piece::<{ PIECE as usize }>(self.zero_end);", ";", "a piece of the window is not zeroed"),
    (AHEAD, "pub(super) fn goes_on", "self.covers(next)", "true", "the window continues behind a word outside it"),
    (AHEAD, "pub(super) fn goes_on", "end % PIECE == 0", "true", "a piece of the window is stored where none begins"),
    (AHEAD, "fn has_room", "end.wrapping_add(CACHE_LINE).wrapping_sub(head) <= shared.capacity", "true",
     "the window reaches into what is not released"),
    (AHEAD, "pub(super) fn nothing", "Ahead { zero_end: tail, end: tail, refill_at: tail, drained: 0 }",
     "Ahead { zero_end: tail.wrapping_add(64), end: tail, refill_at: tail.wrapping_add(64), drained: 0 }",
     "a new producer relies on its predecessor's window"),
    (AHEAD, "pub(super) fn lend", "(self.zero_end, self.refill_at) = (tail, tail);", ";",
     "the producer keeps the window while a grant writes into it"),
    (SPSC, "pub(crate) fn commit_grant", "record_size(header.len as usize) == record_size(granted)", "true",
     "a shortened grant returns a window that it overwrote"),
    (AHEAD, "fn zeroed", "end.wrapping_sub(size.wrapping_add(8))", "end", "a refill is due only behind the window"),
    (SPSC, "pub(crate) fn stage", "batch.ahead.refill(&self.shared, self.head, next, size);",
     "batch.ahead.refill(&self.shared, self.head, next.wrapping_add(24), size);", "a batch's window begins behind its tail"),
    (SPSC, "fn fits", "level <= self.shared.capacity", "level <= self.shared.capacity + SUCCESSOR",
     "no room is kept for the next header"),
    (SPSC, "fn finish", "(header.commit_word(), tail.wrapping_add(size))",
     "{ self.shared.word(tail).store(header.commit_word(), Ordering::Release);"
     " (header.commit_word(), tail.wrapping_add(size)) }",
     "a batch shows its frames one by one"),
    (SPSC, "fn show", "taken.store(end, Ordering::Relaxed);", ";", "frames shown to the consumer are not recorded"),
    (SPSC, "fn show", "is_before(self.shown, end)", "true", "the record of what was shown moves back"),
    (SPSC, "pub(crate) fn hand_back", "self.shared.taken().store(self.shown, Ordering::Relaxed);", ";",
     "an orderly end leaves the record of what was shown"),
    (SPSC, "pub(crate) fn hand_back", "later(self.released, self.redelivered_before)", "self.released",
     "an orderly end erases the record of what a dead predecessor was shown"),
    (SPSC, "pub(crate) fn stage", "batch.tail = next;", "{ batch.tail = next; self.tail = next; }", "an aborted batch moves the producer's tail"),
    (LATEST, "pub(crate) fn fill", "self.shared.mark(slot).store(version, Ordering::Relaxed);", ";",
     "a slot is not marked before it is overwritten"),
    (LATEST, "pub(crate) fn fill", "self.shared.head(cell).load(Ordering::Relaxed).wrapping_add(1)",
     "self.shared.head(cell).load(Ordering::Relaxed).wrapping_add(2)", "the newest value is overwritten"),
    (LATEST, "pub(crate) fn copy", "mark == version", "true", "a copy is not validated"),
    (MPMC, "fn claim_behind", "position = self.behind_claims(position, seen)?", "return Err(Stop::Full)",
     "producers do not skip a claim that the tail does not cover"),
    (MPMC, "fn behind_claims", "self.laps_later(position, laps).wrapping_add(1)", "position.wrapping_add(2)",
     "producers skip a position that was not claimed"),
    (MPMC, "fn claim_at", "self.tail().store(position.wrapping_add(1), Ordering::Release);",
     "self.tail().store(position.wrapping_add(2), Ordering::Release);", "the tail leads"),
    (MPMC, "fn find_free", "free.store(position.wrapping_add(count), Ordering::Release)",
     "free.store(position.wrapping_add(count + 1), Ordering::Release)", "a slot that was not checked is remembered as free"),
    (MPMC, "fn find_free", "first % group == 0", "true", "producers look at a whole group from its middle on"),
    (MPMC, "fn claim_at", "!self.find_free(position, free)", "false",
     "a slot is claimed before it is free"),
    (MPMC, "fn skip_before", "self.skip(slot, before(lap));", ";", "a producer claims a void slot without freeing it"),
    (MPMC, "fn behind_finished", "self.skip(self.split(position).0, lap);", ";", "consumers do not free a void slot"),
    (MPMC, "fn next_ready", "position = position.wrapping_add(1);", "return Err(Stop::Empty);",
     "consumers do not skip positions that the head does not cover"),
    (MPMC, "fn behind_finished", "self.laps_later(position, laps - 1)", "self.laps_later(position, laps)",
     "consumers skip to the newest frame"),
    (MPMC, "fn take_at", "self.head().store(position.wrapping_add(1), Ordering::Relaxed);",
     "self.head().store(position.wrapping_add(2), Ordering::Relaxed);", "the head leads"),
    (MPMC, "pub(crate) fn commit(", "second.store(header.tail_word().to_le(), Ordering::Relaxed);",
     "{ self.commit_word_at(claim.offset).store(CommitWord::ready(claim.lap).0,"
     " Ordering::Release); second.store(header.tail_word().to_le(), Ordering::Relaxed); }", "READY before the header is whole"),
    (MPMC, "fn take_at", "self.head().store(position.wrapping_add(1), Ordering::Relaxed);",
     "{ self.read_word(slot).store(ReadWord::released(lap).0, Ordering::Release);"
     " self.head().store(position.wrapping_add(1), Ordering::Relaxed); }", "a slot is free before its frame is read"),
    (MPMC, "fn touch_next", "self.data.touch(first)", "self.data.touch(first + 8)", "a payload is touched"),
    (MPMC, "fn touch_next", "self.data.touch(first)", "self.data.touch(first - 8)", "a header is touched"),
    (RECOVERY, "pub(crate) fn sweep", "word.compare_exchange(read.0, next.0, Ordering::Release, Ordering::Relaxed).is_ok()",
     "{ word.store(next.0, Ordering::Release); true }", "a frame is recovered by a plain store"),
    (RECOVERY, "fn void", "word.compare_exchange(seen.0, void, Ordering::Release, Ordering::Relaxed).is_ok()",
     "{ word.store(void, Ordering::Release); true }", "a claim is voided by a plain store"),
    (RECOVERY, "pub(crate) fn sweep", "is_still_dead()", "true", "a claim is voided although its id was reissued"),
    (RECOVERY, "pub(crate) fn sweep", "read.owner() == id && is_still_dead()", "read.owner() == id",
     "a frame is recovered although its id was reissued"),
    (RECOVERY, "pub(crate) fn take_redelivered", "header.flags = header.flags | Flags::REDELIVERED;", ";",
     "a redelivered frame is not marked"),
    (RECOVERY, "pub(crate) fn sweep", "again || total.redeliver > 0", "total.redeliver > 0",
     "redeliveries of a killed recoverer are not announced"),
    (RECOVERY, "pub(crate) fn sweep", "self.redelivery_count().fetch_add(1, Ordering::Release);", ";",
     "redeliveries are not announced"),
    (EC, "impl Sleep for One", "ready()", "false", "One: no second check after arming"),
    (EC, "impl Sleep for Many", "ready()", "false", "Many: no second check after registering"),
    (EC, "impl One", "self.0.recheck(u32::MAX) && self.0.word().swap(0, Relaxed) != 0",
     "{ if self.0.recheck(u32::MAX) { futex::wake(self.0.word(), ALL); self.0.word().swap(0, Relaxed); } false }",
     "One: wake before clear"),
    (EC, "fn register", "(seen & !REGISTRATIONS) | (seen.wrapping_add(2) & REGISTRATIONS) | 1", "seen | 1", "Many: registering does not change the word"),
    (EC, "impl Many", "word.fetch_add(WAKE_UP, Relaxed).wrapping_add(WAKE_UP)", "word.load(Relaxed)", "Many: notifying does not change the word"),
    (EC, "impl Many", "let _ = word.compare_exchange(mine, mine & !1, Relaxed, Relaxed);", "word.fetch_and(!1, Relaxed);",
     "Many: the flag is cleared despite new registrations"),
    (EC, "impl Many", "futex::wake(word, count) < count", "{ futex::wake(word, count); true }",
     "Many: the flag is cleared though enough were woken"),
    (SEM, "fn release", "self.freed.notify(1);", ";", "a released permit wakes no waiter"),
    (SEM, "fn recover", "self.freed.notify(u32::try_from(freed).unwrap_or(super::eventcount::ALL));", ";",
     "a recovered permit wakes no waiter"),
    (MUTEX, "fn try_lock", "if self.slept.get() { WAITERS } else { 0 }", "0", "a woken waiter forgets the other sleepers"),
    (MUTEX, "fn recover", "self.pass_on(seen);", ";", "recovery wakes no waiter"),
    (MUTEX, "compare_exchange_weak(seen, OWNER_DIED", "OWNER_DIED", "0", "recovery does not report the death"),
    (MUTEX, "fn pass_on", "self.released.notify(1);", ";", "an unlock wakes no set"),
    (COUNT, "fn post", "self.posted.notify(n);", ";", "a post wakes no waiter"),
    (COUNT, "fn post", "self.posted.notify(n);", "self.posted.notify(1);", "a post of several wakes one waiter"),
    (COUNT, "fn post", "seen.checked_add(n).filter(|next| *next <= MAX)", "seen.checked_add(n)", "a post goes beyond the maximum"),
    (COUNT, "fn try_wait", "self.word().compare_exchange_weak(seen, seen - 1, Acquire, Relaxed)",
     "Ok::<u32, u32>(self.word().swap(seen - 1, Acquire))", "two waiters take one post"),
    (TYPE, "pub(crate) fn agree", "found != fingerprint", "false", "a participant agrees with every type"),
    (TYPE, "pub(crate) fn agree", "self.area.store_words(TEXT, text);", ";", "the text of a type is not written"),
    (TYPE, "pub(crate) fn agree", "return false;", "", "the text of another type is written"),
    (EVENT, "fn set", "self.changed.notify(ALL);", ";", "a set wakes no waiter"),
    (EVENT, "fn set", "self.changed.notify(ALL);", "self.changed.notify(1);", "a set wakes one waiter"),
    (EVENT, "fn set", "self.word().fetch_or(SET, Release);",
     "if self.word().load(Relaxed) & SET == 0 { self.word().fetch_or(SET, Release); }", "a set of a set flag writes nothing"),
    (EVENT, "fn set", "self.word().fetch_or(SET, Release);",
     "if self.word().fetch_or(SET, Release) & SET != 0 { return; }", "a set of a set flag wakes no waiter"),
    (EVENT, "fn reset", "seen.wrapping_add(1)", "seen & !SET", "a reset is not counted"),
    (EVENT, "fn reset", "self.word().compare_exchange(seen, seen.wrapping_add(1), Acquire, Relaxed).is_ok()",
     "{ self.word().fetch_add(1, Acquire); true }", "a reset sets what another one has reset"),
    (TABLE, "Some(State::Live | State::Dead) | None", "recover(id);", ";", "an id is reissued without a sweep"),
    (TABLE, "Some(State::Live | State::Dead) | None", "recover(id);",
     "if let Some(role) = role { self.lifecycle.note_death(role, ticket); self.free(id); } recover(id);",
     "an id is freed before the sweep"),
    (TABLE, "pub(crate) fn leave", "self.free(id);", "locks.unlock(u64::from(id))?; self.free(id);",
     "a leaver unlocks before it frees its record"),
    (TABLE, "pub(crate) fn is_dead", "!locks.is_locked(u64::from(id))? && self.word(id).load(Ordering::Relaxed) == before",
     "!locks.is_locked(u64::from(id))?", "a death is reported without a second check of the record"),
    (TABLE, "fn free", "self.lifecycle.announce();", ";", "an end is not announced"),
    (LIFE, "pub(crate) fn ended", "again == ends", "true", "an end is reported without a second reading"),
]

# Mutants that may pass all models: a part of the name → the reason.
COPIES = "orders an observer's copies before its second check; in models a copy is no atomic access, and a race fails at once"
EPOCHS = ("a second safeguard: who takes a lane late gets the order it lacks from the fence of its walk; and only the owner, or "
          "who holds its lock when it is dead, ends its hold")
EXPLAINED = {
    "mpsc/layout.rs: the next owner of a lane has the epoch of the last": EPOCHS,
    "spsc/layout.rs `walk` SYNC(copied): fence dropped": COPIES,
    "mpmc/inspect.rs `is_still_claimed` SYNC(copied): fence dropped": COPIES,
}


def body(path):
    """The part of a source file that models compile: everything before its unit tests."""
    return (ROOT / path).read_text().split("\n#[cfg(all(test")[0]


def orderings(path, text):
    """(start, end, weaker, name) for every ordering in code that is not Relaxed, and every fence."""
    weaker = {"Acquire": ["Relaxed"], "Release": ["Relaxed"], "AcqRel": ["Acquire", "Release"], "SeqCst": ["AcqRel"]}
    code = re.sub(r"//[^\n]*|^use [^\n]*", lambda m: " " * len(m.group()), text, flags=re.M)
    code = re.sub(r"compiler_fence\([^)]*\)", lambda m: " " * len(m.group()), code)
    for m in re.finditer(r"\bfence\((?:Ordering::)?(?:Acquire|Release|AcqRel|SeqCst)\)", code):
        yield m.start(), m.end(), "()", f"{where(path, text, m.start())}: fence dropped"
    for m in re.finditer(r"\b(Ordering::)?(Acquire|Release|AcqRel|SeqCst)\b", code):
        for weak in weaker[m.group(2)]:
            if weak == "Relaxed" and code.endswith("fence(", 0, m.start()):
                continue  # there is no relaxed fence
            yield m.start(), m.end(), (m.group(1) or "") + weak, f"{where(path, text, m.start())}: {m.group(2)} → {weak}"


def where(path, text, at):
    """file, function, and the name of the pairing that the nearest comment above gives."""
    before = text[:at]
    function = re.findall(r"\bfn (\w+)", before)[-1]
    line = before.count("\n")
    near = [said for said in text.split("\n")[max(0, line - 4):line + 1] if "// SYNC(" in said]
    sync = re.findall(r"SYNC\([^)]*\)", near[-1])[:1] if near else []
    return " ".join([short(path), f"`{function}`", *sync])


def short(path):
    return path.removeprefix("src/").removeprefix("ring/").removeprefix("wait/").removeprefix("segment/")


def broken(rule):
    """A rule as a mutant: (path, start, end, replacement, name)."""
    path, anchor, exact, weak, name = rule
    text = body(path)
    begin = text.find(anchor)
    end = text.find("\n}\n", begin) if anchor.startswith("impl ") else text.find("fn ", text.find("fn ", begin) + 3)
    at = text.find(exact, begin, end if end >= 0 else len(text))
    if begin < 0 or at < 0:
        sys.exit(f"{path} has changed: {name}: {exact if begin >= 0 else anchor}")
    return path, at, at + len(exact), weak, f"{short(path)}: {name}"


def mutants():
    """Every mutant: (path, start, end, replacement, name)."""
    for path in {rule[0] for rule in RULES} - FILES.keys():
        sys.exit(f"no models are named for {path}")
    for path in sorted(str(file.relative_to(ROOT)) for part in ("ring", "wait", "segment") for file in (ROOT / "src" / part).rglob("*.rs")):
        if path not in FILES and path not in WITHOUT_MODELS and "/tests" not in path and [*orderings(path, body(path))]:
            sys.exit(f"{path} has orderings; name its models in FILES, or it in WITHOUT_MODELS")
    for path in FILES:
        text = body(path)
        yield from (broken(rule) for rule in RULES if rule[0] == path)
        yield from ((path, *ordering) for ordering in orderings(path, text))


def render(text, start, end, edits):
    """`text[start:end]` with every edit in it behind its switch, inner ones inside outer ones."""
    out, at = "", start
    edits = sorted(edits, key=lambda e: (e[0], -e[1]))
    while edits:
        first = edits[0]
        same = [e for e in edits if e[:2] == first[:2]]
        inner = [e for e in edits if e not in same and first[0] <= e[0] and e[1] <= first[1]]
        edits = [e for e in edits if e not in same and e not in inner]
        exact = render(text, first[0], first[1], inner)
        statement = exact.rstrip().endswith(";")
        for _, _, weak, number in same:
            exact = f"if crate::sync::mutant({number}) {{ {weak} }} else {{ {exact} }}"
        out += text[at:first[0]] + (exact if statement else f"({exact})")
        at = first[1]
    return out + text[at:end]


def copy_sources(copy, edits):
    """A copy of the workspace with every edit (path, start, end, replacement, number of its switch) behind its switch."""
    shutil.rmtree(copy, ignore_errors=True)
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in files.stdout.split("\n"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    for path in {path for path, *_ in edits}:
        text = (ROOT / path).read_text()
        (copy / path).write_text(render(text, 0, len(text), [edit for p, *edit in edits if p == path]))
    with open(copy / "src/sync.rs", "a") as sync:
        sync.write("""
/// Whether mutant `id` is switched on.
pub(crate) fn mutant(id: u32) -> bool {
    static ACTIVE: std::sync::OnceLock<Option<u32>> = std::sync::OnceLock::new();
    *ACTIVE.get_or_init(|| std::env::var("SLIPRING_MUTANT").ok()?.parse().ok()) == Some(id)
}
""")


def build(all_mutants):
    """Compiles the models with every mutant behind its switch; returns the test binary."""
    copy = WORK / "sources"
    copy_sources(copy, [(*mutant[:4], number) for number, mutant in enumerate(all_mutants)])
    return compile(copy, ["-p", "slipring-loom-tests", "--profile", "full"], "slipring_loom_tests")


def compile(copy, arguments, target):
    """Compiles tests of a copy, and returns the executable of `target`."""
    command = ["cargo", "test", "-j2", *arguments, "--no-run", "--message-format=json"]
    environment = dict(os.environ, CARGO_TARGET_DIR=str(WORK / "build"), RUSTFLAGS="-Awarnings")
    built = subprocess.run(command, cwd=copy, env=environment, stdout=subprocess.PIPE, text=True)
    messages = [json.loads(line) for line in built.stdout.split("\n") if line.startswith("{")]
    if built.returncode != 0:
        sys.exit("\n".join(m["message"]["rendered"] for m in messages if m["reason"] == "compiler-message"))
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == target)


def run(binary, model, mutant, seconds):
    """'passed', 'caught' or 'timeout'; and how many seconds it took."""
    start = time.monotonic()
    environment = dict(os.environ, SLIPRING_TESTS="full", SLIPRING_MUTANT=str(mutant))
    try:
        done = subprocess.run([binary, "--exact", model], env=environment, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return "timeout", seconds
    return "passed" if done.returncode == 0 else "caught", time.monotonic() - start


def judge(binary, models, mutant, pool, took):
    """{model: outcome}: of all that are quick without a mutant; then of the others, the quickest first, until one fails."""
    outcomes = {}
    ask = lambda model: run(binary, model, mutant, 60 + SLACK * took[model])[0]
    slow = sorted((m for m in models if took[m] > SLOW), key=took.get)
    for group in ([m for m in models if took[m] <= SLOW], *(slow[i:i + 2] for i in range(0, len(slow), 2))):
        if "caught" not in outcomes.values():
            outcomes |= dict(zip(group, pool.map(ask, group)))
    return outcomes


def few(models):
    """Some of the models, in Markdown."""
    return ", ".join(f"`{model}`" for model in models[:3]) + (f" and {len(models) - 3} more" if models[3:] else "")


def main():
    if any(argument.startswith("-") for argument in sys.argv[1:]):
        sys.exit(__doc__)
    all_mutants = list(mutants())
    if unknown := [part for part in sys.argv[1:] if not any(part in mutant[4] for mutant in all_mutants)]:
        sys.exit(f"no mutant has {unknown} in its name")
    asked = [(number, *mutant) for number, mutant in enumerate(all_mutants)
             if not sys.argv[1:] or any(part in mutant[4] for part in sys.argv[1:])]
    binary = build(all_mutants)
    listed = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout
    models = re.findall(r"^(\S+): test$", listed, re.M)
    if unknown := {prefix for prefixes in FILES.values() for prefix in prefixes if not any(m.startswith(prefix) for m in models)}:
        sys.exit(f"no model is named {unknown}")
    tests = lambda path: [model for model in models if any(model.startswith(prefix) for prefix in FILES[path])]
    used = {model for _, path, *_ in asked for model in tests(path)}
    wrong = 0
    with ThreadPoolExecutor(2) as pool:
        # The control: with every switch off, every model that is used must pass.
        sound = dict(zip(used, pool.map(lambda model: run(binary, model, "none", CONTROL), used)))
    if failing := [f"{model}: {outcome}" for model, (outcome, _) in sound.items() if outcome != "passed"]:
        sys.exit("without any mutant: " + ", ".join(failing))
    took = {model: seconds for model, (_, seconds) in sound.items()}
    print("| weakened | caught by |\n|---|---|", flush=True)
    with ThreadPoolExecutor(2) as pool:
        for number, path, start, _, _, name in asked:
            outcomes = judge(binary, tests(path), number, pool, took)
            caught = [model.split("::")[-1] for model, outcome in outcomes.items() if outcome == "caught"]
            late = [model for model, outcome in outcomes.items() if outcome == "timeout"]
            reason = next((why for part, why in EXPLAINED.items() if part in name), None)
            line = body(path)[:start].count("\n") + 1
            verdict = few(caught) if caught else f"no model: {reason}" if reason else f"**NO MODEL** (line {line})"
            wrong += bool(caught) == bool(reason)
            print(f"| {name} | {verdict}{f' ({len(late)} ran out of time)' if late else ''} |", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
