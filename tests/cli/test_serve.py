"""``serve``: several things at once, what it says when it answers, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from shipworthy.cli.serve import Seen
from shipworthy.records import Target
from shipworthy.serve.source import Given, Policy, ServedModel

PBTXT = 'name: "iris" platform: "onnxruntime_onnx" max_batch_size: 8 dynamic_batching {} version_policy { all {} }'
MODELS = """model_config_list { config { name: 'iris' base_path: 'iris'
  version_labels { key: 'stable' value: 1 } version_labels { key: 'canary' value: 3 } } }"""


def write(path: Path, factor: float) -> None:
    """Y = X + X for a factor of 2, X for 1: enough to tell which model has answered."""
    path.parent.mkdir(parents=True, exist_ok=True)
    node = helper.make_node("Add", ["X", "X"], ["Y"]) if factor == 2 else helper.make_node("Identity", ["X"], ["Y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in "XY"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A model repository with two versions of 'iris', and 'digits.onnx' beside it."""
    write(tmp_path / "repo/iris/1/model.onnx", 1)
    write(tmp_path / "repo/iris/3/model.onnx", 2)
    (tmp_path / "repo/iris/config.pbtxt").write_text(PBTXT)
    (tmp_path / "repo/models.config").write_text(MODELS)
    write(tmp_path / "digits.onnx", 2)
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "shipworthy", "serve", *arguments]


@contextmanager
def serving(here: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The server, which ends with the context; nothing but what was announced may be said."""
    with subprocess.Popen(
        command(*arguments, "--port", "0", "--stop-with-parent"),
        cwd=here, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as server:  # fmt: skip
        try:
            yield server
        finally:
            server.terminate()
            out, err = server.communicate(timeout=30)
    assert (server.returncode, out, err) == (0, "", "")


def ask(url: str, path: str) -> Any:
    body = {"inputs": [{"name": "X", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    with urllib.request.urlopen(f"{url}/v2/models/{path}/infer", json.dumps(body).encode(), timeout=30) as answer:
        return json.load(answer)["outputs"][0]["data"]


def test_several_are_served_and_one_json_line_says_what(here: Path) -> None:
    with serving(here, "repo", "digits.onnx", "--json") as server:
        assert server.stdout is not None
        said = json.loads(server.stdout.readline())
        assert said.keys() == {"url", "grpc", "models"}
        note = "config.pbtxt: not followed: dynamic_batching"
        assert said["models"] == [
            {
                "name": "iris",
                "versions": [1, 3],
                "default": 3,
                "labels": {"stable": 1, "canary": 3},
                "bundles": {},
                "notes": [note],
            },
            {"name": "digits", "versions": [1], "default": 1, "labels": {}, "bundles": {}, "notes": []},
        ]
        answers = {path: ask(said["url"], path) for path in ("iris", "iris/versions/1", "iris/versions/3", "digits")}
        assert answers == {"iris": [2, 4], "iris/versions/1": [1, 2], "iris/versions/3": [2, 4], "digits": [2, 4]}


def test_people_are_told_in_sentences(here: Path) -> None:
    with serving(here, "repo", "digits.onnx") as server:
        assert server.stdout is not None
        said = []
        while not said or not said[-1].startswith("try:"):
            said.append(server.stdout.readline().rstrip("\n"))
    assert said[:3] == [
        "serving iris versions 1 (stable), 3 (canary); version 3 by default",
        "  note: config.pbtxt: not followed: dynamic_batching",
        "serving digits version 1",
    ]
    assert said[3].startswith("on http://127.0.0.1:")
    assert said[4:] == [f"try:  curl {said[3].split()[1]}/v2/models/iris"]


def test_versions_wins_over_the_files(here: Path) -> None:
    with serving(here, "repo", "--versions", "1", "--json") as server:
        assert server.stdout is not None
        (model,) = json.loads(server.stdout.readline())["models"]
    assert (model["versions"], model["default"], model["labels"]) == ([1], 1, {"stable": 1})
    assert model["notes"][-1] == "label 'canary' means a version that is not served"


def test_what_was_seen_is_what_was_found_last() -> None:
    seen = Seen(Given([ServedModel("a", number, Path("a"), Target()) for number in (1, 2)]))
    assert (seen.names(), seen.numbers("a"), seen.offers) == (["a"], [1, 2], {})
    for policy in (None, Policy(listed=(1,))):
        assert seen.offers.get("a") != (found := seen.find("a", policy))
        assert seen.offers == {"a": found}
    assert [model.version for model in found.versions] == [1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'WHAT...'"),
        (("repo", "--versions", "newest"), "latest, latest:3, all, or numbers such as 1,3"),
        (("repo", "--versions", "7"), "model 'iris' has no version to serve"),
        (("repo", "--versions", "'"), "no choice of versions"),
        (("repo", "repo"), "several models with the name 'iris'"),
        (("repo/iris",), "name the repository"),
        (("models:/iris",), "models:/NAME@ALIAS or models:/NAME/VERSION"),
    ],
)
def test_what_cannot_be_is_one_clear_error(here: Path, arguments: tuple[str, ...], said: str) -> None:
    done = subprocess.run(command(*arguments), cwd=here, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr


def test_the_help_is_true() -> None:
    done = subprocess.run(command("--help"), capture_output=True, text=True, timeout=60, check=True)
    words = " ".join(done.stdout.split())
    assert words.startswith("Usage: shipworthy serve [OPTIONS] WHAT...")
    for part in ("an .onnx file", "a bundle folder", "NAME/VERSION/model.onnx", "models:/digits@champion", "--versions"):
        assert part in words
