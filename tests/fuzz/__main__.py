"""Feeds damaged input to resdet; exits with 1 if any case ends in anything but success, a skip or a resdet.Error.

python -m fuzz                                     1,000 cases of each kind
python -m fuzz checkpoints configs --count 10000   cases of the given kinds only
python -m fuzz images --seed 1234 --count 1        one case again, with its traceback
python -m fuzz images --seed 1234 --count 1 --keep DIR --here
                                                   one case in this process, with its files written to DIR
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from fuzz.cases import KINDS, make_case, run_case
from fuzz.child import PACKAGE
from fuzz.report import content, failures, listing, table
from fuzz.runner import Limits, Outcome, run_side_by_side

TOLD = 5  # up to this number of cases, every outcome is printed in full


def main() -> int:
    parsed = parse()
    if parsed.here:
        return run_here(parsed.kinds, parsed.seed, parsed.count, parsed.keep or Path("fuzz-cases"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: reports the cases run so far
    print(f"the resdet under test is {PACKAGE}", file=sys.stderr)
    seeds = range(parsed.seed, parsed.seed + parsed.count)
    limits = Limits(parsed.cpu, memory=parsed.memory)
    outcomes: list[Outcome] = []
    try:
        for kind in parsed.kinds:
            for outcome in watched(run_side_by_side(kind, seeds, parsed.jobs, limits), kind, parsed.count):
                outcomes.append(outcome)
    except KeyboardInterrupt:
        print("interrupted: this is what came before", file=sys.stderr)
    outcomes.sort(key=lambda outcome: (outcome.kind, outcome.seed))
    found = failures(outcomes)
    if parsed.count <= TOLD:
        print("\n".join(f"{o.kind} {o.seed}: {o.status} {o.message}\n{o.trace}" for o in outcomes))
    print(f"{table(outcomes)}\n\n{listing(found)}")
    if parsed.json:
        parsed.json.write_text(json.dumps(content(outcomes), indent=1))
    if parsed.keep:
        for failure in found:
            write(failure.kind, failure.seeds[0], parsed.keep)
    return 1 if found else 0


def watched(outcomes: Iterable[Outcome], kind: str, count: int) -> Iterator[Outcome]:
    """Yields the outcomes and prints the progress about twenty times."""
    started = time.monotonic()
    for number, outcome in enumerate(outcomes, 1):
        yield outcome
        if number % max(1, count // 20) == 0:
            print(f"{kind}: {number} of {count}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--count", type=int, default=1000, help="cases of each kind")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="child processes")
    parser.add_argument("--cpu", type=float, default=Limits.cpu, help="CPU seconds of a case")
    parser.add_argument("--memory", type=int, default=Limits.memory, help="MB of a case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write counts and distinct failures there")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write a case of each distinct failure there")
    parser.add_argument("--here", action="store_true", help="run in this process, without limits")
    parsed = parser.parse_args()
    if unknown := set(parsed.kinds) - set(KINDS):
        parser.error(f"there is no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
    parsed.kinds = parsed.kinds or list(KINDS)
    return parsed


def write(kind: str, seed: int, folder: Path) -> Path:
    """Writes the files of a case to a new folder and returns it."""
    place = folder.resolve() / f"{kind}-{seed}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    case = make_case(kind, seed)
    case.write(place)
    (place / "options.txt").write_text(f"{case.options!r}\n", encoding="utf-8", errors="backslashreplace")
    return place


def run_here(kinds: list[str], seed: int, count: int, folder: Path) -> int:
    """Runs the cases in this process and lets exceptions propagate."""
    for kind in kinds:
        for number in range(seed, seed + count):
            trial = run_case(kind, make_case(kind, number), write(kind, number, folder))
            print(f"{kind} {number}: {[str(error) for error in trial.errors] or 'ok'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
