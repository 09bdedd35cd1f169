"""A logger that writes a Markdown file, selected by `train.loggers: [markdown]`."""

import resdet


@resdet.engine.register_logger("markdown")
class Markdown:
    """Writes a line per evaluation to RUN/metrics.md."""

    def open(self, run):
        self.path = run.folder / "metrics.md"
        if not run.step:  # a resumed run appends
            self.path.write_text(f"# {run.experiment['name']}, {run.total} steps\n\n")

    def metrics(self, step, kind, values):
        if kind == "val":
            text = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            with self.path.open("a") as file:
                file.write(f"- step {step}: {text}\n")

    def images(self, step, images):  # {name: uint8 [H, W, 3]}
        pass

    def close(self, complete):
        with self.path.open("a") as file:
            file.write("\nComplete.\n" if complete else "\nStopped.\n")
