"""The user's own metric: called apart, paired draws, and whatever it does, one clear error and no process left."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from shipworthy.data import Dataset
from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.measure import metrics, own, quality
from shipworthy.settings import for_model, parse

OUTPUTS = {"out": np.array([1, 2, 3, 4]), "text": np.array(["a", "b", "c", "d"], object)}
LABELS = np.array([1, 2, 3, 5])


def settings(tmp_path, metric, trust=True):
    plain = {"model": {"name": "m", "path": "m.onnx", "trust": trust}, "data": {"metric": metric}}
    return parse(plain, str(tmp_path / "shipworthy.toml"))


def write(tmp_path, body):
    file = tmp_path / "score.py"
    file.write_text("import os, sys, time\nimport numpy as np\n" + body)
    return file


def called(tmp_path, body, function="f"):
    return own.score(f"{write(tmp_path, body)}:{function}", OUTPUTS, LABELS, tmp_path)


def test_outputs_and_labels_are_given_and_the_number_comes_back(tmp_path):
    body = (
        "def f(outputs, labels):\n    assert list(outputs['text'])[0] in 'abcd'\n    return (outputs['out'] == labels).mean()\n"
    )
    value, draws = called(tmp_path, body)
    assert value == 0.75
    assert len(draws) == own.DRAWS
    assert 0.25 < draws.mean() < 1


def test_the_draws_are_those_of_our_own_metrics(tmp_path):
    """So that what a variant keeps is paired whatever the metric."""
    _, draws = called(tmp_path, "def f(outputs, labels):\n    return (outputs['out'] == labels).mean()\n")
    ours = quality.bootstrap(metrics.score(metrics.named("accuracy"), OUTPUTS, LABELS, "out"), 4)
    assert draws == pytest.approx(ours.draws[: own.DRAWS] / 100)


def test_it_is_a_figure_with_its_margin(tmp_path):
    write(tmp_path, "def f(outputs, labels):\n    print('noise')\n    return -float(abs(outputs['out'] - labels).mean())\n")
    metric = own.named(settings(tmp_path, "score.py:f"))
    data = Dataset("d", "d", {"x": np.zeros(4)}, LABELS)
    (figure, agreement) = quality.figures(metric, {"original": OUTPUTS}, data, "out", tmp_path)["original"]
    assert (figure.name, figure.unit, figure.median) == ("metric", "", -0.25)
    assert figure.low < figure.median < figure.high
    assert agreement.name == "agreement_percent"


def test_its_file_is_part_of_what_it_is(tmp_path):
    file = write(tmp_path, "def f(outputs, labels): return 1\n")
    metric = own.named(settings(tmp_path, "score.py:f"))
    assert metric.name == f"{file}:f"
    assert metric.code == file_digest(file)
    assert own.short(metric.name) == "score.py:f"
    assert own.short("package.module:f") == "package.module:f"
    assert own.named(for_model(tmp_path / "m.onnx")).name == "accuracy"


def test_a_module_is_found_and_not_executed(tmp_path, monkeypatch):
    package = tmp_path / "kept_apart"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemError('imported')\n")
    (package / "scores.py").write_text("def f(outputs, labels): return 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    metric = own.named(settings(tmp_path, "kept_apart.scores:f"))
    assert metric.code == file_digest(package / "scores.py")
    assert "kept_apart" not in sys.modules
    (package / "__init__.py").write_text("")
    assert own.score(metric.name, OUTPUTS, LABELS, tmp_path)[0] == 2


def test_without_trust_nothing_is_executed(tmp_path):
    with pytest.raises(Refused, match=r"the metric score.py:f executes code") as caught:
        own.named(settings(tmp_path, "score.py:f", trust=False))
    assert "trust = true" in caught.value.next


@pytest.mark.parametrize("metric", ["gone.py:f", "no_such_module:f", "os.nothing:f", "sys:f", "folder.py:f"])
def test_a_function_in_no_file(tmp_path, metric):
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(Refused, match=r"there is no (file|module)"):
        own.named(settings(tmp_path, metric))


@pytest.mark.parametrize("metric", ["", "acuracy", "top_0", "top_", "score.py:", "score.py:f g", ":f", "top_5.5"])
def test_a_metric_that_is_none(tmp_path, metric):
    with pytest.raises(Refused, match=r"data.metric is not right"):
        settings(tmp_path, metric)


@pytest.mark.parametrize(
    ("body", "says", "found"),
    [
        ("def f(outputs, labels):\n    return 1 / 0\n", "raised ZeroDivisionError", "at line 4 of score.py"),
        ("def f(outputs, labels):\n    sys.exit(3)\n", "raised SystemExit", "SystemExit: 3"),
        ("def f(outputs):\n    return 1\n", "raised TypeError", "positional argument"),
        ("def f(outputs, labels):\n    return float('nan')\n", "gave no finite number", "nan"),
        ("def f(outputs, labels):\n    return np.inf\n", "gave no finite number", "inf"),
        ("def f(outputs, labels):\n    return {'a': 1}\n", "gave no number", "dict"),
        ("def f(outputs, labels):\n    return np.ones(3)\n", "gave no number", "ndarray"),
        ("def f(outputs, labels):\n    os._exit(7)\n", "ended its process", "exit code 7"),
        ("def f(outputs, labels):\n    os.kill(os.getpid(), 9)\n", "ended its process", "signal 9"),
        ("f = 3\n", "is no function", "f is a int"),
        ("g = 3\n", "could not be loaded", "has no attribute 'f'"),
        ("import no_such_thing\n", "could not be loaded", "No module named 'no_such_thing'"),
        ("def f(:\n", "could not be loaded", "SyntaxError"),
    ],
    ids=["raises", "exits", "arguments", "nan", "inf", "dict", "array", "dies", "killed", "number", "gone", "import", "syntax"],
)
def test_one_that_goes_wrong_is_one_clear_error(tmp_path, body, says, found):
    with pytest.raises(Refused, match=f"the metric score.py:f {says}") as caught:
        called(tmp_path, body)
    assert found in caught.value.found
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("def f(outputs, labels):\n    os._exit(7)\n", "exit code 7; its last words: none"),
        ("def f(:\n", "SyntaxError: invalid syntax (score.py, line 3)"),
        ("def f(outputs, labels):\n    return {'a': 1}\n", "dict"),
    ],
)
def test_what_went_wrong_is_told_without_a_word_of_ours(tmp_path, body, found):
    with pytest.raises(Refused) as caught:
        called(tmp_path, body)
    assert caught.value.found == found
    assert caught.value.next == "call score.py:f by hand on your rows"


def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "PATIENCE_SECONDS", 3.0)
    body = "import subprocess\ndef f(outputs, labels):\n"
    body += f"    p = subprocess.Popen(['sleep', '300'])\n    open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))\n"
    body += "    time.sleep(300)\n"
    start = time.monotonic()
    with pytest.raises(Refused, match=r"the metric score.py:f took longer than 3 s"):
        called(tmp_path, body)
    assert time.monotonic() - start < 20
    pid = int((tmp_path / "pid").read_text())
    while _runs(pid) and time.monotonic() - start < 20:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_draws_that_it_does_not_take_leave_no_margin_or_a_paired_one(tmp_path):
    never = "calls = []\ndef f(outputs, labels):\n    calls.append(1)\n    assert len(calls) == 1\n    return 1.0\n"
    assert called(tmp_path, never)[1].size == 0
    some = "def f(outputs, labels):\n    assert 5 in labels\n    return 1.0\n"
    draws = called(tmp_path, some)[1]
    assert len(draws) == own.DRAWS
    assert 0 < np.isnan(draws).sum() < own.DRAWS


def test_a_slow_one_is_drawn_as_often_as_time_allows(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "DRAWS_SECONDS", 0.3)
    own.rows.write(tmp_path / own.OUTPUTS, OUTPUTS)
    own.rows.write(tmp_path / own.LABELS, {"labels": LABELS})
    monkeypatch.setattr(own, "_function", lambda _: lambda _outputs, _labels: time.sleep(0.1) or 1.0)
    start = time.monotonic()
    assert own._called(tmp_path, "any:f") == {"value": 1.0, "draws": []}
    assert 0.3 < time.monotonic() - start < 5
