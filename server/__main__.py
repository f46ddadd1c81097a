"""`python -m server` is the `reportd` command."""

import sys

from server.commands.main import main

sys.exit(main())
