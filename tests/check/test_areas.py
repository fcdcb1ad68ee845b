"""All areas together."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import msgspec
import numpy as np
import pytest

from shipworthy import check
from shipworthy.check import apart, areas
from shipworthy.data import Dataset
from shipworthy.errors import Refused

from .small import X, Y, relu, said


def unmeasured(report):
    """All but the one figure that is never twice the same."""
    return [one for one in report.findings if one.law != "graph.fused"]


def test_every_law_is_applied_and_announced(taken):
    heard = []

    class Ear:
        def emit(self, record):
            heard.append((record.stage, record.text, record.done, record.total))

    check.run(taken(relu(), [X], [Y]), sink=Ear())
    assert heard == [("check", name, done, len(areas.OF_MODELS)) for done, name in enumerate(areas.OF_MODELS)]


def test_findings_of_file_and_model_stand_side_by_side(taken, origin):
    model = taken(relu(), [("x", "float32", None)], [("y", "float32", None)], opset=13, ir_version=7)
    report = check.inspect(origin(model)) + check.run(model)
    assert {one.law for one in report.errors} == {"format.valid", "signature.batch"}
    assert ("warning", "opset 13") in said(report.findings)
    assert report.laws == tuple(dict.fromkeys((*areas.OF_FILES, *areas.OF_MODELS)))


def test_a_process_of_its_own_finds_the_same(digits, origin):
    framework = check.reference(digits.model, trust=True)
    file = replace(origin(digits.model), trust=True)
    assert check.apart.inspect(file) == check.inspect(file)
    apart_from_us = check.apart.run(digits.model, file, digits.evaluation)
    assert unmeasured(apart_from_us) == unmeasured(check.run(digits.model, digits.evaluation, framework))


@pytest.mark.parametrize("end", ["signal.SIGSEGV", "signal.SIGKILL"])
def test_a_crash_is_a_finding_and_the_other_areas_go_on(taken, origin, monkeypatch, end):
    """The area of signatures kills its own process, as a library that crashes would."""
    model = taken(relu(), [X], [Y])
    monkeypatch.setattr(apart.child, "run", partial(dying, apart.child.run, end))
    report = apart.run(model, origin(model))
    assert [one.law for one in report.errors] == ["format.contained"]
    assert report.errors[0].place == "area signature"
    assert {one.law for one in report.findings} >= {"format.contained", "numbers.parity", "memory.peak"}


def test_a_file_that_changes_meanwhile_is_a_refusal_and_no_finding(digits, origin):
    """So a caller reads what to do, and not the end of a log."""
    source = msgspec.structs.replace(digits.model.source, digest="0" * 64)
    other = msgspec.structs.replace(digits.model, source=source)
    with pytest.raises(Refused, match="changed while it was checked"):
        apart.run(other, replace(origin(other), trust=True))


def dying(run, end, arguments, *rest):
    """The child's program, with an area that dies in the middle."""
    flag, program, job = arguments
    dies = f"import os, signal; from shipworthy.check import areas; areas.OF_MODELS['signature'] = lambda _: os.kill(0, {end})"
    dies = dies.replace("os.kill(0", "os.kill(os.getpid()")
    return run((flag, f"{dies}; {program}", job), *rest)


def test_data_of_another_name_is_no_dataset_of_this_model(taken):
    model = taken(relu(), [X], [Y])
    wrong = Dataset("d", "", {"z": np.zeros((3, 2), np.float32)})
    with pytest.raises(Exception, match="inputs are not those of the model"):
        check.run(model, wrong, lambda inputs: [inputs["z"]])
