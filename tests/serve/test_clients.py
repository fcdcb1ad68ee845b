"""The clients that people have, against a real server; each family in an environment and a process of its own.

``make clients`` makes the environments; their protobuf packages clash, with each other and with ours.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).with_name("clients")
FAMILIES = {"tritonclient": "triton", "kserve": "kserve", "ovmsclient": "ovms", "grpc": "triton"}


@pytest.fixture(scope="module")
def addresses(models: dict[str, Path], command: Callable[..., list[str]]) -> Iterator[dict[str, str]]:
    """HTTP and gRPC of a server of all models as version 1, of 'two' also as 12 and 3."""
    served = [(name, 1, path) for name, path in models.items()]
    arguments = command(*served, ("two", 12, models["two"]), ("two", 3, models["two"]))
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        said = json.loads(server.stdout.readline())
        yield {"http": said["url"].removeprefix("http://"), "grpc": said["grpc"]}
        server.terminate()
        assert server.wait(40) == 0


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_the_client_gets_what_it_expects(addresses: dict[str, str], script: str) -> None:
    family, _, kind = script.partition("_")
    python = ROOT / ".clients" / FAMILIES[family] / "bin" / "python"
    assert python.exists(), "run 'make clients' first"
    address = addresses["http" if kind == "http" else "grpc"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}
    done = subprocess.run(
        [python, SCRIPTS / f"{script}.py", address], env=clean, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
