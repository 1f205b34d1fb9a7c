#!/usr/bin/env python3
"""Takes away, one at a time, what keeps wake-ups from being lost, and says what the machine makes of it.

    python3 loom-tests/wake_up_mutants.py        (some minutes, most of them the compiler's)

Models have no membarrier, so these mutants (mutants.py, whose machinery this uses) are judged on the processor itself:
by the unit test of src/wait/eventcount.rs that lets somebody fall asleep while a publication waits in a store buffer.
On one processor there is nothing to be seen. Exit code 1 if wake-ups are lost without any mutant, or none with one.
"""
import os, re, subprocess, sys

import mutants as models

WORK = models.ROOT / "target" / "wake-up-mutants"
models.WORK = WORK  # a build directory of its own
TEST = "wait::eventcount::tests::no_wake_up_is_lost_in_a_store_buffer"

# file, text to search from, the exact text after it, what replaces it, name
RULES = [
    (models.EC, "fn settle", "!crate::os::membarrier::barrier()", "false", "the sleeper does not call membarrier"),
    (models.EC, "fn recheck", "fence(SeqCst)", "()", "the notifier's fence dropped"),
    (models.EC, "fn recheck", "fence(SeqCst)", "fence(AcqRel)", "the notifier's fence: SeqCst → AcqRel"),
]


def run(binary, mutant):
    """Whether the test passed, and the pairs of barriers with what was lost, as far as it came."""
    environment = dict(os.environ, SLIPRING_MUTANT=mutant)
    done = subprocess.run([binary, "--exact", TEST, "--nocapture"], env=environment, capture_output=True, text=True)
    assert re.search(r"^running 1 test", done.stdout, re.M), done.stdout
    pairs = re.findall(r"sleeper (\w+), notifier (\w+): lost, of: \[\((\d+), (\d+)\), \((\d+), (\d+)\)\]", done.stdout)
    said = [f"{a} sleeper, {b} notifier: One {lost} of {of}, Many {lost2} of {of2}" for a, b, lost, of, lost2, of2 in pairs]
    return done.returncode == 0, said


def main():
    copy = WORK / "sources"
    models.copy_sources(copy, [(*models.broken(rule)[:4], number) for number, rule in enumerate(RULES)])
    binary = models.compile(copy, ["-p", "slipring", "--lib"], "slipring")
    print("| taken away | lost wake-ups |\n|---|---|", flush=True)
    wrong = False
    for number, name in [("none", "nothing"), *((str(n), rule[-1]) for n, rule in enumerate(RULES))]:
        passed, said = run(binary, number)
        wrong |= passed != (number == "none")
        # A test that fails stops at the first pair of barriers that loses something.
        print(f"| {name} | {'; '.join(said if passed else said[-1:])} |", flush=True)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
