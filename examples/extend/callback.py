"""A callback that stops a run before the time limit of a batch system: `train.callbacks: [minutes]`."""

import time

import resdet

LIMIT = 55.0  # minutes


@resdet.engine.register_callback("minutes")
class Minutes(resdet.engine.Callback):
    """Stops the run after LIMIT minutes; `--resume` continues it."""

    def on_train_start(self, run):
        self.run, self.started = run, time.monotonic()

    def on_step_end(self, step, values):
        if time.monotonic() - self.started > 60 * LIMIT:
            self.run.stop()

    def on_evaluation_end(self, step, metrics):
        best = self.run.folder / "best.pth"
        print(f"step {step}: {metrics}, the best so far is {best}")
