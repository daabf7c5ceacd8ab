"""`python -m edge_agent` is the command `edge-agent`."""

from __future__ import annotations

import sys

from edge_agent.cli import early

if __name__ == "__main__":
    early.listen(sys.argv[1:])  # before anything else is imported: signals are heard from here on

    from edge_agent.cli.main import main

    sys.exit(main())
