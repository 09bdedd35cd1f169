"""The child processes of the tests need the limits and signals of POSIX."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("resource") else ["test_*.py"]
