"""Alias of `resdet evaluate`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # use the checkout even if resdet is not installed

from resdet.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
