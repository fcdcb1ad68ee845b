"""The OpenAPI document, read by somebody else: requests made from it, right and wrong, are answered as it says."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

TOOL = Path(__file__).parents[2] / ".clients" / "fuzz" / "bin" / "schemathesis"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)


# What would change the server; and of what is documented many times over, most.
LEFT_OUT = "/(un)?load$|/versions/|/models/(free|linear|many|spare)"


def test_answers_are_what_the_document_says(victim, budget, tmp_path):
    assert TOOL.exists(), "run 'make clients' first"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}
    with victim.unharmed():
        for seed in budget.seeds(1, 0):
            command = [
                TOOL, "--no-color", "run", f"{victim.url}/openapi.json", "--phases", "examples,coverage,fuzzing",
                "--checks", CHECKS, "--max-examples", "5", "--seed", str(seed % 2**32), "--request-timeout", "10",
                "--exclude-path-regex", LEFT_OUT, "--generation-database", "none", "--no-shrink", "--continue-on-failure",
            ]  # fmt: skip
            done = subprocess.run(
                [*map(str, command)], env=clean, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
            )
            assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
            (cases,) = map(int, re.findall(r"(\d+) generated", done.stdout))
            budget.count(cases)
