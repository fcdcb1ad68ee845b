"""How long does ``shipworthy check`` take on a model of 100 MB, and how much memory do its processes take together?

ResNet-50 (102 MB) from the command line, in a fresh workspace. Every 20 ms the proportional memory (PSS) of the process and of
all that it has started is added up from /proc; a page that several share counts once. The largest sum is the figure, and what
each process had then.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving import models, servers

from serve import machine

SECONDS, MEMORY_MB = 20.0, 1000.0
EVERY_SECONDS = 0.02


def main() -> int:
    """Run, watch, print; 1 when it took longer or more than it may."""
    options = read_options()
    path = options.model or made(options.models)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "shipworthy", "check", str(path), "--workspace", folder, *options.rest]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        peak, parts = 0.0, dict[str, float]()
        while process.poll() is None:
            now = tree(process.pid)
            if sum(now.values()) > peak:
                peak, parts = sum(now.values()), now
            time.sleep(EVERY_SECONDS)
        took = time.perf_counter() - start
        said = process.stdout.read() if process.stdout else ""
    size = path.stat().st_size / 1e6
    if options.json:
        told = {"machine": machine(), "size_mb": size, "seconds": took, "memory_mb": peak, "parts": parts}
        print(json.dumps(told | {"exit": process.returncode}))
    else:
        print(said)
        print(", ".join(f"{key} {value}" for key, value in machine().items()))
        limits = f"at most {SECONDS:.0f} s and {MEMORY_MB:.0f} MB"
        print(f"check of {size:.1f} MB: {took:.1f} s, {peak:.0f} MB at the peak ({limits}):")
        print("\n".join(f"  {value:6.0f} MB  {name}" for name, value in parts.items()))
    return int(took > SECONDS or peak > MEMORY_MB)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="another model (default: ResNet-50 with random weights)")
    parser.add_argument("--models", type=Path, default=servers.PEERS / "models", help="where ResNet-50 is kept")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.add_argument("rest", nargs="*", help="options of shipworthy check, after --")
    return parser.parse_args()


def made(folder: Path) -> Path:
    """ResNet-50, made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return models.resnet50(folder).path


def tree(root: int) -> dict[str, float]:
    """MB of each process from this one down, by its number and command."""
    found: dict[str, float] = {}
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        try:
            waiting += [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:80]
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (OSError, ProcessLookupError):  # it has ended meanwhile
            continue
        kilobytes = next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
        found[f"{pid} {command}"] = kilobytes * 1024 / 1e6
    return found


if __name__ == "__main__":
    sys.exit(main())
