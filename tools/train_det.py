"""Alias of `resdet train`, for detectors."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # use the checkout even if resdet is not installed

from resdet.cli.process import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
