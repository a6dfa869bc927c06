"""``python -m mxrec.cli`` is the ``mxrec`` command."""

from __future__ import annotations

import sys

from mxrec.cli import main

sys.exit(main())
