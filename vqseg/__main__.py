"""``python -m vqseg`` is the ``vqseg`` command."""

import sys

from vqseg.cli import main

if __name__ == "__main__":  # the processes of a cohort import this module, too
    sys.exit(main())
