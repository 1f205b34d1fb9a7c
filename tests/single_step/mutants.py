#!/usr/bin/env python3
"""Breaks rules of the library, one at a time, and prints what the stepping harness (main.rs) finds for each.

    python3 tests/single_step/mutants.py [part of a name] ...      (a few minutes)

A harness that finds no violation is evidence only if it finds violations in broken code. This program uses the list
of rules and the code of loom-tests/mutants.py: all mutants are compiled at once into a copy of the sources under
target/, each behind a switch; the sources are never changed. The exit code is 1 if the harness finds a violation
without a mutant, or none with one.
"""
import os, pathlib, re, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "loom-tests"))
import mutants as models

WORK = ROOT / "target" / "step-mutants"
models.WORK = WORK  # a build directory of its own
TIMEOUT = 600  # seconds; a run that takes longer hangs, which counts as noticed

# Name of a rule → the operations that must notice. The first rules are in the models' list.
RULES = {
    "the next header is not zeroed": ["spsc try_send three frames", "spsc batch of 3, commit"],
    "a batch shows its frames one by one": ["spsc batch of 3, commit three frames"],
    "frames shown to the consumer are not recorded": ["spsc try_recv three frames"],
    "READY before the header is whole": ["mpmc try_send one frame"],
    "a slot is free before its frame is read": ["mpmc try_recv one frame"],
    "a redelivered frame is not marked": ["mpmc try_recv one frame"],
    "an id is reissued without a sweep": ["mpmc try_send one frame"],
    "recovery does not report the death": ["mutex lock, recovering"],
    "a held lock is granted": ["pause: mpmc try_send", "pause: spsc try_send"],
    "no sleep is capped": ["spsc send, waking", "spsc batch received, waking"],
}
# file, text to search from, the exact text after it, what replaces it, name
OWN = [
    ("src/os/lock.rs", "pub(crate) fn try_lock", "Ok(false)", "Ok(true)", "a held lock is granted"),
    ("src/wait/block.rs", "pub(crate) fn block_on", "deadline.remaining().min(longest_sleep)", "deadline.remaining()", "no sleep is capped"),
]


def run(binary, mutant, filters):
    """(violations, stops, the first violation)"""
    environment = dict(os.environ, SLIPRING_MUTANT=mutant)
    try:
        done = subprocess.run([binary, *filters], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return 1, 0, "a survivor hangs"
    total = re.search(r"^(\d+) of \d+ instructions, \d+ states, (\d+) violations", done.stdout, re.M)
    first = re.search(r"^(.*, stopped after .*)$", done.stdout, re.M) or re.search(r"^(survivors hang.*)$", done.stderr, re.M)
    if not total:
        return 1, 0, first.group(1) if first else f"failed: {done.stderr[-300:]}"
    return int(total.group(2)), int(total.group(1)), first.group(1) if first else ""


def main():
    known = [rule for rule in models.RULES if rule[-1] in RULES] + OWN
    names = list(RULES)
    copy = WORK / "sources"
    # A rule may take several edits: a mutant is all those of one name.
    models.copy_sources(copy, [(*models.broken(rule)[:4], names.index(rule[-1])) for rule in known])
    binary = models.compile(copy, ["-p", "slipring", "--test", "single_step"], "single_step")
    chosen = [name for name in names if not sys.argv[1:] or any(part in name for part in sys.argv[1:])]
    violations, stops, first = run(binary, "none", [part for name in chosen for part in RULES[name]])
    if violations:
        sys.exit(f"without any mutant: {first}")
    print(f"| rule broken | violations | the first of them |\n|---|---:|---|\n| none | 0 of {stops} | |", flush=True)
    missed = 0
    for name in chosen:
        violations, stops, first = run(binary, str(names.index(name)), RULES[name])
        print(f"| {name} | {violations} of {stops} | {first} |", flush=True)
        missed += not violations
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
