"""A child process that never outlives its parent, whatever ends that (Ctrl-C, kill -9).

The parent holds the write end of the child's standard input; when the parent is gone, the child reads its end.
``python -m shipworthy.child SCRIPT`` runs a script of the user's that way.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
from pathlib import Path


def exit_with_parent() -> None:
    """From now on end this process at once when standard input closes."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="exit-with-parent", daemon=True).start()


def main() -> None:
    """Run the script named on the command line as ``__main__``, in its own folder."""
    script = Path(sys.argv[1]).resolve()
    exit_with_parent()
    sys.argv = [str(script)]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
