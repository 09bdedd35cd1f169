"""Entry point of `python -m resdet.cli`, for torchrun."""

import sys

from resdet.cli.process import main

if __name__ == "__main__":
    sys.exit(main())
