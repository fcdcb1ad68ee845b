"""The clients that people have, against a real server; each family in an environment and a process of its own.

``make clients`` makes the environments; their protobuf packages clash, with each other and with ours.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shipworthy.serve import keys

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).with_name("clients")
FAMILIES = {"tritonclient": "triton", "kserve": "kserve", "ovmsclient": "ovms", "grpc": "triton"}


@contextmanager
def begun(arguments: list[str]) -> Iterator[dict[str, str]]:
    """The addresses of a server, without schemes."""
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            said = json.loads(server.stdout.readline())
            yield {"http": said["url"].partition("://")[2], "grpc": said["grpc"]}
        finally:
            server.terminate()
            code = server.wait(40)
    assert code == 0


@pytest.fixture(scope="module")
def addresses(models: dict[str, Path], command: Callable[..., list[str]]) -> Iterator[dict[str, str]]:
    """HTTP and gRPC of a server of all models as version 1, of 'two' also as 12 and 3."""
    served = [(name, 1, path) for name, path in models.items()]
    with begun(command(*served, ("two", 12, models["two"]), ("two", 3, models["two"]))) as found:
        yield found


@pytest.fixture(scope="module")
def secured(
    models: dict[str, Path], command: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The same of a server that asks for a certificate and a key, and what a client needs to be let in."""
    folder = tmp_path_factory.mktemp("secured")
    cert, key, file = (str(folder / name) for name in ("both.pem", "both.key", "keys.toml"))
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command_line = ["openssl", "req", *kind, *names, "-keyout", key, "-out", cert]
    subprocess.run(command_line, check=True, capture_output=True, timeout=30)
    token, entry = keys.make("two", ("two",), operate=False)
    keys.append(Path(file), entry)
    served = [(name, 1, models[name]) for name in ("two", "linear")]
    settings = {"api_key_file": file, "tls_cert": cert, "tls_key": key, "tls_client_ca": cert}
    with begun(command(*served, **settings)) as found:
        yield found | {"cert": cert, "key": key, "token": token}


@pytest.mark.parametrize("script", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_the_client_gets_what_it_expects(addresses: dict[str, str], script: str) -> None:
    family, _, kind = script.partition("_")
    run(FAMILIES[family], SCRIPTS / f"{script}.py", addresses["http" if kind == "http" else "grpc"])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the program openssl makes the certificates")
@pytest.mark.parametrize("family", ["triton", "kserve"])
def test_the_client_is_let_in_with_its_certificate_and_its_key(secured: dict[str, str], family: str) -> None:
    run(family, SCRIPTS / "secure" / f"secure_{family}.py", json.dumps(secured))


def run(family: str, script: Path, argument: str) -> None:
    """Run a script in the environment of its family; it must end well."""
    python = ROOT / ".clients" / family / "bin" / "python"
    assert python.exists(), "run 'make clients' first"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}
    done = subprocess.run([python, script, argument], env=clean, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
