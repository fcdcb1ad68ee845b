"""What memory this process takes."""

from __future__ import annotations

import os
from pathlib import Path


def own_bytes() -> int:
    """Resident memory of this process that is no file's: those are shared, and a forked process has them once it reads them."""
    _, resident, of_files, *_ = map(int, Path("/proc/self/statm").read_text(encoding="utf-8").split())
    return (resident - of_files) * os.sysconf("SC_PAGE_SIZE")
