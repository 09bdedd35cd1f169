"""`resdet data check`: prints the summary, and writes the page and the cleaned copy."""

from pathlib import Path
from typing import Any

from resdet.data import output_folder
from resdet.detection.check.fix import LOG, write_fixed
from resdet.detection.check.page import page
from resdet.detection.check.report import Depth, check_config
from resdet.detection.check.text import summary
from resdet.detection.config import DetectionExperiment
from resdet.detection.data.config import AutoConfig
from resdet.errors import number_of
from resdet.files.atomic import write_text
from resdet.progress import Activity
from resdet.tasks import CheckOptions


def run_check(experiment: DetectionExperiment, options: CheckOptions) -> dict[str, Any]:
    """Returns the findings as a dict for JSON, with the number of changes in a cleaned copy."""
    if options.fix:
        output_folder.check_target(options.fix, *_searched(experiment))
    with Activity("checking the data"):
        report = check_config(experiment, Depth(options.near_duplicates, options.decode))
    print(summary(report))
    content = report.to_dict()
    if options.html:
        with Activity("drawing the page"):
            write_text(options.html, page(report))
        print(f"page: {options.html}")
    if options.fix:
        folder = Path(options.fix)
        content["changes"] = write_fixed(report, folder)
        print(f"{number_of(content['changes'], 'change')}, listed in {folder / LOG}; the cleaned copy is in {folder}")
        print(f"train on it with --config custom.yaml data.root={folder}")
    elif content["findings"] and not options.html:
        print("--html FILE shows pictures, --json FILE lists all findings")
    return content


def _searched(experiment: DetectionExperiment) -> list[str]:
    """Returns the folder that is listed completely to find the data, if any."""
    data = experiment.data
    return [data.root] if isinstance(data, AutoConfig) and not data.named else []
