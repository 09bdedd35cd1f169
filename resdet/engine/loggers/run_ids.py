"""The ids of a run at logging services, stored in its folder, so that a resumed run continues there."""

import json
from pathlib import Path

from resdet.files.atomic import write_json

FILE = "run_ids.json"


def load_id(folder: Path, service: str) -> str | None:
    return load_ids(folder).get(service)


def save_id(folder: Path, service: str, name: str) -> None:
    write_json(folder / FILE, load_ids(folder) | {service: name})


def load_ids(folder: Path) -> dict[str, str]:
    path = folder / FILE
    return json.loads(path.read_bytes()) if path.exists() else {}
