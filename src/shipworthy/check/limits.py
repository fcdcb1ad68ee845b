"""What the target's runtime takes at most of ONNX: operator sets and IR versions. Pure.

onnxruntime: the measured rows of ``environment/table.toml``. TensorRT, taken down 2026-11-28: NVIDIA's page "ONNX Opset
Guide" of TensorRT 11 (at least 9, at most 25) and the notes of release 11.5 (support of opset 25 added); releases before take
less, and for some of them NVIDIA names no number. OpenVINO 2026.4.1 reads Relu of opset 40 and IR 16: it has no limit of its
own, only operators that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import Version

from shipworthy.check.environment.table import loads
from shipworthy.records import Target


@dataclass(frozen=True)
class Limit:
    """The versions that a runtime loads; ``ir`` is the highest, ``None`` where none is known."""

    runtime: str
    opsets: range
    ir: int | None


TENSORRT = Limit("TensorRT 11.5, and all before it,", range(9, 26), None)


def of(target: Target, onnxruntime: str) -> Limit | None:
    """The limit of the target's runtime; ``None`` where none is known.

    Args:
        target: where the model will run.
        onnxruntime: the version that runs here.
    """
    if target.runtime == "tensorrt":
        return TENSORRT
    row = loads(Version(onnxruntime))
    if target.runtime != "onnxruntime" or row is None:
        return None
    return Limit(f"onnxruntime {onnxruntime}", range(1, row.opset + 1), row.ir)
