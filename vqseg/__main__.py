"""``python -m vqseg`` is the ``vqseg`` command."""

import sys

from vqseg.cli import main

sys.exit(main())
