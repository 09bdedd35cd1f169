"""A callback that kills the process during a run, but not after torchrun has restarted it."""

import os
import signal

from resdet.engine.callbacks import Callback


class Kill(Callback):
    def on_step_end(self, step, values):
        if step == 7 and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
            os.kill(os.getpid(), signal.SIGKILL)
