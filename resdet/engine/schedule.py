"""The learning rate of each step (sections 3.4 and 4.2)."""

import math

from resdet.engine.config import ScheduleConfig

STATE = ("holds", "reductions", "waited")


class Schedule:
    """The learning rate as a function of the step, the number of plateaus of the error, and whether the training error
    has fallen below `warmup_until_error`."""

    def __init__(self, config: ScheduleConfig, lr: float, total_steps: int, steps_per_unit: float):
        self.config, self.base, self.total = config, lr, total_steps
        self.milestones = [round(m * steps_per_unit) for m in config.milestones]
        self.warmup = round(config.warmup * steps_per_unit)
        self.holds = config.warmup_until_error is not None  # still at warmup_lr
        self.reductions, self.waited = 0, 0

    def lr(self, step: float) -> float:
        if self.holds:
            return self.config.warmup_lr
        ramp = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.base * ramp * self.factor(step)

    def factor(self, step: float) -> float:
        if self.config.name == "step":
            return self.config.gamma ** sum(step >= milestone for milestone in self.milestones)
        if self.config.name == "plateau":
            return self.config.gamma**self.reductions
        if self.config.name == "cosine":
            progress = max(0, (step - self.warmup) / max(1, self.total - self.warmup))
            return self.config.final + (1 - self.config.final) * (1 + math.cos(math.pi * progress)) / 2
        return 1.0

    def observe_training_error(self, error: float) -> None:
        """Ends the warmup of the 110-layer net: "until the training error is below 80%" (section 4.2)."""
        limit = self.config.warmup_until_error
        if limit is not None and error < limit:
            self.holds = False

    def observe_evaluation(self, improved: bool) -> None:
        """Counts evaluations without improvement; `plateau` reduces the learning rate after `patience` of them."""
        self.waited = 0 if improved else self.waited + 1
        if self.config.name == "plateau" and self.waited >= self.config.patience:
            self.reductions, self.waited = self.reductions + 1, 0

    def state_dict(self) -> dict[str, int]:
        return {key: getattr(self, key) for key in STATE}

    def load_state_dict(self, state: dict[str, int]) -> None:
        for key in STATE:
            setattr(self, key, state[key])
        self.holds = self.holds and self.config.warmup_until_error is not None
