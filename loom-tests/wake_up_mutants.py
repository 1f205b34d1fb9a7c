#!/usr/bin/env python3
"""Takes away, one at a time, what keeps wake-ups from being lost, and says what the machine makes of it.

    python3 loom-tests/wake_up_mutants.py        (some minutes, most of them the compiler's)

Models have no membarrier, so these mutants (mutants.py, whose machinery this uses) are judged on the processor itself:
by the unit test of src/wait/eventcount.rs in which a thread falls asleep while a publication waits in a store buffer. It
counts wake-ups that are late by the first wait, and those that are lost until the cap. On one processor, or beside other
work, there are too few races to see anything: run it alone. Exit code 1 if a wake-up is late without any mutant, or if a
mutant does not do what stands beside it.
"""
import os, re, subprocess, sys

import mutants as models

WORK = models.ROOT / "target" / "wake-up-mutants"
models.WORK = WORK  # a build directory of its own
TEST = "wait::eventcount::tests::no_wake_up_is_lost_in_a_store_buffer"

# What is taken away: name, what then happens, and the replacements: file, text to search from, text after it, new text.
MEMBARRIER = (models.EC, "fn settle", "!crate::os::membarrier::barrier()", "false")
NAP = (models.EC, "fn park", "raised && self.barrier == Barrier::Asymmetric", "false")
RULES = [
    ("the sleeper does not call membarrier", "late", [MEMBARRIER]),
    ("nor does it nap", "lost", [MEMBARRIER, NAP]),
    ("the notifier's fence dropped", "lost", [(models.EC, "fn recheck", "fence(SeqCst)", "()")]),
    ("the notifier's fence: SeqCst → AcqRel", "lost", [(models.EC, "fn recheck", "fence(SeqCst)", "fence(AcqRel)")]),
]


def run(binary, mutant):
    """What became of the sleeps, over all pairs of barriers as far as the test came, and what it said about each."""
    environment = dict(os.environ, SLIPRING_MUTANT=mutant)
    done = subprocess.run([binary, "--exact", TEST, "--nocapture"], env=environment, capture_output=True, text=True)
    assert re.search(r"^running 1 test", done.stdout, re.M), done.stdout
    said, worst = [], "well"
    for pair, results in re.findall(r"^(\w+ sleeper, \w+ notifier): (.*)$", done.stdout, re.M):
        counts = re.findall(r"late: (\d+), lost: (\d+), all: (\d+)", results)
        said.append(f"{pair}: " + ", ".join("{} {} late and {} lost of {}".format(kind, *c) for kind, c in zip(["One", "Many"], counts)))
        late, lost = (sum(int(c[i]) for c in counts) for i in (0, 1))
        worst = "lost" if lost or worst == "lost" else "late" if late or worst == "late" else "well"
    assert said and (worst == "lost") == (done.returncode != 0), done.stdout + done.stderr
    return worst, said


def main():
    copy = WORK / "sources"
    edits = [(*models.broken((*rule, name))[:4], number) for number, (name, _, rules) in enumerate(RULES) for rule in rules]
    models.copy_sources(copy, edits)
    binary = models.compile(copy, ["-p", "slipring", "--lib"], "slipring")
    print("| taken away | became of the sleepers |\n|---|---|", flush=True)
    wrong = False
    for number, name, expected in [("none", "nothing", "well"), *((str(n), *rule[:2]) for n, rule in enumerate(RULES))]:
        worst, said = run(binary, number)
        wrong |= worst != expected
        # A test that fails stops at the first pair of barriers that loses something.
        shown = [each for each in said if worst == "well" or re.search(r"[1-9]\d* (late|lost)", each)]
        print(f"| {name} | {worst}: {'; '.join(shown)} |", flush=True)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
