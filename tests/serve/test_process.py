from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from shipworthy.errors import Failed
from shipworthy.serve import process


def python(code: str) -> list[str]:
    return [sys.executable, "-c", "import json, os, signal, sys, time\n" + code]


SAY = "print(json.dumps({'url': 'http://x:1', 'more': 2}), flush=True)\n"


def test_the_url_is_handed_on_and_the_process_ends_with_the_context(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    code = f"open({str(mark)!r}, 'w').write(str(os.getpid()))\n{SAY}sys.stdin.read()"
    with process.running(python(code), 10) as url:
        assert url == "http://x:1"
        assert Path(f"/proc/{mark.read_text()}").exists()
    assert not Path(f"/proc/{mark.read_text()}").exists()


@pytest.mark.parametrize(
    ("code", "what", "found"),
    [
        ("sys.exit('the port is taken')", "ended before it answered, with exit code 1", "the port is taken"),
        ("sys.stderr.write('x' * 500000 + 'the end'); sys.exit(3)", "exit code 3", "the end"),
        ("sys.stderr.write('loading'); sys.stderr.flush(); time.sleep(60)", "did not answer within 1 s", "loading"),
        ("print('hello', flush=True); time.sleep(60)", "did not say its URL", "hello"),
        ("print('[1]', flush=True); time.sleep(60)", "did not say its URL", "[1]"),
        ("print('{}', flush=True); time.sleep(60)", "did not say its URL", "{}"),
        ("os.close(1); time.sleep(60)", "exit code None", ""),
    ],
)
def test_a_server_that_does_not_start_is_a_failure_with_its_last_words(code: str, what: str, found: str) -> None:
    began = time.monotonic()
    with pytest.raises(Failed) as failed, process.running(python(code), 1):
        pytest.fail("it never answered")
    assert what in failed.value.what
    assert found in failed.value.found
    assert len(failed.value.found) < 3000
    assert time.monotonic() - began < 8


def test_a_command_that_does_not_exist_is_a_failure() -> None:
    with pytest.raises(Failed, match="cannot be started"), process.running(["/no/such/program"], 1):
        pytest.fail("it never answered")


def test_a_server_that_ends_by_itself_is_a_failure() -> None:
    code = SAY + "sys.stderr.write('out of memory'); sys.exit(4)"
    with pytest.raises(Failed, match="ended by itself with exit code 4") as failed, process.running(python(code), 10):
        time.sleep(0.5)
    assert "out of memory" in failed.value.found


def test_an_error_inside_goes_through_and_the_process_still_ends(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    code = f"open({str(mark)!r}, 'w').write(str(os.getpid()))\n{SAY}sys.stdin.read()"
    with pytest.raises(ZeroDivisionError), process.running(python(code), 10):
        raise ZeroDivisionError
    assert not Path(f"/proc/{mark.read_text()}").exists()


def test_much_output_does_not_block_the_server(tmp_path: Path) -> None:
    mark = tmp_path / "done"
    code = f"{SAY}print('x' * 3000000, flush=True); sys.stderr.write('y' * 3000000)\nopen({str(mark)!r}, 'w')\nsys.stdin.read()"
    with process.running(python(code), 10):
        for _ in range(100):
            if mark.exists():
                break
            time.sleep(0.05)
        assert mark.exists()


def test_a_server_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_SECONDS", 0.3)
    began = time.monotonic()
    with process.running(python("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SAY + "time.sleep(60)"), 10):
        pass
    assert time.monotonic() - began < 5
