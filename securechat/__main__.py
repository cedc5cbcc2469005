"""`python -m securechat` is the `securechat` command."""

import sys

from securechat.cli import main

sys.exit(main())
