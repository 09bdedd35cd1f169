"""Stand-ins for the packages wandb and mlflow that record calls."""

from types import ModuleType, SimpleNamespace


class Wandb(ModuleType):
    """Takes a run's values; `broken` makes `log` fail."""

    def __init__(self):
        super().__init__("wandb")
        self.given, self.logged, self.defined, self.finished, self.broken = [], [], [], [], False
        self.Settings = lambda **settings: settings
        self.Image = lambda pixels: ("image", pixels.shape)

    def init(self, **options):
        self.given.append(options)
        return SimpleNamespace(
            log=self.log,
            define_metric=lambda *words, **options: self.defined.append((words, options)),
            finish=lambda exit_code: self.finished.append(exit_code),
        )

    def log(self, values):
        if self.broken:
            raise ConnectionError("the network is unreachable")
        self.logged.append(values)


class Mlflow(ModuleType):
    """A server in memory: experiments, and the metrics, images and states of runs."""

    def __init__(self):
        super().__init__("mlflow")
        self.experiments, self.runs, self.images, self.files, self.states = {}, {}, [], [], []
        self.MlflowClient = lambda: self
        self.entities = ModuleType("mlflow.entities")
        self.entities.Metric = lambda key, value, timestamp, step: (step, key, value)

    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def create_experiment(self, name):
        self.experiments[name] = SimpleNamespace(experiment_id=f"experiment-{name}")
        return self.experiments[name].experiment_id

    def create_run(self, experiment, run_name):
        number = f"run-{len(self.runs)}"
        self.runs[number] = []
        self.named = experiment, run_name
        return SimpleNamespace(info=SimpleNamespace(run_id=number))

    def update_run(self, number, status):
        assert number in self.runs
        self.states.append(status)

    def log_dict(self, number, content, file):
        self.files.append((number, content, file))

    def log_batch(self, number, metrics):
        self.runs[number] += metrics

    def log_image(self, number, pixels, key, step):
        self.images.append((number, key, step, pixels.shape))

    def set_terminated(self, number, status):
        self.states.append(status)
