"""Imports every module of resdet without the modules and functions that Python lacks on Windows.

Prints the modules that fail, then "imported". The dependencies of resdet can still import these modules.
"""

import builtins
import os
import pkgutil
import signal
import sys
from pathlib import Path
from types import ModuleType

# The commonly used part of what Python 3.13's documentation marks as unavailable on Windows.
MISSING_MODULES = {"fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "syslog", "readline", "curses"}
MISSING = {
    "os": (
        "chown fchmod fchown fork forkpty getegid geteuid getgid getpgid getpgrp getuid killpg lchown mkfifo nice "
        "posix_fadvise posix_fallocate posix_spawn pread preadv pwrite sched_getaffinity sched_setaffinity sendfile "
        "setsid statvfs sync uname wait3 O_CLOEXEC O_DIRECT O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC"
    ),
    "signal": "SIGHUP SIGKILL SIGCHLD SIGUSR1 SIGUSR2 SIGALRM SIGQUIT SIGSTOP SIGCONT SIGPIPE alarm setitimer pause",
}
NOT_ON_WINDOWS = {"resdet.interop.detectron2"}  # needs detectron2, which is installed from source


def without(module: ModuleType, names: str) -> ModuleType:
    copy = ModuleType(module.__name__)
    copy.__dict__.update({name: value for name, value in vars(module).items() if name not in names.split()})
    return copy


def main() -> None:
    original = builtins.__import__
    stripped = {module.__name__: without(module, MISSING[module.__name__]) for module in (os, signal)}

    def importing(name, scope=None, local=None, names=(), level=0):
        if not str((scope or {}).get("__name__")).startswith("resdet"):
            return original(name, scope, local, names, level)
        if name in MISSING_MODULES:
            raise ImportError(f"Windows has no {name}")
        return stripped.get(name) or original(name, scope, local, names, level)

    builtins.__import__ = importing
    import resdet

    for module in pkgutil.walk_packages(resdet.__path__, "resdet."):
        if module.name in NOT_ON_WINDOWS:
            continue
        try:
            original(module.name)
        except (ImportError, AttributeError) as error:
            print(f"{module.name}: {error}")
    print("imported")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
