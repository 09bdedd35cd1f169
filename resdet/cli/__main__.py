"""`python -m resdet.cli`, as torchrun starts it."""

import sys

from resdet.cli.process import main

if __name__ == "__main__":
    sys.exit(main())
