"""`resdet report RUN …`: evaluates the best checkpoint of a run, or compares runs, and writes the report."""

from collections.abc import Sequence
from pathlib import Path

from resdet.errors import ConfigError
from resdet.files.atomic import check_not_inputs, write_json, write_text
from resdet.progress import Activity
from resdet.report.content import to_json, to_markdown
from resdet.report.curves import curves_section
from resdet.report.html import page
from resdet.report.runs import Run, inputs_of, load, names_of, read_run, run_section
from resdet.results.sections import Section
from resdet.tasks import Outputs, tasks

STDOUT = "-"


def report(
    folders: Sequence[str],
    overrides: Sequence[str] = (),
    out: str | None = None,
    json_path: str | None = None,
    markdown: str | None = None,
    precision: float | None = None,
) -> None:
    """Writes the HTML file `out`, by default report.html in the run, or comparison.html in the last of several runs."""
    paths = [Path(folder) for folder in folders]
    runs = [read_run(path, name, overrides) for path, name in zip(paths, names_of(paths))]
    file = out or str(paths[-1] / ("report.html" if len(runs) == 1 else "comparison.html"))
    inputs = [each for run in runs for each in inputs_of(run)]
    outputs = {"--out": file, "--json": json_path, "--markdown": markdown}
    check_not_inputs(outputs, inputs)
    title = " and ".join(run.name for run in runs)
    with Activity("computing the report"):
        sections = report_one(runs[0], outputs, precision) if len(runs) == 1 else compare(runs, outputs, precision)
    write_text(file, page(title, sections))
    write_json(json_path, to_json(title, sections))
    if markdown == STDOUT:
        print(to_markdown(title, sections), end="")
        return
    if markdown:
        write_text(markdown, to_markdown(title, sections))
    print(file)


def report_one(run: Run, outputs: Outputs, precision: float | None) -> list[Section]:
    sections = tasks[run.experiment.task].report(load(run, outputs), precision)
    return [*sections[:1], curves_section([run]), *sections[1:], run_section(run)]


def compare(runs: Sequence[Run], outputs: Outputs, precision: float | None) -> list[Section]:
    names = {run.experiment.task for run in runs}
    if len(names) > 1:
        raise ConfigError(f"The runs are of the tasks {' and '.join(sorted(names))}: give runs of one task.")
    (task,) = names
    return [*tasks[task].compare([load(run, outputs) for run in runs], precision), curves_section(runs)]
