"""The meeting of the processes of one start.

torchrun keeps its store when it restarts the processes, with the addresses of the former ones under the same names:
a process that is faster than another would connect to one that has ended. So each start has keys of its own, with a
name that the processes agree on; TORCHELASTIC_RESTART_COUNT differs between machines when one has joined later.
"""

import secrets
import time
from datetime import timedelta

import torch.distributed as dist

POLL = 0.02  # seconds


def meet(store: dist.Store, rank: int, size: int, timeout: float) -> str:
    """A name of this start, the same in all its processes and in no other start; waits until all have arrived."""
    token = secrets.token_hex(8)
    if rank == 0:
        receive(store, token, size, timeout)
        return token
    store.set(f"arrived/{rank}", token)
    store.wait([f"name/{token}"], timedelta(seconds=timeout))
    name = store.get(f"name/{token}").decode()
    store.set(f"joined/{name}/{rank}", "")
    return name


def receive(store: dist.Store, name: str, size: int, timeout: float) -> None:
    """Answers all that arrive with the name. A key of a former start gets an answer that nobody reads."""
    deadline = time.monotonic() + timeout
    missing = list(range(1, size))
    while missing:
        for rank in missing:
            if store.check([f"arrived/{rank}"]):
                store.set(f"name/{store.get(f'arrived/{rank}').decode()}", name)
        missing = [rank for rank in missing if not store.check([f"joined/{name}/{rank}"])]
        if missing and time.monotonic() > deadline:
            raise dist.DistStoreError(f"process {missing[0]} did not arrive in {timeout:g} seconds")
        time.sleep(POLL)
