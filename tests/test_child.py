"""A child never outlives its parent, and runs a script as the user would."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

WAITER = (
    "from shipworthy.child import exit_with_parent; exit_with_parent(); print('up', flush=True); import time; time.sleep(60)"
)
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


def gone(pid: int) -> bool:
    """Whether the process is over (or a zombie that nobody has fetched yet) within five seconds."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(500):
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_the_end_of_standard_input_ends_the_child():
    with subprocess.Popen([sys.executable, "-c", WAITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"up\n"
        child.stdin.write(b"what is written is ignored")
        child.stdin.flush()
        time.sleep(0.1)
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(timeout=5) == 1


def test_kill_9_of_the_parent_ends_the_child():
    with subprocess.Popen([sys.executable, "-c", PARENT, WAITER], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    assert gone(pid)


def test_a_script_runs_in_its_own_name_with_its_neighbours(tmp_path):
    (tmp_path / "neighbour.py").write_text("WORD = 'hello'")
    script = tmp_path / "script.py"
    script.write_text("import sys, neighbour\nprint(__name__, neighbour.WORD, *sys.argv)\nsys.exit(7)")
    with subprocess.Popen(
        [sys.executable, "-m", "shipworthy.child", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.read() == f"__main__ hello {script}\n"
        assert child.wait(timeout=10) == 7
