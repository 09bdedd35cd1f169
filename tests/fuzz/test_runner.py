"""Checks that the runner detects and names every kind of failure and continues with the next case."""

import random
from pathlib import Path

import pytest
from fuzz import failing
from fuzz.cases import KINDS, make_case
from fuzz.report import content, failures, table
from fuzz.runner import Child, Limits

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to watch a process")

EXPECTED = {
    "ok": ("ok", "", ""),
    "skipped": ("skipped", "", ""),
    "error": ("error", "", ""),
    "sentence": ("sentence", "Verbatim", "failing.py refuse"),
    "lines": ("sentence", "Verbatim", "failing.py refuse"),
    "traceback": ("traceback", "KeyError", "failing.py run_case"),
    "inner": ("traceback", "TypeError", "errors.py spelled"),
    "hang": ("hang", "hang", "failing.py run_case"),
    "asleep": ("hang", "hang", "failing.py run_case"),
    "memory": ("memory", "memory", ""),
    "hidden": ("memory", "DataError", "failing.py allocate"),
    "crash": ("crash", "SIGSEGV", ""),
    "exit": ("traceback", "SystemExit", "failing.py run_case"),
}


def seed_of(way: str) -> int:
    return next(seed for seed in range(10_000) if make_case("failing", seed).options["way"] == way)


@pytest.fixture(scope="module")
def child():
    with Child(["failing"], Limits()) as child:
        yield child


@pytest.mark.parametrize("way", failing.WAYS)
def test_the_outcome_of_a_case(child, way):
    shorter = {"hang": {"cpu": 0.3}, "asleep": {"idle": 0.5}}
    child.limits = Limits(**{"cpu": 60, "memory": 512} | shorter.get(way, {}))
    outcome = child.run("failing", seed_of(way))
    status, what, where = EXPECTED[way]
    assert (outcome.status, outcome.what) == (status, what)
    assert where in outcome.where
    assert outcome.bad == bool(what)
    child.limits = Limits()
    assert child.run("failing", seed_of("ok")).status == "ok"


def test_a_failure_is_listed_once(child):
    child.limits = Limits()
    outcomes = [child.run("failing", seed_of(way)) for way in ("ok", "traceback", "sentence", "traceback")]
    (first, second) = failures(outcomes)
    assert {first.what: len(first.seeds), second.what: len(second.seeds)} == {"KeyError": 2, "Verbatim": 1}
    assert first.command == f"python -m fuzz failing --seed {seed_of('traceback')} --count 1"
    assert content(outcomes)["counts"] == {"failing": {"ok": 1, "traceback": 2, "sentence": 1}}
    assert "| failing | 4 | 1 | 0 | 0 | 2 | 1 | 0 | 0 | 0 | 2 |" in table(outcomes)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("kind", KINDS)
def test_a_case_depends_on_its_seed_only(kind):
    """Makes the cases in another order and checks that the global state of `random` is unchanged."""
    state = random.getstate()
    cases = [make_case(kind, seed) for seed in range(12)]
    assert all(make_case(kind, seed) == cases[seed] for seed in reversed(range(12)))
    assert random.getstate() == state
    assert len({str(case) for case in cases}) > 9
