"""`python -m server` is the `reportd` command."""

import sys

from server.cli import main

sys.exit(main())
