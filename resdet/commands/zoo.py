"""`resdet zoo`: lists the published models that `resdet.load` accepts by name."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from resdet.commands.columns import aligned
from resdet.errors import ConfigError
from resdet.files.atomic import write_json
from resdet.weights.zoo_entries import Entry, entries

PAGE = """# Published models

This page lists the published models whose names `resdet.load`, `--weights`, `--init`, `model.pretrained`,
`resdet convert` and `resdet export` accept. A file is downloaded once from its publisher, verified by the part of the
checksum in its name, and kept in `~/.cache/resdet`. [weights.md](weights.md#published-models-by-name) describes
mirrors, and use without a network. `resdet zoo --markdown` writes this page.

Published metrics (in percent) and sizes come from torchvision's metadata and from detectron2's MODEL_ZOO.md. Licenses
come from LICENSE and README in torchvision's repository, and from MODEL_ZOO.md. "Measured" is the metric that resdet
computes with these weights on this data.

"""


def zoo(
    words: Sequence[str] = (), task: str | None = None, markdown: bool = False, json_path: str | None = None
) -> None:
    """Prints the models of the task whose names contain all words, as a table or as the Markdown page."""
    models = entries(" ".join(words), task)
    if not models:
        raise ConfigError(f"No published model matches {' '.join(words)!r}: use fewer words, or none to list all.")
    if markdown:
        print(PAGE + "\n".join(markdown_table(models)))
    else:
        print("\n".join(aligned([cells(entry) for entry in models], right=("MiB",))))
        print(f"models: {len(models)}, measured here: {sum(bool(entry.measured) for entry in models)}")
    write_json(json_path, [asdict(entry) for entry in models])


def cells(entry: Entry) -> dict[str, str]:
    """Returns {column head: cell} of the printed table."""
    return {
        "name": entry.name,
        "published": listed(entry.published),
        "on": entry.data,
        "MiB": f"{entry.size:.0f}" if entry.size else "-",
        "license": entry.license.partition(";")[0],
    }


def markdown_table(models: Sequence[Entry]) -> list[str]:
    head = ("name", "data", "published", "measured", "MiB", "license", "file", "checksum")
    rows = [
        (
            f"`{entry.name}`",
            entry.data,
            listed(entry.published),
            listed(entry.measured) if entry.measured else "not measured here",
            f"{entry.size:.1f}" if entry.size else "not published",
            entry.license,
            f"[{entry.file}]({entry.url})",
            entry.checksum,
        )
        for entry in models
    ]
    return [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]


def listed(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in metrics.items())
