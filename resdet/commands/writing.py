"""What commands write at the end of their work."""

import json
from pathlib import Path
from typing import Any, Optional


def write_json(path: Optional[str], content: Any) -> None:
    """The file of `--json`, if one was asked for."""
    if path:
        Path(path).write_text(json.dumps(content, indent=1), encoding="utf-8")
