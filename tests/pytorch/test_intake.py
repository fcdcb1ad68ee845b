"""PyTorch models go on as one ONNX that answers as they do, or are refused with a reason."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from shipworthy import check, data
from shipworthy.backends import errand, torch_model
from shipworthy.backends import torch as backend
from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.data import Dataset
from shipworthy.errors import Failed, Refused
from shipworthy.records import Target

ROWS = np.random.default_rng(0).normal(size=(130, 3)).astype(np.float32)


def findings(report, law):
    return [(one.severity, one.evidence) for one in report.findings if one.law == law]


def test_the_vision_example_is_taken_in_and_answers_as_pytorch_does(vision):
    model = vision.model
    assert [str(one) for one in model.signature.inputs] == ["image: float32 [?, 1, 32, 32]"]
    assert [str(one) for one in model.signature.outputs] == ["output: float32 [?, 10]"]
    assert (17 <= model.opset <= 21, model.ir_version <= 10) == (True, True)
    assert (model.source.framework, set(model.source.packages)) == ("torch", {"torch", "onnxscript", "safetensors"})
    framework = check.reference(model, trust=True, recipe=vision.recipe)
    report = check.run(model, vision.evaluation, framework)
    assert report.errors == ()
    ((severity, evidence),) = findings(report, "numbers.parity")
    assert severity == "note"
    assert "over 450 rows" in evidence
    answers = OnnxRuntimeRunner(Path(model.path), Target()).run(vision.evaluation.inputs)["output"]
    right = 100 * (answers.argmax(1) == vision.evaluation.labels).mean()
    assert right == pytest.approx(vision.accuracy, abs=0.3), "the accuracy that train.py told"
    assert right >= 97


def test_a_conversion_gives_the_same_bytes_and_names_no_place(vision, tmp_path):
    again = check.take_in(vision.folder / "model.safetensors", "vision", tmp_path, trust=True, recipe=vision.recipe)
    assert again.digest == vision.model.digest
    content = Path(again.path).read_bytes()
    for place in (str(vision.folder), "train.py", "site-packages"):
        assert place.encode() not in content
    assert {node.domain for node in onnx.load(again.path).graph.node} == {""}


def test_a_parity_error_is_found(vision):
    shifted = check.reference(vision.model, trust=True, recipe=vision.recipe)
    report = check.run(vision.model, vision.evaluation, lambda inputs: [shifted(inputs)[0] + 0.01])
    assert findings(report, "numbers.parity")[0][0] == "error"


TWO = """
class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Embedding(5, 4)

    def forward(self, x, kind, scale=1.0):
        y = self.a(x) * scale + self.b(kind)
        return {"late": y.argmax(1), "early": y}


def make():
    return Two()
"""


def test_several_inputs_and_outputs_and_other_names(project, tmp_path):
    kinds = np.arange(130) % 5
    path, recipe = project(TWO, {"features": ROWS.astype(np.float64), "kind": kinds}, x="features")
    model = check.take_in(path, "two", tmp_path / "models", trust=True, recipe=recipe)
    assert [str(one) for one in model.signature.inputs] == ["x: float32 [?, 3]", "kind: int64 [?]"]
    assert {one.name: one.dtype for one in model.signature.outputs} == {"output_0": "int64", "output_1": "float32"}
    rows = data.read(tmp_path / "rows.npz", model.signature, recipe.names)
    report = check.run(model, rows, check.reference(model, trust=True, recipe=recipe))
    assert [one[0] for one in findings(report, "numbers.parity")] == ["note", "note"]


def exported(path, free):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval()
    shapes = ({0: torch.export.Dim("rows")},) if free else None
    torch.export.save(torch.export.export(module, (torch.from_numpy(ROWS[:4]),), dynamic_shapes=shapes), path)
    return module


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("free", [True, False], ids=["free", "fixed"])
def test_an_exported_program_is_taken_in_as_it_was_exported(tmp_path, free):
    module = exported(tmp_path / "m.pt2", free)
    model = check.take_in(tmp_path / "m.pt2", "m", tmp_path / "models", trust=True)
    assert str(model.signature.inputs[0]) == f"input: float32 [{'?' if free else '4'}, 3]"
    rows = Dataset("rows", "d" * 64, {"input": ROWS if free else ROWS[:4]})
    report = check.run(model, rows, check.reference(model, trust=True))
    assert bool(report.errors) is not free, "a fixed number of rows is an error of its own"
    assert findings(report, "numbers.parity")[0][0] == "note"
    answer = OnnxRuntimeRunner(Path(model.path), Target()).run({"input": ROWS[:4]})["output"]
    np.testing.assert_allclose(answer, module(torch.from_numpy(ROWS[:4])).detach().numpy(), atol=1e-5)


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_that_executes_code_needs_trust(tmp_path):
    exported(tmp_path / "good.pt2", free=True)
    made = tmp_path / "payload"
    with zipfile.ZipFile(tmp_path / "good.pt2") as good, zipfile.ZipFile(tmp_path / "m.pt2", "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if "sample_inputs" in name:
                buffer = io.BytesIO()
                torch.save(Payload(made), buffer)
                content = buffer.getvalue()
            bad.writestr(name, content)
    with pytest.raises(Refused, match="can hold pickles") as caught:
        check.take_in(tmp_path / "m.pt2", "m", tmp_path / "models")
    assert "--trust" in caught.value.next
    assert not made.exists(), "the file was loaded"
    with pytest.raises(Refused):
        check.take_in(tmp_path / "m.pt2", "m", tmp_path / "models", trust=True)
    assert made.exists(), "the payload of this test does nothing: the line above proves nothing"


LINEAR = "def make():\n    return nn.Linear(3, 2)\n"
BAD = {
    "raises": ("def make():\n    raise ValueError('no disk')\n", "failed", "ValueError: no disk"),
    "no module": ("def make():\n    return 3\n", "gave no model", "int"),
    "no function": ("def build():\n    return nn.Linear(3, 2)\n", "has no function 'make'", ""),
    "no code": ("def make(:\n", "cannot be run", "SyntaxError"),
    "other sizes": ("def make():\n    return nn.Linear(3, 5)\n", "are not those of the module", "size mismatch"),
    "other names": ("def make():\n    return nn.Sequential(nn.Linear(3, 2))\n", "are not those of the module", "0.weight"),
}


@pytest.mark.parametrize("kind", BAD)
def test_code_that_does_not_fit_is_refused(project, tmp_path, kind):
    project(LINEAR)
    code, what, found = BAD[kind]
    path, recipe = project(code, weights=False)
    with pytest.raises(Refused) as caught:
        torch_model.load(path, recipe)
    assert what in caught.value.what
    assert found in caught.value.found
    with pytest.raises(Refused) as again:
        torch_model.load(path, recipe)
    assert str(again.value) == str(caught.value), "a file that failed is not half there"


@pytest.mark.parametrize("kind", ["rows", "one row", "no file", "weights", "program"])
def test_files_that_do_not_fit_are_refused(project, tmp_path, kind):
    rows = {"rows": {"z": ROWS}, "one row": {"x": ROWS[:1]}}.get(kind)
    path, recipe = project(LINEAR.replace("nn.Linear(3, 2)", "Named()") + NAMED, rows)
    expected = {
        "rows": "arrays 'z' float32",
        "one row": "[1, 3]",
        "weights": "Header",
        "program": "",
        "no file": "No such file",
    }
    if kind == "no file":
        recipe.rows.unlink()
    elif kind == "weights":
        path.write_bytes(b"\x89PNG\r\n" * 20)
    elif kind == "program":
        path = tmp_path / "m.pt2"
        path.write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(Refused) as caught:
        torch_model.load(path, recipe)
    assert expected[kind].lower() in caught.value.found.lower()


NAMED = """

class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x):
        return self.inner(x)
"""
STUBBORN = {
    "branches": ("if x.sum() > 0:\n            return x\n        return -x", "no ONNX form"),
    "fixed": ("return self.inner(x).view(2, 2)", "no ONNX form"),
    "text": ("return 'yes'", "gives more than tensors"),
    "breaks": ("raise KeyError('lost')", "could not convert"),
}


@pytest.mark.parametrize("kind", STUBBORN)
def test_a_forward_that_cannot_be_exported_is_refused(project, tmp_path, kind):
    body, what = STUBBORN[kind]
    path, recipe = project("def make():\n    return Named()\n" + NAMED.replace("return self.inner(x)", body))
    with pytest.raises(Refused, match=what) as caught:
        check.take_in(path, "m", tmp_path / "models", trust=True, recipe=recipe)
    assert caught.value.found
    assert list((tmp_path / "models").iterdir()) == []


def test_code_that_ends_or_never_ends_is_told(project, tmp_path, monkeypatch):
    project(LINEAR)
    path, recipe = project("import os\nprint('about to go', flush=True)\nos._exit(7)\n", weights=False)
    with pytest.raises(Failed, match="process of PyTorch died") as caught:
        backend.convert(path, tmp_path / "m.onnx", 21, 10, recipe)
    assert "exit code 7; its last words: about to go" in caught.value.found
    monkeypatch.setattr(errand, "LIMIT_SECONDS", 1.0)
    path, recipe = project("while True:\n    pass\n", weights=False)
    with pytest.raises(Failed, match="took too long"):
        backend.convert(path, tmp_path / "m.onnx", 21, 10, recipe)
    assert not (tmp_path / "m.onnx").exists()
