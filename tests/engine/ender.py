"""A callback that kills its process in the middle of a run, once: not after torchrun has restarted it."""

import os
import signal

from resdet.engine.callbacks import Callback


class Kill(Callback):
    def on_step_end(self, step, values):
        if step == 7 and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
            os.kill(os.getpid(), signal.SIGKILL)
