"""Tests retries of requests that fail temporarily."""

from types import SimpleNamespace

import pytest

from resdet.files import retry


class Passing(Exception): ...


@pytest.fixture
def events(monkeypatch):
    """Records requests and pauses in order."""
    events: list[str | float] = []
    monkeypatch.setattr(retry, "time", SimpleNamespace(sleep=events.append))
    return events


def request_of(events, *outcomes):
    """A request that raises or returns these outcomes in turn."""
    left = iter(outcomes)

    def request():
        events.append("request")
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return request


def is_passing(error: Exception) -> bool:
    return isinstance(error, Passing)


def test_a_request_is_repeated_after_pauses(events):
    assert retry.retry(request_of(events, Passing(), Passing(), 7), is_passing) == 7
    assert events == ["request", 1.0, "request", 3.0, "request"]


def test_the_error_of_the_last_request_is_raised(events):
    with pytest.raises(Passing, match="last"):
        retry.retry(request_of(events, Passing(), Passing(), Passing(), Passing("last")), is_passing)
    assert events == ["request", 1.0, "request", 3.0, "request", 9.0, "request"]


def test_other_errors_are_raised_immediately(events):
    with pytest.raises(ValueError):
        retry.retry(request_of(events, Passing(), ValueError()), is_passing)
    assert events == ["request", 1.0, "request"]
