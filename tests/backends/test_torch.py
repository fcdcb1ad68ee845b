"""What is said of PyTorch's files where PyTorch is not installed; the rest is in tests/pytorch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shipworthy import check, settings
from shipworthy.backends import torch
from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.records import Model, Signature, Source


@pytest.fixture
def absent(monkeypatch):
    """As if the extra were not installed, whether it is or not."""
    monkeypatch.setattr(torch, "PACKAGES", ("no_such_package_of_torch",))


@pytest.fixture
def folder(tmp_path):
    """A file of every kind, a script, and rows; nothing in them is ever read."""
    for name in ("m.safetensors", "m.pt2", "m.pt", "m.pth", "m.ckpt", "m.bin", "rows.npz"):
        (tmp_path / name).write_bytes(b"content of " + name.encode())
    (tmp_path / "train.py").write_text("raise SystemExit('executed')\n", encoding="utf-8")
    return tmp_path


def refused(path, **options):
    with pytest.raises(Refused) as caught:
        check.take_in(path, "m", path.parent / "models", **options)
    assert list((path.parent / "models").iterdir()) == []
    return caught.value


def recipe(folder):
    return torch.Recipe(f"{folder / 'train.py'}:make_model", folder / "rows.npz")


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt2"])
def test_a_missing_extra_is_named(folder, absent, name):
    error = refused(folder / name, trust=True, recipe=recipe(folder))
    assert (error.found, error.next) == ("no module 'no_such_package_of_torch'", "pip install 'shipworthy[torch]'")
    with pytest.raises(Refused, match="extra that is not installed"):
        torch.predict(folder / name, {}, recipe(folder))


@pytest.mark.parametrize(
    ("name", "what"), [("m.safetensors", "needs code to be a model"), ("m.pt2", "can hold pickles: loading it can execute")]
)
def test_trust_is_asked_for_before_anything_else(folder, absent, name, what):
    error = refused(folder / name, recipe=recipe(folder))
    assert what in error.what
    assert "--trust" in error.next


@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.ckpt", "m.bin"])
@pytest.mark.parametrize("trust", [True, False])
def test_pickles_of_pytorch_are_never_loaded(folder, name, trust):
    error = refused(folder / name, trust=trust)
    assert "pickle" in error.what
    assert "safetensors.torch.save_file" in error.next


def test_weights_need_a_factory_and_rows(folder, absent):
    error = refused(folder / "m.safetensors", trust=True)
    assert 'factory = "train.py:make_model"' in error.next
    error = refused(folder / "m.safetensors", trust=True, recipe=torch.Recipe(f"{folder / 'train.py'}:make_model"))
    assert "evaluation under [data]" in error.next


def wanted(folder, **more):
    """Settings of a model in the folder."""
    plain = {"model": {"name": "m", "path": "m.safetensors", "factory": "train.py:make_model"} | more.pop("model", {})}
    return settings.parse(plain | more, str(folder / "shipworthy.toml"))


def model(folder, name="m.safetensors"):
    path = folder / name
    source = Source(path=str(path), digest=file_digest(path) if path.exists() else "", framework="torch")
    empty = Signature(inputs=(), outputs=())
    return Model(name="m", path="", digest="d" * 64, signature=empty, opset=21, ir_version=10, source=source)


def test_settings_give_the_recipe(folder):
    assert torch.recipe(wanted(folder, model={"factory": ""})) == torch.NOTHING
    made = torch.recipe(wanted(folder, data={"evaluation": "rows.npz", "calibration": "c.npz", "inputs": {"a": "b"}}))
    assert made == torch.Recipe(f"{folder / 'train.py'}:make_model", folder / "rows.npz", {"a": "b"})
    assert torch.recipe(wanted(folder, data={"calibration": "rows.npz"})).rows == folder / "rows.npz"
    assert torch.recipe(wanted(folder)).rows is None


@pytest.mark.parametrize(
    ("factory", "what"),
    [
        ("train.py", "names no function"),
        ("train:make_model", "names no function"),
        ("train.py:", "names no function"),
        ("train.py:make-model", "names no function"),
        ("other.py:make_model", "no file"),
        ("folder.py:make_model", "no file"),
    ],
)
def test_a_factory_that_cannot_be_is_refused(folder, factory, what):
    (folder / "folder.py").mkdir()
    with pytest.raises(Refused, match=what) as caught:
        torch.recipe(wanted(folder, model={"factory": factory}))
    assert factory in str(caught.value)


def test_what_shapes_a_conversion_is_in_its_key(folder):
    made = recipe(folder)
    before = made.key
    assert before["code"] == file_digest(folder / "train.py")
    assert recipe(folder).key == before
    (folder / "train.py").write_text("changed = True\n", encoding="utf-8")
    assert made.key != before
    assert torch.NOTHING.key == {"factory": "", "code": "", "rows": "", "names": {}}


def test_a_model_goes_on_training_where_the_settings_say_so(folder):
    (folder / "tune.py").write_text("", encoding="utf-8")
    tune = {"fine_tune": "tune.py:fine_tune", "fine_tune_steps": 7}
    trusted = {"trust": True}
    made = torch.tuning(wanted(folder, model=trusted, optimize=tune), model(folder))
    assert (made.path, made.original, made.steps) == (folder / "m.safetensors", "d" * 64, 7)
    assert made.fine_tune == f"{folder / 'tune.py'}:fine_tune"
    assert str(folder) not in str(made.options)
    assert made.options["fine_tune"] == "tune.py:fine_tune"
    for script in ("tune.py", "train.py"):
        (folder / script).write_text("changed = True\n", encoding="utf-8")
        changed = torch.tuning(wanted(folder, model=trusted, optimize=tune), model(folder))
        assert changed.options["code"] != made.options["code"], script
        made = changed
    before = model(folder)
    (folder / "m.safetensors").write_bytes(b"other weights")
    with pytest.raises(Refused, match="changed while"):
        torch.tuning(wanted(folder, model=trusted, optimize=tune), before)
    assert torch.tuning(wanted(folder, optimize=tune), model(folder)) is None, "without trust no code is run"
    assert torch.tuning(wanted(folder, model=trusted), model(folder)) is None
    assert torch.tuning(wanted(folder, model=trusted, optimize=tune), model(folder, "m.pt2")) is None
    assert torch.tuning(wanted(folder, model=trusted, optimize=tune), model(folder, "m.onnx")) is None


def test_nothing_of_it_imports_torch():
    code = "import sys, shipworthy.ship, shipworthy.optimize.prune; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_vision_example_has_settings_that_fit(tmp_path):
    shutil.copytree(Path(__file__).parents[2] / "examples" / "vision", tmp_path / "vision")
    (tmp_path / "vision" / "model.safetensors").write_bytes(b"weights")
    example = settings.read(tmp_path / "vision")
    assert torch.recipe(example).factory.endswith("vision/train.py:make_model")
    assert torch.tuning(example, model(tmp_path / "vision", "model.safetensors")).steps == example.optimize.fine_tune_steps
