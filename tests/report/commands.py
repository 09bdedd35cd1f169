"""Runs `resdet report` in the test's process."""

from tasks import runs


def report(*words):
    done = runs.here("report", *words)
    assert done.returncode == 0, done.stderr
    return done
