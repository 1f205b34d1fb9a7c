#!/usr/bin/env python3
"""Removes, one at a time, the measures that prevent lost wake-ups, and prints how the machine reacts.

    python3 loom-tests/wake_up_mutants.py        (some minutes, most of them the compiler's)

Models have no membarrier, so these mutants (built by mutants.py) are tested on the processor itself:
by the unit test of src/wait/eventcount.rs in which a thread falls asleep while a publication waits in a store buffer. It
counts wake-ups that are late by the first wait, and those that are lost until the cap. On one processor, or beside other
work, there are too few races to see anything: run it alone. Exit code 1 if a wake-up is late without any mutant, or if a
mutant does not have its listed effect.
"""
import os, re, subprocess, sys

import mutants as models

WORK = models.ROOT / "target" / "wake-up-mutants"
models.WORK = WORK  # a build directory of its own
TEST = "wait::eventcount::tests::no_wake_up_is_lost_in_a_store_buffer"

# Name, effect, and the replacements: file, text to search from, text after it, new text.
BARRIER, SEVERAL = "src/wait/barrier.rs", "src/wait/several.rs"
MEMBARRIER = [
    (BARRIER, "fn settle", "!crate::os::membarrier::barrier()", "false"),
    (SEVERAL, "pub(crate) fn pass", "!crate::os::membarrier::barrier()", "false"),
]
FIRST_WAIT = [
    (BARRIER, "fn park", "raised && self.barrier == Barrier::Asymmetric", "false"),
    (SEVERAL, "pub(crate) fn pass", "asymmetric && self.raised && rest > FIRST_WAIT", "false"),
]
RULES = [
    ("the sleeper does not call membarrier", "late", MEMBARRIER),
    ("the same, and its first wait is not bounded", "lost", MEMBARRIER + FIRST_WAIT),
    ("the notifier's fence dropped", "lost", [(BARRIER, "fn recheck", "fence(SeqCst)", "()")]),
    ("the notifier's fence: SeqCst → AcqRel", "lost", [(BARRIER, "fn recheck", "fence(SeqCst)", "fence(AcqRel)")]),
]


def run(binary, mutant):
    """The worst effect over all pairs of barriers that the test reached, and its report for each."""
    environment = dict(os.environ, SLIPRING_MUTANT=mutant)
    done = subprocess.run([binary, "--exact", TEST, "--nocapture"], env=environment, capture_output=True, text=True)
    assert re.search(r"^running 1 test", done.stdout, re.M), done.stdout
    said, worst = [], "well"
    for pair, results in re.findall(r"^(\w+ sleeper, \w+ notifier): (.*)$", done.stdout, re.M):
        counts = re.findall(r"late: (\d+), lost: (\d+), all: (\d+)", results)
        said.append(f"{pair}: " + ", ".join("{} {} late and {} lost of {}".format(kind, *c) for kind, c in zip(["One", "Many", "set"], counts)))
        late, lost = (sum(int(c[i]) for c in counts) for i in (0, 1))
        worst = "lost" if lost or worst == "lost" else "late" if late or worst == "late" else "well"
    assert said and (worst == "lost") == (done.returncode != 0), done.stdout + done.stderr
    return worst, said


def main():
    copy = WORK / "sources"
    edits = [(*models.broken((*rule, name))[:4], number) for number, (name, _, rules) in enumerate(RULES) for rule in rules]
    models.copy_sources(copy, edits)
    binary = models.compile(copy, ["-p", "slipring", "--lib"], "slipring")
    print("| removed | effect on the sleepers |\n|---|---|", flush=True)
    wrong = False
    for number, name, expected in [("none", "nothing", "well"), *((str(n), *rule[:2]) for n, rule in enumerate(RULES))]:
        worst, said = run(binary, number)
        wrong |= worst != expected
        # A failing test stops at the first pair of barriers that loses a wake-up.
        shown = [each for each in said if worst == "well" or re.search(r"[1-9]\d* (late|lost)", each)]
        print(f"| {name} | {worst}: {'; '.join(shown)} |", flush=True)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
