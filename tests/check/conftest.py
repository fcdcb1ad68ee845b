"""Small models before the laws."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.check.intake import read_proto
from shipworthy.check.subject import Origin, Subject
from shipworthy.records import Target

CPU = Target()


@pytest.fixture
def subject():
    """A model from ``taken`` as the laws of models look at it."""

    def build(model, data=None, reference=None, target=CPU):
        path = Path(model.path)
        return Subject(model, read_proto(path), OnnxRuntimeRunner(path, Target()), data, reference, target)

    return build


@pytest.fixture
def origin():
    """A model from ``taken`` as the laws of files look at it."""
    return lambda model, target=CPU: Origin(Path(model.path), Path(model.source.path), target)
