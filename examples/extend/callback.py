"""A callback that ends a run after some minutes, for the limit of a batch system: `train.callbacks: [minutes]`."""

import time

import resdet

LIMIT = 55.0  # minutes


@resdet.engine.register_callback("minutes")
class Minutes(resdet.engine.Callback):
    """Stops the run, which `--resume` continues, after LIMIT minutes."""

    def on_train_start(self, run):
        self.run, self.started = run, time.monotonic()

    def on_step_end(self, step, values):
        if time.monotonic() - self.started > 60 * LIMIT:
            self.run.stop()

    def on_evaluation_end(self, step, metrics):
        best = self.run.folder / "best.pth"
        print(f"step {step}: {metrics}, the best so far is {best}")
