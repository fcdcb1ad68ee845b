"""The whole area: from files to findings, whatever is in the files; the table; the head of a model."""

from __future__ import annotations

import re
import shutil
import time

import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import helper
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from shipworthy import check
from shipworthy.check import environment
from shipworthy.check.environment import head, table
from shipworthy.check.subject import Origin
from shipworthy.records import Target
from shipworthy.targets import KINDS


def said(findings):
    return [(one.law, one.severity) for one in findings]


@pytest.fixture
def model(tmp_path, onnx_model):
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    proto = onnx_model(nodes, [("x", "float32", [None, 2])], [("y", "float32", [None, 2])], opset=22)
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_without_a_list_one_note_says_how_to_name_one(model):
    (finding,) = environment.look(Origin(model, model))
    assert (finding.law, finding.severity, finding.place) == ("environment.readable", "note", "[check] environment")
    assert "--environment requirements.txt" in finding.evidence


def test_lists_are_held_against_model_target_and_each_other(tmp_path, model):
    (tmp_path / "serve.txt").write_text("onnxruntime==1.20.1\nnumpy==1.26.4\npython-dotenv\n")
    (tmp_path / "train.txt").write_text("numpy==2.0.2\nskl2onnx==1.20.0\n")
    origin = Origin(model, model, KINDS["cuda"], serving=(tmp_path / "serve.txt",), training=(tmp_path / "train.txt",))
    found = list(environment.look(origin))
    assert [one for one in said(found) if one[0] != "environment.installed"] == [
        ("environment.pins", "warning"),
        ("environment.apart", "error"),
        ("environment.runtime", "error"),
        ("environment.cuda", "error"),
    ]
    assert all(one.evidence and (one.mend or one.severity == "note") for one in found)


def test_training_alone_is_judged_too(tmp_path, model):
    (tmp_path / "train.txt").write_text("torch==2.9.1\n")
    assert said(environment.look(Origin(model, model, training=(tmp_path / "train.txt",)))) == [
        ("environment.framework", "warning")
    ]


def test_a_list_of_what_is_here_is_silent(tmp_path, model):
    here = environment.installed(frozenset({"onnxruntime", "numpy", "protobuf", "packaging", "flatbuffers"}))
    lines = "".join(f"{name}=={one.version}\n" for name, one in here.items())
    assert len(here) == 5
    (tmp_path / "freeze.txt").write_text(lines)
    assert said(environment.look(Origin(model, model, serving=(tmp_path / "freeze.txt",)))) == []


def test_extras_do_not_count_for_serving(tmp_path, model):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["numpy==2.4.6"]\n[project.optional-dependencies]\nold = ["torch==2.2.2"]\n'
    )
    found = list(environment.look(Origin(model, model, serving=(tmp_path / "pyproject.toml",))))
    assert ("environment.readable", "note") in said(found)
    assert not any(one.law == "environment.python" for one in found)


def test_the_area_runs_in_a_process_of_its_own(tmp_path, model):
    (tmp_path / "serve.txt").write_text("onnxruntime==1.20.1\n")
    origin = Origin(model, model, serving=(tmp_path / "serve.txt",))
    report = check.apart.inspect(origin, ["environment"])
    assert report == check.inspect(origin, ["environment"])
    assert ("environment.runtime", "error") in said(report.errors)


def test_every_law_has_a_name_of_this_area_and_all_its_clauses():
    names = [law.name for law in environment.LAWS]
    assert len(set(names)) == 10
    for law in environment.LAWS:
        assert law.name.startswith("environment.")
        assert all(text and not text.endswith(".") for text in (law.holds, law.breaks))
        assert law.mend or law.severity == "note"


# The head of a model


@pytest.mark.parametrize(("opset", "ir"), [(7, 3), (21, 10), (28, 14)])
def test_the_head_is_what_onnx_reads(tmp_path, onnx_model, opset, ir):
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    specs = [("x", "float32", [None, 2])], [("y", "float32", [None, 2])]
    proto = onnx_model(nodes, *specs, opset=opset, ir_version=ir, domains={"ai.onnx.ml": 3, "com.x": 1})
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert head.read(path) == (opset, ir)
    shutil.copy(path, tmp_path / "cut.onnx")
    with (tmp_path / "cut.onnx").open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    assert head.read(tmp_path / "cut.onnx") is None


def test_the_head_is_read_without_the_weights(tmp_path):
    """A file of 4 GB, of which nobody reads more than its edges."""
    proto = onnx.ModelProto(ir_version=10, opset_import=[helper.make_opsetid("", 21)])
    size = 4 * 10**9
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.write(b"\x3a" + bytes([(size >> shift & 0x7F) | 0x80 for shift in (0, 7, 14, 21)] + [size >> 28]))
        file.seek(size, 1)
        file.write(proto.SerializeToString())
    begun = time.perf_counter()
    assert head.read(path) == (21, 10)
    assert time.perf_counter() - begun < 1


@given(st.binary(max_size=200))
def test_the_head_of_anything_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(data)
    assert head.read(path) is None or all(isinstance(one, int) for one in head.read(path) or ())


# Whatever text there is

NAMES = {"requirements.txt", "pyproject.toml", "conda.yaml", "python_env.yaml", "MLmodel"}
LIST = [
    "numpy==2.0",
    "torch",
    "=",
    "==",
    ">=1.2",
    "<2",
    "\\\n",
    "# x",
    "-r ",
    "-c a.txt",
    "-e .",
    "\n",
    "\n  - ",
    " ",
    "\t",
    "\0",
]
TOML = [
    "[project]\n",
    "dependencies = [",
    '"numpy>=1"',
    "]",
    "requires-python = '>=3'",
    "[tool.poetry.dependencies]\n",
    "a='^1'",
]
YAML = [
    "dependencies:",
    "\n- pip:",
    "\n  - ",
    "python: 3.11",
    "python=3.11",
    "'",
    '"',
    "{",
    "&a",
    "*",
    "|",
    "---",
    "\n  sklearn_version: 1",
]
ENDS = ["; extra == 'x'", "; python_version < '3'", " @ https://x/y", "~=1", "===odd", "1!2.0", "9" * 5000, "\ufeff", "\u2028"]
KNOWN = ["onnxruntime-gpu==1.31.1", "cudatoolkit=11.3", "tensorrt==8.6.1", "onnxruntime==1.17.3", "scikit-learn<1.4"]
PIECES = st.sampled_from([*LIST, *TOML, *YAML, *ENDS, *KNOWN])
TEXTS = st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=30).map("".join))


@given(TEXTS, st.sampled_from(sorted(NAMES)), st.sampled_from([None, *KINDS]))
@example("[project]\ndependencies=[" + "[" * 3000, "pyproject.toml", None)
@example("x = " + "9" * 5000, "pyproject.toml", None)
@example("torch==" + "9" * 900 + "\nnumpy>=" + "9" * 900, "requirements.txt", "cuda")
@example("-r requirements.txt\n-r \0\n-r " + "x" * 5000, "requirements.txt", None)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_as_any_kind_of_list_never_raises(tmp_path, text, name, kind):
    folder = tmp_path / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "requirements.txt").write_text("numpy==2.0.0\n")
    (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    target = KINDS[kind] if kind else Target()
    lists = (folder / name, folder)
    origin = Origin(tmp_path / "m.onnx", tmp_path / "m.onnx", target, serving=lists, training=lists)
    for finding in environment.look(origin):
        assert finding.law.startswith("environment.")
        assert finding.evidence
        assert len(finding.evidence) < 5_000


@pytest.mark.parametrize(
    "content",
    [
        " " * 900_000 + "x",
        "a" * 900_000,
        "torch==2.9.1 " + "\\\n " * 9_990,
        "".join(f"torch==2.9.{number}\n" for number in range(9_999)),
        "".join(f"numpy>=1.{number}\nonnxruntime-gpu==1.{number}\n" for number in range(4_999)),
        "".join(f"p{number}\n" for number in range(9_999)),
    ],
    ids=["blanks", "one word", "continued", "one package", "two packages", "many packages"],
)
@pytest.mark.slow
def test_the_largest_lists_are_judged_in_seconds(tmp_path, content):
    (tmp_path / "large.txt").write_text(content)
    lists = (tmp_path / "large.txt",)
    origin = Origin(tmp_path / "m.onnx", tmp_path / "m.onnx", KINDS["jetson-orin"], serving=lists, training=lists)
    begun = time.perf_counter()
    found = list(environment.look(origin))
    assert time.perf_counter() - begun < 20
    assert found
    assert len(found) < 200


# The table


def test_every_fact_has_a_source_with_a_date_and_every_source_a_fact():
    known = table.table()
    rows = [
        row
        for name in ("onnx", "onnxruntime", "exporter", "gpu", "jetpack", "numpy2", "metadata", "pair")
        for row in getattr(known, name)
    ]
    named = {source for row in rows for source in row.source.split(", ")}
    assert named == set(known.sources)
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\d", one.date) and one.title for one in known.sources.values())


def test_rows_are_well_formed_and_in_order():
    known = table.table()
    for rows in (known.onnx, known.onnxruntime):
        releases = [Version(row.release) for row in rows]
        assert releases == sorted(set(releases))
        assert [row.opset for row in rows] == sorted(row.opset for row in rows)
    for row in known.metadata:
        assert SpecifierSet(row.python) is not None
        assert all(Requirement(line).specifier for line in row.needs)
    assert len({(row.package, row.release) for row in known.metadata}) == len(known.metadata)
    for row in known.pair:
        assert SpecifierSet(row.range)
    assert {kind for row in known.jetpack for kind in row.kinds} <= set(KINDS)


def test_the_table_knows_the_onnx_that_is_installed():
    """Its own table of versions is where ours comes from."""
    for release, ir, opset, *_ in helper.VERSION_TABLE:
        row = table.writes(Version(release))
        assert row is None or (row.opset, row.ir) == (opset, ir)
    newest = table.writes(Version(onnx.__version__))
    assert newest is not None
    assert (newest.opset, newest.ir) == (onnx.defs.onnx_opset_version(), onnx.IR_VERSION)


def test_the_table_knows_what_the_onnxruntime_that_is_installed_loads(tmp_path, onnx_model):
    ort = pytest.importorskip("onnxruntime")
    row = next(one for one in table.table().onnxruntime if ort.__version__.startswith(f"{one.release}."))

    def loads(opset, ir):
        nodes = [helper.make_node("Relu", ["x"], ["y"])]
        proto = onnx_model(nodes, [("x", "float32", [None])], [("y", "float32", [None])], opset=opset, ir_version=ir)
        try:
            ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        except Exception:  # noqa: BLE001  whatever it raises: it does not load
            return False
        return True

    assert loads(row.opset, 7)
    assert not loads(row.opset + 1, 7)
    assert loads(14, row.ir)
    assert not loads(14, row.ir + 1)


def test_rows_hold_from_one_release_to_the_next_and_not_beyond_what_is_known():
    rows = table.table().gpu

    def cuda(version):
        row = table.at(rows, "onnxruntime-gpu", Version(version))
        return row.cuda if row else None

    assert [cuda(one) for one in ("1.14", "1.18.1", "1.19", "1.26.9", "1.27.0", "1.31.1", "1.32.0")] == [
        None, (11,), (12,), (12,), (13,), (13,), None,
    ]  # fmt: skip
