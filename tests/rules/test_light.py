"""The server is light: it starts without the packages that only the other stages need."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

HEAVY = {
    *("onnx", "torch", "tensorflow", "openvino", "mlflow", "scipy", "sklearn", "skl2onnx", "joblib", "matplotlib"),
    *("pandas", "rich", "sqlite3", "sqlalchemy", "opentelemetry"),
}


def imported(statement: str) -> set[str]:
    """The names of all packages and modules at the top that a fresh interpreter imports for a statement."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.splitlines()[-1]
    names = re.findall(r"^import time: +\d+ \| +\d+ \| +([\w.]+)$", done.stderr, re.MULTILINE)
    return {name.split(".")[0] for name in names}


def test_the_server_is_light():
    found = imported("import shipworthy.serve.server")
    assert "onnxruntime" in found or "uvicorn" in found or "shipworthy" in found
    assert found & HEAVY == set()


@pytest.mark.parametrize("name", ["sqlite3", "rich"])
def test_the_checker_sees(name):
    assert imported(f"import {name}") & HEAVY == {name}
