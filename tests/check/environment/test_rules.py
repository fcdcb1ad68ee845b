"""Each law: lists for which it fires, and lists for which it is silent."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from shipworthy.check.environment import apart, cuda, framework, pins, pythons, runtime, surplus, together
from shipworthy.check.environment.case import Case, Installed
from shipworthy.check.environment.listing import Listing, Package, meet
from shipworthy.check.environment.requirements import Draft, entry
from shipworthy.targets import KINDS


def listing(*lines):
    draft = Draft("list.txt")
    for number, line in enumerate(lines, 1):
        name, _, version = line.partition(" ")
        if name == "python":
            draft.add("python", version, f"line {number}")
        else:
            entry(line, f"line {number}", draft)
    assert draft.unread == []
    return draft.done()


def case(*serving, training=(), kind="cpu-x86", model="model.onnx", head=None, installed=None):
    return Case(listing(*serving), listing(*training), KINDS[kind], Path(model), head, installed or {})


def said(rule, one):
    return [(finding.law, finding.severity, finding.place) for finding in rule.judge(one)]


def only(rule, one):
    (finding,) = rule.judge(one)
    return finding


# environment.pins


def test_open_packages_of_serving_are_named():
    finding = only(pins, case("numpy", "scipy>=1.2", "onnx==1.16.0", "python >=3.9"))
    assert (finding.law, finding.severity, finding.place) == ("environment.pins", "warning", "list.txt")
    assert finding.evidence == "2 of 3 packages have no upper bound: numpy (line 1), scipy>=1.2 (line 2)"
    assert "pip freeze" in finding.mend


def test_a_range_with_two_ends_is_a_note():
    finding = only(pins, case("numpy>=1,<2", "scipy~=1.11", "onnx==1.16.0", "keras==3.*"))
    assert (finding.severity, finding.mend) == ("note", "")
    assert finding.evidence.startswith("3 of 4")


def test_pinned_packages_and_an_open_training_are_silent():
    assert said(pins, case("numpy==2.0.0", "scipy===1.11", training=("numpy",))) == []


# environment.apart


@pytest.mark.parametrize(
    ("trained", "served", "model", "severity", "says"),
    [
        ("scikit-learn==1.5.2", "scikit-learn==1.6.0", "m.joblib", "error", "loads none of another release"),
        ("scikit-learn==1.5.2", "scikit-learn==1.5.1", "m.pkl", "warning", "the model is a pickle"),
        ("scikit-learn==1.5.2", "scikit-learn==1.6.0", "m.onnx", "warning", "another minor version"),
        ("numpy==1.26.4", "numpy==2.0.0", "m.onnx", "error", "another major version"),
        ("numpy==2.1.0", "numpy==2.1.3", "m.onnx", "note", "another patch"),
        ("torch==2.3.1", "torch>=2.4,<3", "m.pt2", "warning", "no version in common"),
        ("python ==3.11.*", "python ==3.12.*", "m.onnx", "warning", "another minor version"),
    ],
)
def test_both_sides_have_other_versions(trained, served, model, severity, says):
    finding = only(apart, case(served, training=(trained,), model=model))
    assert (finding.law, finding.severity) == ("environment.apart", severity)
    assert says in finding.evidence
    assert finding.mend


@pytest.mark.parametrize(
    ("trained", "served"),
    [
        ("numpy==2.0.0", "numpy==2.0.0"),
        ("numpy==2.0.0", "numpy>=1.26,<3"),
        ("numpy==2.0.0", "scipy==1.11"),
        ("rich==13.0", "rich==14.0"),
        ("python >=3.9", "python ==3.11.*"),
    ],
)
def test_both_sides_agree(trained, served):
    assert said(apart, case(served, training=(trained,), model="m.pkl")) == []


def test_what_mlflow_logged_counts_as_training():
    logged = Package("scikit-learn", SpecifierSet("==1.5.1"), "MLmodel, line 5")
    one = case("scikit-learn==1.6.0")
    with_log = Case(Listing(one.serving.packages, logged=(logged,)), model=Path("m.pkl"))
    assert only(apart, with_log).severity == "error"


# environment.runtime


@pytest.mark.parametrize(
    ("head", "package", "severity", "mend"),
    [
        ((22, 10), "onnxruntime==1.20.1", "error", "pip install 'onnxruntime>=1.21'"),
        ((21, 11), "onnxruntime==1.22.1", "error", "pip install 'onnxruntime>=1.23'"),
        ((28, 14), "onnxruntime-gpu==1.31.1", "error", "export with opset 26"),
        ((99, 14), "onnxruntime==1.32.0", "error", "no onnxruntime that we know"),
        ((22, 10), "onnxruntime>=1.18,<1.25", "warning", "pip install 'onnxruntime>=1.21'"),
        ((22, 10), "onnxruntime<1.20", "error", "pip install 'onnxruntime>=1.21'"),
        ((22, 10), "onnxruntime==1.20.*", "error", "pip install 'onnxruntime>=1.21'"),
    ],
)
def test_the_runtime_of_serving_is_too_old_for_the_model(head, package, severity, mend):
    finding = only(runtime, case(package, head=head))
    assert (finding.law, finding.severity) == ("environment.runtime", severity)
    assert f"opset {head[0]}" in finding.evidence
    assert mend in finding.mend


@pytest.mark.parametrize(
    "package", ["onnxruntime==1.21.1", "onnxruntime>=1.21,<2", "onnxruntime", "onnxruntime==1.99.0", "onnx==1.12.0"]
)
def test_the_runtime_of_serving_loads_the_model_or_is_not_known(package):
    assert said(runtime, case(package, head=(22, 10))) == []


def test_a_model_that_will_be_converted_has_our_opset_and_that_of_its_exporter():
    training = ("torch==2.13.0", "skl2onnx==1.20.0")
    found = list(runtime.judge(case("onnxruntime==1.17.3", training=training, model="m.pt2")))
    assert [(one.severity, one.evidence.split(" has ")[0]) for one in found] == [
        ("error", "what Shipworthy converts to"),
        ("warning", "to_onnx of skl2onnx==1.20.0 (line 2)"),
    ], "torch writes opset 20, which 1.17 loads"
    assert said(runtime, case("onnxruntime==1.21.1", training=training, model="m.pt2")) == []


def test_an_exporter_writes_no_more_than_the_onnx_beside_it_knows():
    unread = {"model": "m.onnx", "head": None}
    assert said(runtime, case("onnxruntime==1.16.3", training=("skl2onnx==1.20.0",), **unread)) != []
    assert said(runtime, case("onnxruntime==1.16.3", training=("skl2onnx==1.20.0", "onnx==1.14.1"), **unread)) == []


def test_onnx_itself_is_the_exporter_where_there_is_no_other():
    finding = only(runtime, case("onnxruntime==1.31.1", training=("onnx==1.23.2",), model="m.onnx"))
    assert finding.severity == "warning"
    assert "opset 28 and IR version 14" in finding.evidence
    assert said(runtime, case("onnxruntime==1.32.0", training=("onnx==1.23.2",), model="m.onnx")) == []


# environment.framework


@pytest.mark.parametrize(
    ("training", "severity", "says"),
    [
        (("tf2onnx==1.16.1", "numpy==2.0.2"), "warning", "np.cast"),
        (("tf2onnx==1.17.0", "keras==3.15.1"), "note", "from_keras"),
        (("torch==2.9.1",), "warning", "without onnxscript"),
        (("torch==2.13.0", "onnxscript==0.7.2", "onnx==1.14.1"), "warning", "opsets up to 19"),
    ],
)
def test_an_exporter_that_breaks_is_named(training, severity, says):
    finding = only(framework, case(training=training))
    assert (finding.law, finding.severity) == ("environment.framework", severity)
    assert says in finding.evidence
    assert finding.mend


@pytest.mark.parametrize(
    "training",
    [
        ("tf2onnx==1.17.0", "numpy==2.0.2"),
        ("tf2onnx==1.16.1", "numpy==1.26.4"),
        ("tf2onnx==1.17.0", "keras==2.15.0"),
        ("torch==2.8.0",),
        ("torch==2.13.0", "onnxscript==0.7.2", "onnx==1.17.0"),
        ("skl2onnx==1.20.0", "onnx==1.14.1"),
    ],
)
def test_an_exporter_that_works_is_silent(training):
    assert said(framework, case(training=training)) == []


def test_a_server_needs_no_exporter():
    assert said(framework, case("torch==2.9.1")) == []


# environment.cuda


@pytest.mark.parametrize(
    ("serving", "kind", "severity", "place"),
    [
        (("torch==2.3.1+cu121", "onnxruntime-gpu==1.20.1"), "cuda", "error", "cuDNN"),
        (("onnxruntime-gpu==1.20.1", "nvidia-cudnn-cu12==8.9.7.29"), "cuda", "error", "cuDNN"),
        (("torch==2.9.1", "onnxruntime-gpu==1.31.1"), "cuda", "warning", "package torch"),
        (("onnxruntime-gpu==1.31.1", "tensorrt-cu13==11.4.0.106"), "cuda", "warning", "TensorRT"),
        (("onnxruntime-gpu==1.31.1", "tensorrt-cu13==11.4.0.106"), "tensorrt-10", "error", "TensorRT"),
        (("onnxruntime==1.20.1",), "cuda", "error", "package onnxruntime"),
        (("onnxruntime-gpu==1.20.1",), "cpu-x86", "warning", "package onnxruntime-gpu"),
        (("tensorrt==10.3.0",), "tensorrt-11", "error", "TensorRT"),
        (("onnxruntime-gpu==1.31.1",), "tensorrt-11", "warning", "package onnxruntime-gpu"),
        (("tensorrt==11.4.0.106",), "jetson-agx-xavier", "error", "jetson-agx-xavier"),
        (("torch==2.13.0+cu130",), "jetson-agx-xavier", "error", "jetson-agx-xavier"),
        (("onnxruntime-gpu==1.31.1", "python ==3.12.*"), "jetson-orin", "warning", "package onnxruntime-gpu"),
        (("numpy==2.0.0", "python ==3.9.*"), "jetson-orin", "error", "jetson-orin"),
    ],
)
def test_builds_that_do_not_fit(serving, kind, severity, place):
    found = [one for one in cuda.judge(case(*serving, kind=kind)) if (one.severity, one.place) == (severity, place)]
    assert len(found) == 1, said(cuda, case(*serving, kind=kind))
    assert found[0].law == "environment.cuda"
    assert found[0].evidence
    assert found[0].mend


@pytest.mark.parametrize(
    ("serving", "kind"),
    [
        (("torch==2.4.1+cu121", "onnxruntime-gpu==1.20.1", "nvidia-cudnn-cu12==9.1.0.70"), "cuda"),
        (("torch==2.11.0", "onnxruntime-gpu==1.31.1", "tensorrt-cu13==10.16.1.11"), "tensorrt-10"),
        (("torch==2.9.1+cu130", "onnxruntime-gpu==1.31.1"), "cuda"),
        (("torch==2.13.0+cpu", "onnxruntime-gpu==1.20.1"), "cuda"),
        (("torch==9.0", "onnxruntime-gpu==1.20.1"), "cuda"),
        (("onnxruntime==1.20.1",), "cpu-x86"),
        (("tensorrt==11.4.0.106",), "tensorrt-11"),
        (("tensorrt-cu12==10.3.0", "python ==3.10.*"), "jetson-orin"),
        (("numpy==1.24.4", "python ==3.8.*"), "jetson-agx-xavier"),
        (("numpy==1.24.4",), "jetson-orin"),
    ],
)
def test_builds_that_fit_are_silent(serving, kind):
    assert said(cuda, case(*serving, kind=kind)) == []


def test_the_nearest_jetpack_is_named():
    finding = only(cuda, case("tensorrt==10.3.0", "python ==3.11.*", kind="jetson-orin"))
    assert finding.evidence.startswith("JetPack 6.2: it has Python 3.10, listed is python==3.11.* (line 2); JetPack ")


# environment.python


@pytest.mark.parametrize(
    ("serving", "kind", "place", "says"),
    [
        (("onnxruntime==1.24.4", "python ==3.10.*"), "cpu-x86", "package onnxruntime", "requires Python >=3.11"),
        (("onnxruntime==1.17.3", "python ==3.13.*", "numpy<2"), "cpu-x86", "package onnxruntime", "for a Python after 3.12"),
        (("onnxruntime-gpu==1.31.1",), "jetson-agx-xavier", "package onnxruntime-gpu", "has python==3.8.* (JetPack 5.1)"),
        (("torch==2.2.2", "numpy==2.0.2"), "cpu-x86", "package torch", "built for numpy 1; serving has numpy==2.0.2"),
        (("scikit-learn==1.4.1", "numpy==2.0.2"), "cpu-x86", "package scikit-learn", "built for numpy 1"),
    ],
)
def test_no_build_for_the_python_or_the_numpy(serving, kind, place, says):
    finding = only(pythons, case(*serving, kind=kind))
    assert (finding.law, finding.severity, finding.place) == ("environment.python", "error", place)
    assert says in finding.evidence
    assert finding.mend


@pytest.mark.parametrize("serving", [("torch==2.2.2", "numpy"), ("torch==2.2.2", "numpy>=1.20")])
def test_numpy_2_may_come_in_where_nothing_bounds_it(serving):
    finding = only(pythons, case(*serving))
    assert finding.severity == "warning"
    assert "may get" in finding.evidence


def test_numpy_2_comes_in_by_itself_where_a_package_requires_numpy():
    needing = {"onnxruntime": Installed("1.17.3", ("numpy>=1.24.2",), 1.0)}
    assert "no list bounds numpy" in only(pythons, case("onnxruntime==1.17.3", installed=needing)).evidence
    assert said(pythons, case("torch==2.2.2")) == []


@pytest.mark.parametrize(
    "serving",
    [
        ("onnxruntime==1.24.4", "python ==3.11.*"),
        ("onnxruntime==1.24.4", "python >=3.9"),
        ("onnxruntime==1.24.4",),
        ("torch==2.2.2", "numpy==1.26.4"),
        ("torch==2.3.0", "numpy==2.0.2"),
        ("torch==2.2.2", "numpy<2"),
    ],
)
def test_builds_for_this_python_and_numpy_are_silent(serving):
    assert said(pythons, case(*serving)) == []


# environment.together


@pytest.mark.parametrize(
    ("serving", "place", "says"),
    [
        (("torch==1.12.1", "tensorrt==8.6.1"), "CUDA", "CUDA 11: torch==1.12.1 (line 1), CUDA 12: tensorrt==8.6.1"),
        (("torch==2.7.1", "onnxruntime-gpu==1.31.1"), "CUDA", "CUDA 11 or 12: torch"),
        (("cudatoolkit==11.3", "cupy-cuda12x==13.0"), "CUDA", "no CUDA suits all"),
        (("onnxruntime==1.20.1", "onnxruntime-gpu==1.20.1"), "package onnxruntime and onnxruntime-gpu", "fill one folder"),
        (("numpy==1.26.4", "numpy==2.0.0"), "package numpy", "no version is both"),
        (("scikit-learn==1.3.2", "numpy==2.0.0"), "package scikit-learn and numpy", "requires numpy<2.0,>=1.17.3"),
        (("tensorflow==2.15.1", "protobuf>=5"), "package tensorflow and protobuf", "requires protobuf"),
        (("onnx==1.13.1", "protobuf==4.25.8"), "package onnx and protobuf", "requires protobuf<4"),
        (("skl2onnx==1.14.1", "scikit-learn==1.3.0"), "package skl2onnx and scikit-learn", "requires scikit-learn<1.3"),
    ],
)
def test_what_cannot_be_installed_together(serving, place, says):
    finding = only(together, case(*serving))
    assert (finding.law, finding.severity, finding.place) == ("environment.together", "error", place)
    assert says in finding.evidence
    assert finding.mend


@pytest.mark.parametrize(
    "serving",
    [
        ("torch==2.1.2", "tensorrt==8.6.1"),
        ("torch==1.12.1+cpu", "tensorrt==8.6.1"),
        ("onnxruntime==1.20.1",),
        ("numpy==1.26.4", "numpy>=1.20"),
        ("scikit-learn==1.3.2", "numpy==1.26.4"),
        ("tensorflow==2.21.0", "protobuf==7.36.2", "mlflow-skinny==3.17.2"),
        ("onnx==1.13.1", "protobuf==3.20.3"),
    ],
)
def test_what_can_be_installed_together(serving):
    assert said(together, case(*serving)) == []


def test_the_metadata_of_what_is_installed_goes_before_the_table():
    here = {"mine": Installed("1.0", ("numpy<2", "scipy<1; extra == 'x'", "torch<1; python_version < '3'", "!!"), 1.0)}
    serving = ("mine==1.0", "numpy==2.0.0", "scipy==1.17.1", "torch==2.13.0")
    assert only(together, case(*serving, installed=here)).place == "package mine and numpy"
    assert said(together, case("mine==2.0", *serving[1:], installed=here)) == []


def test_the_mend_names_the_first_build_that_fits():
    assert only(together, case("torch==1.12.1", "tensorrt==8.6.1")).mend.startswith("pip install 'torch>=2.1'")


# environment.training_only and environment.installed


def test_what_only_training_needs_is_named_with_its_weight():
    here = {"jupyter": Installed("1.0", (), 12.4)}
    found = list(surplus.judge(case("jupyter", "torch", "onnxruntime", installed=here)))
    assert [(one.law, one.severity, one.place) for one in found] == [
        ("environment.training_only", "warning", "package jupyter"),
        ("environment.training_only", "warning", "package torch"),
    ]
    assert "12 MB" in found[0].evidence
    assert "MB" not in found[1].evidence
    assert found[0].mend == "strike it out of line 1"


@pytest.mark.parametrize("serving", [("torch", "numpy"), ("onnxruntime", "numpy", "scikit-learn", "mlflow-skinny")])
def test_what_serving_needs_is_silent(serving):
    assert said(surplus, case(*serving)) == []


def test_other_versions_than_here_are_one_note():
    here = {"numpy": Installed("2.4.6", (), 1.0), "scipy": Installed("1.11", (), 1.0)}
    finding = only(surplus, case("numpy==2.0.0", "scipy==1.11", "gone==1", "open", installed=here))
    assert (finding.law, finding.severity) == ("environment.installed", "note")
    assert finding.evidence == "2 of 3 pinned packages are others here: numpy 2.0.0 (here 2.4.6), gone 1 (here none)"
    assert said(surplus, case("scipy==1.11", installed=here)) == []


# Ranges of versions


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (">=1,<2", ">=2", False),
        (">=1,<=2", ">=2", True),
        ("<2", ">1.9", True),
        (">1.9,<2", "!=1.9.5", True),
        ("==1.2.*", "<1.2", False),
        ("==1.2.*", ">1.2", True),
        ("==1.2.*", "<=1.1.99", False),
        ("~=1.4.2", ">=1.5", False),
        ("~=1.4", "==1.9", True),
        ("==1.0", "!=1.0", False),
        ("", "==3.0a1", True),
        ("==2.3.1+cu121", "==2.3.1", True),
        ("<0", "", False),
        ("<2.0.dev0", ">=1.9", True),
        (">=1!1.0", "<2", False),
        ("===odd", "==1", True),
    ],
)
def test_ranges_meet(one, other, expected):
    assert meet(SpecifierSet(one), SpecifierSet(other)) is expected
    assert meet(SpecifierSet(other), SpecifierSet(one)) is expected


def test_a_pin_is_one_version():
    assert Package("a", SpecifierSet("==1.2"), "").pinned == Version("1.2")
    assert Package("a", SpecifierSet("==1.2.*"), "").pinned is None
    assert Package("a", SpecifierSet("==1.2.*"), "").near == Version("1.2")
    assert Package("a", SpecifierSet(">=1.2"), "").near is None
