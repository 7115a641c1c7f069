"""``python -m mmdata`` is the ``mmdata`` command."""

from __future__ import annotations

import sys

__all__ = ["run"]


def run() -> None:
    """Run the command, which Ctrl-C ends without a traceback also while it is being imported."""
    try:
        from mmdata.cli import main
    except KeyboardInterrupt:
        sys.stderr.write("mmdata: stopped; nothing was begun\n")
        sys.exit(130)
    main()


if __name__ == "__main__":
    run()
