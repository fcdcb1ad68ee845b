"""What each runtime takes at most of ONNX: operator sets and IR versions. A dated table; pure.

Taken down 2026-11-28. onnxruntime: measured, the wheels 1.23.2 to 1.32.0, each asked to load one Relu of every opset and IR
version. TensorRT: NVIDIA's page "ONNX Opset Guide" of TensorRT 11 (at least 9, at most 25) and the notes of release 11.5
(support of opset 25 added); releases before take less, and for some of them NVIDIA names no number. OpenVINO 2026.4.1 reads
Relu of opset 40 and IR 16: it has no limit of its own, only operators that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass

from shipworthy.records import Target


@dataclass(frozen=True)
class Limit:
    """The versions that a runtime loads; ``ir`` is the highest, ``None`` where none is known."""

    runtime: str
    opsets: range
    ir: int | None


# From which release of onnxruntime on: highest opset, highest IR version.
ONNXRUNTIME: dict[tuple[int, int], tuple[int, int]] = {
    (1, 23): (23, 11),
    (1, 24): (25, 13),
    (1, 25): (26, 13),
    (1, 32): (28, 14),
}
# Of a later release than this one the table says nothing.
MEASURED = (1, 32)
TENSORRT = Limit("TensorRT 11.5, and all before it,", range(9, 26), None)


def of(target: Target, onnxruntime: str) -> Limit | None:
    """The limit of the target's runtime; ``None`` where none is known.

    Args:
        target: where the model will run.
        onnxruntime: the version that runs here.
    """
    if target.runtime == "tensorrt":
        return TENSORRT
    release = tuple(int(part) for part in onnxruntime.split(".")[:2])
    known = [since for since in ONNXRUNTIME if since <= release]
    if target.runtime != "onnxruntime" or not known or release > MEASURED:
        return None
    opset, ir = ONNXRUNTIME[max(known)]
    return Limit(f"onnxruntime {onnxruntime}", range(1, opset + 1), ir)
