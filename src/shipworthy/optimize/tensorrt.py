"""The step after the passes for TensorRT: from a typed ONNX file to the plan of its engine.

Not a ``Pass``: an engine is no ONNX file, and belongs to one kind of GPU and one version. The plan is what travels; where
TensorRT is installed, ``backends.tensorrt.build`` builds from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from shipworthy.backends.onnx_graph import nodes
from shipworthy.backends.tensorrt_plan import Options, Plan, plan, trtexec
from shipworthy.errors import Refused
from shipworthy.files import file_digest, write_bytes
from shipworthy.records import Record, Signature, Target, encode

MULTIPLY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}
# Operators with their own arithmetic in INT8, which only CPUs have; what TensorRT takes is Q/DQ around float operators.
CPU_ONLY = ("DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger")
UNTAKEN: dict[int, str] = {
    TensorProto.UINT8: "uint8",
    TensorProto.INT32: "int32",
    TensorProto.UINT16: "uint16",
    TensorProto.INT16: "int16",
}
STANDARD = ("", "ai.onnx")


class Proposal(Record, frozen=True, kw_only=True):
    """What ``NAME.plan.json`` holds: the plan, the ONNX file beside it, and NVIDIA's command that builds the same.

    ``percent`` is the share of the multiplying nodes by precision, as the graph has them.
    """

    onnx: str
    plan: Plan
    percent: dict[str, float]
    command: tuple[str, ...]


def propose(path: Path, signature: Signature, target: Target, options: Options) -> Proposal:
    """The plan for a typed ONNX file; ``NAME.plan.json`` is written beside it.

    Raises:
        Refused: the file is not ONNX, was made for another device, or does not have the precision in its graph; or as
            ``tensorrt_plan.plan``.
        StorageFailed: the disk is full.
    """
    digest = file_digest(path)
    model = _load(path)
    try:
        types = _types(model)
        fault, percent = _fault(model, types), _percent(model, types)
    except Exception as error:  # noqa: BLE001  onnx raises anything on a graph that is not sound
        found = f"{type(error).__name__}: {str(error)[:200]}"
        raise Refused(f"{path} is not a sound ONNX model", found=found, next=f"shipworthy check {path} says more") from None
    if fault:
        raise Refused(
            f"{path} was not made for TensorRT",
            found=fault,
            expected="standard operators; INT8 as Q/DQ with signed symmetric types and float biases",
            next="make the variant for a target whose runtime is tensorrt",
        )
    if options.legacy_dla is None or options.precision == "int8":  # weak typing makes FP16 of FP32 by itself
        _refuse_untyped(path, percent, options)
    planned = plan(digest, signature, target, options)
    made = Proposal(
        onnx=path.name,
        plan=planned,
        percent=percent,
        command=trtexec(planned, path.name, path.with_suffix(".engine").name),
    )
    write_bytes(path.with_suffix(".plan.json"), encode(made))
    return made


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_model(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise Refused(f"{path} is not an ONNX file", found=str(error)[:200], next="name a file that check took in") from None
    outside = next((one.name for one in model.graph.initializer if one.data_location == TensorProto.EXTERNAL), "")
    if outside:
        raise Refused(
            f"{path} has weights in other files",
            found=f"'{outside}'",
            expected="one file, whose digest names the engine",
            next="save the model with its weights inside",
        )
    return model


def _refuse_untyped(path: Path, percent: dict[str, float], options: Options) -> None:
    if not percent.get(options.precision):
        held = ", ".join(f"{name} {share:g} %" for name, share in percent.items()) or "none that multiplies"
        raise Refused(
            f"{path} has no {options.precision} in its graph, and TensorRT takes the precision from there",
            found=f"nodes: {held}",
            expected=f"Conv, Gemm or MatMul in {options.precision}",
            next=f"apply the pass that makes {options.precision} first, or ask for what the graph has",
        )


def _percent(model: onnx.ModelProto, types: dict[str, int]) -> dict[str, float]:
    """The share of the nodes that multiply, by the precision of what they multiply."""
    producers = {output: node.op_type for node in nodes(model.graph) for output in node.output}
    found: Counter[str] = Counter()
    for node in nodes(model.graph):
        if node.op_type in MULTIPLY:
            quantized = all(producers.get(name) == "DequantizeLinear" for name in node.input[:2])
            found["int8" if quantized else DTYPES.get(types.get(node.input[0], 0), "another")] += 1
    return {name: round(100 * found[name] / found.total(), 2) for name in sorted(found)}


def _fault(model: onnx.ModelProto, types: dict[str, int]) -> str:
    """What TensorRT does not take, in one sentence; empty when nothing was found."""
    shifted = _shifted(model)
    for node in nodes(model.graph):
        if node.domain not in STANDARD:
            return f"operator {node.op_type} of {node.domain}"
        if node.op_type in CPU_ONLY:
            return f"operator {node.op_type}: INT8 arithmetic of CPUs"
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            kind = types.get(node.output[0] if node.op_type == "QuantizeLinear" else node.input[0], 0)
            if kind in UNTAKEN:
                return f"{node.op_type} '{node.name}' with {UNTAKEN[kind]}"
            if len(node.input) > 2 and node.input[2] in shifted:  # noqa: PLR2004
                return f"{node.op_type} '{node.name}' with a zero point that is not 0"
    return ""


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type by tensor, in the graph and in those of its branches and loops."""
    inferred = onnx.shape_inference.infer_shapes(model)
    found: dict[str, int] = {}
    for graph in _graphs(inferred.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            found[value.name] = value.type.tensor_type.elem_type
        for tensor in graph.initializer:
            found[tensor.name] = tensor.data_type
    return found


def _shifted(model: onnx.ModelProto) -> set[str]:
    """The constant 8-bit tensors, as zero points are, that hold anything but zeros."""
    constants = [(tensor.name, tensor) for graph in _graphs(model.graph) for tensor in graph.initializer]
    for node in nodes(model.graph):
        if node.op_type == "Constant":
            constants += [(node.output[0], one.t) for one in node.attribute if one.name == "value"]
    kinds = (TensorProto.INT8, TensorProto.UINT8)
    return {name for name, tensor in constants if tensor.data_type in kinds and numpy_helper.to_array(tensor).any()}


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node:
                    yield from _graphs(inner)
