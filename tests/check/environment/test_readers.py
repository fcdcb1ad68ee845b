"""Each kind of list: what is read of it, with file and line, and what is said of the rest."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from shipworthy.check.environment import blocks, reading, text


@pytest.fixture
def lists(tmp_path):
    """Write files and read the first of them."""

    def read(**files):
        paths = []
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("_txt", ".txt").replace("_toml", ".toml").replace(
                "_yaml", ".yaml"
            )
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            paths.append(path)
        return reading.open_list(paths[0])

    return read


def named(listing):
    return [str(one) for one in listing.packages]


def test_requirements_are_read_line_by_line(lists):
    listing = lists(
        requirements_txt="""# pinned
numpy==1.26.4  # a comment
Scikit_Learn[alldeps] >=1.3 , <1.5
--index-url https://example.com/simple
torch==2.3.1+cu121 \\
    --hash=sha256:aaaa \\
    --hash=sha256:bbbb
onnx ; python_version < "3"
onnxruntime; python_version >= "3.8"
-e git+https://example.com/x.git#egg=x
mine @ https://example.com/mine-1.0-py3-none-any.whl
./here.whl
half a line
=1.0
"""
    )
    assert named(listing) == [
        "numpy==1.26.4 (requirements.txt, line 2)",
        "scikit-learn<1.5,>=1.3 (requirements.txt, line 3)",
        "torch==2.3.1+cu121 (requirements.txt, line 5)",
        "onnxruntime (requirements.txt, line 9)",
    ]
    assert [line.split(":")[0] for line in listing.unread] == ["requirements.txt, line 13", "requirements.txt, line 14"]
    assert [line.split(":")[0].split()[-1] for line in listing.unjudged] == ["10", "11", "12"]


def test_requirements_include_files_of_their_folder_once(lists):
    listing = lists(
        requirements_txt="-r sub/more.txt\n--requirement=sub/more.txt\n-csub/limits.txt\nnumpy>=1.20\n",
        sub__more_txt="-r ../requirements.txt\nonnx==1.16.0\n",
        sub__limits_txt="numpy<2\nscipy==1.11\n",
    )
    assert named(listing) == ["onnx==1.16.0 (more.txt, line 2)", "numpy<2,>=1.20 (requirements.txt, line 4)"]
    assert listing.unread == ()


@pytest.mark.parametrize(
    ("line", "says"),
    [("-r ../../outside.txt", "outside of the folder"), ("-r gone.txt", "there is no such file"), ("-r \0", "is no file")],
)
def test_an_include_that_cannot_be_read_is_said(lists, line, says):
    listing = lists(requirements_txt=f"numpy==2.0\n{line}\n")
    assert named(listing) == ["numpy==2.0 (requirements.txt, line 1)"]
    assert len(listing.unread) == 1
    assert says in listing.unread[0]


def test_an_endless_row_of_includes_ends(lists, tmp_path):
    for number in range(40):
        (tmp_path / f"r{number}.txt").write_text(f"-r r{number + 1}.txt\n")
    listing = lists(requirements_txt="-r r0.txt\n")
    assert listing.unread[0].endswith("more than 20 files")


def test_what_pip_freeze_prints_is_read(lists):
    listing = lists(
        freeze_txt="""absl-py==2.5.1
-e git+ssh://git@example.com/x/y@0123456#egg=y
# Editable install with no version control (z==0.1)
-e /some/folder
wheel @ file:///tmp/wheel.whl
"""
    )
    assert named(listing) == ["absl-py==2.5.1 (freeze.txt, line 1)"]
    assert listing.unread == ()
    assert len(listing.unjudged) == 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_editors_are_read(lists, encoding):
    assert named(lists(freeze_txt="numpy==2.0.0\r\n".encode(encoding))) == ["numpy==2.0.0 (freeze.txt, line 1)"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfenumpy", "no text in utf-16"),
        (b"numpy\x80", "no text in utf-8"),
        (b"#" * (text.LIMIT_BYTES + 1), "more than 1000000 bytes"),
        (b"\n" * (text.LIMIT_LINES + 1), "10001 lines"),
    ],
)
def test_what_is_no_list_is_refused(lists, content, says):
    with pytest.raises(text.Unreadable, match=says):
        lists(freeze_txt=content)


def test_pyproject_is_read_with_extras_and_python(lists):
    listing = lists(
        pyproject_toml="""
[project]
requires-python = ">=3.10"
dependencies = ["numpy>=1.26", "onnxruntime==1.20.1; sys_platform == 'linux'", "what even", 3]
[project.optional-dependencies]
gpu = ["onnxruntime-gpu==1.20.1"]
"""
    )
    assert named(listing) == [
        "python>=3.10 (pyproject.toml, requires-python)",
        "numpy>=1.26 (pyproject.toml, dependencies)",
        "onnxruntime==1.20.1 (pyproject.toml, dependencies)",
        "onnxruntime-gpu==1.20.1 (pyproject.toml, extra gpu)",
    ]
    assert [one.extra for one in listing.packages] == ["", "", "", "gpu"]
    assert named(listing.always()) == named(listing)[:3]
    assert len(listing.unread) == 2


@pytest.mark.parametrize(
    ("wanted", "range_"),
    [
        ('"^1.2.3"', "<2,>=1.2.3"),
        ('"^0.2.3"', "<0.3,>=0.2.3"),
        ('"^0.0.3"', "<0.0.4,>=0.0.3"),
        ('"~1.2.3"', "<1.3,>=1.2.3"),
        ('"~1"', "<2,>=1"),
        ('"1.2.3"', "==1.2.3"),
        ('"1.2.*"', "==1.2.*"),
        ('"*"', ""),
        ('">=1.2,<2"', "<2,>=1.2"),
        ('"~=1.2"', "~=1.2"),
        ('{version = "^1.2", extras = ["x"]}', "<2,>=1.2"),
    ],
)
def test_poetry_has_its_own_words(lists, wanted, range_):
    listing = lists(pyproject_toml=f"[tool.poetry.dependencies]\npython = '^3.11'\nnumpy = {wanted}\n")
    assert named(listing) == ["python<4,>=3.11 (pyproject.toml, tool.poetry)", f"numpy{range_} (pyproject.toml, tool.poetry)"]


def test_poetry_without_a_version_is_not_judged(lists):
    content = "[tool.poetry.dependencies]\na = {git = 'x'}\nb = '1 || 2'\nc = 'odd'\nd = {version = '1.0', optional = true}\n"
    listing = lists(pyproject_toml=content)
    assert (len(listing.unjudged), len(listing.unread)) == (2, 1)
    assert [one.extra for one in listing.packages] == ["optional"]


@pytest.mark.parametrize(
    ("content", "says"), [("a = [", "no TOML"), ("[tool.ruff]\n", "neither"), ("x = " + "[" * 5000, "no TOML")]
)
def test_a_pyproject_without_packages_is_refused(lists, content, says):
    with pytest.raises(text.Unreadable, match=says):
        lists(pyproject_toml=content)


CONDA = """name: model
channels: [conda-forge, defaults]
dependencies:
  - python=3.11   # ours
  - numpy=1.26.4=py311h64a7726_0
  - conda-forge::scipy =1.11
  - pytorch==2.3.1
  - "cudatoolkit>=11.8,<12"
  - cudnn 8.9.*
  - mkl=2023|2024
  - pip
  - pip:
    - onnxruntime==1.20.1
    - -r more.txt
    - git+https://example.com/x
  - joblib
variables:
  A: {b: c}
prefix: /opt/x
"""


def test_conda_is_read_with_the_list_of_pip(lists):
    listing = lists(conda_yaml=CONDA)
    assert named(listing) == [
        "python==3.11.* (conda.yaml, line 4)",
        "numpy==1.26.4 (conda.yaml, line 5)",
        "scipy==1.11.* (conda.yaml, line 6)",
        "torch==2.3.1 (conda.yaml, line 7)",
        "cudatoolkit<12,>=11.8 (conda.yaml, line 8)",
        "cudnn==8.9.* (conda.yaml, line 9)",
        "pip (conda.yaml, line 11)",
        "joblib (conda.yaml, line 16)",
        "onnxruntime==1.20.1 (conda.yaml, line 13)",
    ]
    assert listing.unread == ()
    assert [line.split(":")[0].split()[-1] for line in listing.unjudged] == ["10", "14", "15"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("dependencies:\n  - &a numpy", "line 2: it is YAML of a kind"),
        ("dependencies: [numpy]", "line 1: it is YAML of a kind"),
        ("dependencies:\n  numpy: 1", "line 2: it is no list"),
        ("dependencies:\n  - numpy\n    - scipy", "line 3: it is indented"),
        ("dependencies:\n    - numpy\n  - scipy", "line 3: it is indented"),
        ("dependencies:\n  - 'numpy", "line 2: it has a quote"),
        ("dependencies:\n- a\ndependencies:\n- b", "line 3: 'dependencies' stands there twice"),
        ("dependencies:\n\t- numpy", "line 2: it is no list"),
        ("just words", "line 1: it is no key"),
        ("name: x\nchannels:\n- a\n", "no dependencies"),
        ("", "no dependencies"),
    ],
)
def test_yaml_that_is_not_read_is_refused_by_line(lists, content, says):
    with pytest.raises(text.Unreadable, match=says):
        lists(conda_yaml=content)


def test_lines_that_are_no_package_are_named(lists):
    assert "line 2: '=1.0' is no package" in lists(conda_yaml="dependencies:\n- =1.0\n").unread[0]
    assert "line 2: '>>1' is no range" in lists(conda_yaml="dependencies:\n- numpy >>1\n").unread[0]
    assert "dependencies: no list" in lists(pyproject_toml="[project]\ndependencies = 'numpy'\n").unread[0]
    env = lists(env_yaml="python: '3.11'\nbuild_dependencies:\n- pip\ndependencies:\n- numpy==2.0.0\n")
    assert named(env) == ["python==3.11 (env.yaml, python)", "numpy==2.0.0 (env.yaml, line 5)"]


def test_a_version_of_somebodys_own_build_is_skipped(lists, tmp_path):
    lists(m__requirements_txt="numpy==2.0.0\n", m__MLmodel="flavors:\n  pytorch:\n    pytorch_version: 2.1.0a0-nv\n")
    assert reading.open_list(tmp_path / "m").logged == ()


def test_the_rest_of_a_yaml_file_is_skipped():
    lines = ["a: &x {b: [c]}", "d: |", "  text:", "  - more", "dependencies:", "- x"]
    assert blocks.parse(lines, frozenset({"dependencies"}))["dependencies"].items == [(6, "x")]


def test_mlflow_has_lists_and_what_it_was_made_with(lists, tmp_path):
    lists(
        model__requirements_txt="mlflow==2.15.1\nscikit-learn==1.5.2\n",
        model__conda_yaml="channels:\n- conda-forge\ndependencies:\n- python=3.11.7\n- pip<=24\n- pip:\n  - mlflow==2.15.1\n"
        "  - scikit-learn==1.5.2\nname: mlflow-env\n",
        model__python_env_yaml="python: 3.11.7\nbuild_dependencies:\n- pip==24\n- setuptools\n"
        "dependencies:\n- -r requirements.txt\n",
        model__MLmodel="flavors:\n  python_function:\n    python_version: 3.11.7\n  sklearn:\n    sklearn_version: 1.5.1\n"
        '    code: null\nmlflow_version: 2.15.1\nsignature:\n  inputs: \'[{"type": "x",\n    "y": 1}]\'\n',
    )
    listing = reading.open_list(tmp_path / "model")
    assert named(listing) == [
        "mlflow==2.15.1 (requirements.txt, line 1)",
        "scikit-learn==1.5.2 (requirements.txt, line 2)",
        "python==3.11.7.* (conda.yaml, line 4)",
        "pip<=24 (conda.yaml, line 5)",
        "python==3.11.7 (python_env.yaml, python)",
    ]
    assert [str(one) for one in listing.logged] == [
        "python==3.11.7 (MLmodel, line 3)",
        "scikit-learn==1.5.1 (MLmodel, line 5)",
    ]


@pytest.mark.slow
def test_what_mlflow_really_logs_is_read(tmp_path):
    """The files of the MLflow that is installed, for a model of scikit-learn."""
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415

    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        mlflow = pytest.importorskip("mlflow.sklearn")
        mlflow.save_model(model, tmp_path / "model", pip_requirements=["scikit-learn==1.5.2", "numpy==2.0.2"])
    listing = reading.open_list(tmp_path / "model")
    assert {"scikit-learn", "numpy", "python"} <= {one.name for one in listing.packages}
    assert {"scikit-learn", "python"} == {one.name for one in listing.logged}
    assert listing.unread == ()


def test_a_folder_without_lists_is_refused(tmp_path):
    with pytest.raises(text.Unreadable, match=r"none of requirements\.txt"):
        reading.open_list(tmp_path)


@pytest.mark.parametrize("path", ["gone.txt", "a\0b.txt", "x" * 5000])
def test_a_path_that_is_no_file_is_a_finding(tmp_path, path):
    found = reading.read([tmp_path / path]).findings
    assert [(one.law, one.severity) for one in found] == [("environment.readable", "error")]
    assert found[0].evidence
    assert found[0].mend


def test_one_broken_list_does_not_hide_the_others(tmp_path):
    (tmp_path / "a.txt").write_text("numpy==2.0\nodd line\n")
    (tmp_path / "b.txt").write_text("scipy==1.11\n")
    (tmp_path / "c.txt").write_text("# nothing\n-e .\n")
    read = reading.read([tmp_path / "gone.toml", *(tmp_path / name for name in ("a.txt", "b.txt", "c.txt"))])
    assert [one.name for one in read.listing.packages] == ["numpy", "scipy"]
    assert [(one.severity, Path(one.place).name) for one in read.findings] == [
        ("error", "gone.toml"),
        ("warning", "a.txt"),
        ("note", "c.txt"),
        ("warning", "c.txt"),
    ]
    assert "a.txt, line 2: 'odd line' is no requirement" in read.findings[1].evidence
    assert "c.txt, line 2: an editable folder" in read.findings[2].evidence


def test_a_whole_list_is_read_without_a_word(tmp_path):
    (tmp_path / "a.txt").write_text("numpy==2.0\n")
    assert reading.read([tmp_path / "a.txt"]).findings == ()
