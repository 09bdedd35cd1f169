"""Ignores the tests where the limits and signals of POSIX, which the child processes need, are missing."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("resource") else ["test_*.py"]
