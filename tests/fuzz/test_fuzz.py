"""Checks that damaged input ends in success, a counted skip or a resdet.Error; `make fuzz` runs more cases."""

from pathlib import Path

import pytest
from fuzz.cases import KINDS
from fuzz.formats import FORMATS
from fuzz.report import failures, listing
from fuzz.runner import Child

COUNT = 40  # cases per kind
COUNTS = {"formats": 30 * len(FORMATS)}

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to watch a process")


@pytest.fixture(scope="module")
def child():
    with Child(KINDS) as child:
        yield child


@pytest.mark.parametrize("kind", KINDS)
def test_no_crash_no_hang_and_bounded_memory(child, kind):
    outcomes = [child.run(kind, seed) for seed in range(COUNTS.get(kind, COUNT))]
    assert not (found := failures(outcomes)), f"\n{listing(found)}"
    assert any(outcome.status == "ok" for outcome in outcomes), "no case got anywhere"
