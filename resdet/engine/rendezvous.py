"""Agreement of all processes on a name for each start of the process group.

When torchrun restarts the processes, its store keeps the addresses of the previous ones under the same keys, and a fast
process could connect to one that has ended. So each start uses separate keys, prefixed with a name that the processes
agree on. TORCHELASTIC_RESTART_COUNT is not suitable: it differs on machines that joined later.
"""

import secrets
import time
from datetime import timedelta

import torch.distributed as dist

POLL = 0.02  # seconds


def meet(store: dist.Store, rank: int, size: int, timeout: float) -> str:
    """Waits until all processes have arrived; returns a name that they share and that no other start has."""
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
    """Sends the name to all processes as they arrive. Replies to keys of a previous start are never read."""
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
