"""Tables of the outcomes and lists of the distinct failures."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from fuzz.runner import BAD, GOOD, Outcome


@dataclass
class Failure:
    """A distinct failure with the seeds of all its cases."""

    kind: str
    status: str
    what: str
    where: str
    message: str  # of the first case
    trace: str
    seeds: list[int]

    @property
    def command(self) -> str:
        return f"python -m fuzz {self.kind} --seed {self.seeds[0]} --count 1"


def failures(outcomes: Iterable[Outcome]) -> list[Failure]:
    """Groups failures by kind, status, exception and innermost frame, the most frequent first."""
    found: dict[tuple, Failure] = {}
    for outcome in outcomes:
        if outcome.bad:
            key = (outcome.kind, outcome.status, outcome.what, outcome.where)
            if key not in found:
                found[key] = Failure(*key, outcome.message, outcome.trace, [])
            found[key].seeds.append(outcome.seed)
    return sorted(found.values(), key=lambda failure: (failure.kind, -len(failure.seeds), failure.where))


def table(outcomes: Iterable[Outcome]) -> str:
    """Returns a Markdown table with a row per kind: counts of outcomes, peak memory, mean and largest CPU time."""
    outcomes = list(outcomes)
    kinds = list(dict.fromkeys(outcome.kind for outcome in outcomes))
    lines = [
        f"| kind | cases | {' | '.join(GOOD + BAD)} | distinct failures | peak MB | CPU s, mean | most |",
        "|---" * (len(GOOD + BAD) + 6) + "|",
    ]
    for kind in kinds:
        mine = [outcome for outcome in outcomes if outcome.kind == kind]
        counts = Counter(outcome.status for outcome in mine)
        cells = [kind, len(mine), *(counts[status] for status in GOOD + BAD), len(failures(mine))]
        spent = [outcome.cpu for outcome in mine]
        cells += [max(outcome.peak for outcome in mine), f"{sum(spent) / len(spent):.2f}", f"{max(spent):.1f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def listing(found: Iterable[Failure]) -> str:
    lines = []
    for failure in found:
        message = failure.message.replace("\n", " ")[:160]
        lines.append(f"{failure.kind}: {len(failure.seeds)} × {failure.status} {failure.what} in {failure.where}")
        lines.append(f"    {message}\n    {failure.command}")
    return "\n".join(lines)


def content(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Returns the content of the file for `--json`."""
    outcomes = list(outcomes)
    counts: dict[str, Counter] = {}
    for outcome in outcomes:
        counts.setdefault(outcome.kind, Counter())[outcome.status] += 1
    return {"counts": counts, "failures": [asdict(failure) for failure in failures(outcomes)]}
