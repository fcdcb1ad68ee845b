"""Area ``format``, of ONNX files: what the file says is read as plain protobuf; only the last steps hand it to a library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from shipworthy.backends import errand, external, notes, runners
from shipworthy.backends.onnx_graph import every_node
from shipworthy.backends.onnxruntime import session, version
from shipworthy.check import limits, magic
from shipworthy.check.graph import kernels
from shipworthy.check.intake import IR_VERSION, OPSETS
from shipworthy.check.law import Law
from shipworthy.check.readable import READABLE
from shipworthy.check.subject import Origin
from shipworthy.check.words import first_line, listed
from shipworthy.errors import Refused
from shipworthy.records import Finding, Severity, Target
from shipworthy.text import plain

STANDARD = ("", "ai.onnx", "ai.onnx.ml")
# ONNX's own operators that are not in the standard yet, optimizers of a training among them.
PREVIEW = ("ai.onnx.preview", "ai.onnx.preview.training")
# Operators of onnxruntime's own; the second are what its optimizer writes for the CPU that it runs on.
CONTRIB, BLOCKED = "com.microsoft", ("com.microsoft.nchwc", "com.ms.internal.nhwc")
OPENVINO = "org.openvinotoolkit"
# An error of inference that lies in what another operator is defined by (1.23.2: MeanVarianceNormalization without axes).
WITHIN = re.compile(r"Inference error\(s\): \(op_type:(\w+)[^)]*\): \[ShapeInferenceError\] Inference error\(s\): \(op_type:")

VALID = Law(
    name="format.valid",
    severity="error",
    holds="ONNX's own checker accepts the file, types and shapes inferred to the end",
    breaks="the runtime refuses the model at start, or answers with shapes that nobody expects",
    mend="export the model again with a current exporter",
)
RUNTIME = Law(
    name="format.runtime",
    severity="error",
    holds="the operator set and the IR version are among those that the target's own runtime loads",
    breaks="the server of the target refuses the model at start: exporters write newer versions than runtimes take",
    mend=f"export with opset {OPSETS.stop - 1} and IR version {IR_VERSION}, which every target takes",
)
OPSET = Law(
    name="format.opset",
    severity="warning",
    holds=f"the operator set is one that every target takes: {OPSETS.start} to {OPSETS.stop - 1}",
    breaks="an older runtime in production does not load what a newer exporter writes by default",
    mend=f"export with opset {OPSETS.stop - 1}, or onnx.version_converter.convert_version(model, {OPSETS.stop - 1})",
)
IR = Law(
    name="format.ir",
    severity="warning",
    holds=f"the IR version is one that every target takes: at most {IR_VERSION}",
    breaks="older runtimes refuse the file",
    mend=f"model.ir_version = {IR_VERSION} before onnx.save",
)
WEIGHTS = Law(
    name="format.weights",
    severity="error",
    holds="weights in other files are there, and as long as the model says",
    breaks="the model does not load where it was copied without them, or computes with what happens to lie there",
    mend="copy the file of weights into the model's folder, whole; or export again as one file",
)
SIZE = Law(
    name="format.size",
    severity="error",
    holds=f"the model and its weights fit in one ONNX file: {external.LIMIT_BYTES / 1e9:.1f} GB, for protobuf ends at 2",
    breaks="what loads, optimizes, measures and releases models here works on one file",
    mend="store weights as float16 or INT8, or split the model; onnxruntime by itself serves it from the files it has",
)
OPERATORS = Law(
    name="format.operators",
    severity="error",
    holds="every operator is one of ONNX's, or the target's runtime has its domain",
    breaks="the runtime of the target does not load the model, or only with a library that nobody has installed there",
    mend="export with standard operators, or write the custom ones as functions into the model",
)
DEVICE = Law(
    name="format.device",
    severity="error",
    holds="the file was not made for another device",
    breaks="it is slow, wrong or refused here: INT8, blocked layouts and engines differ by device",
    mend="optimize the original model for this target",
)
LOADS = Law(
    name="format.loads",
    severity="error",
    holds="the runtime loads the file: onnxruntime on the CPU, and OpenVINO where the target is OpenVINO",
    breaks="the server does not start",
    mend=f"export the model again with a current exporter: plain tensors, opset {OPSETS.start} to {OPSETS.stop - 1}",
)
LAWS = (VALID, RUNTIME, OPSET, IR, WEIGHTS, SIZE, OPERATORS, DEVICE, LOADS)


def look(origin: Origin) -> Iterator[Finding]:
    """All laws of an ONNX file; what no one can read, and what is too large to load, is not handed on to a library."""
    path = origin.path
    if path.stat().st_size > external.LIMIT_BYTES:
        yield _too_large(origin, path.stat().st_size)
        return
    try:
        proto = onnx.load_model_from_string(path.read_bytes())
    except DecodeError:
        yield _unreadable(origin, "bytes that are not its protobuf; a truncated download looks like this")
        return
    if not proto.graph.node:
        yield _unreadable(origin, "no graph with a node in it")
        return
    yield from _borders(proto)
    yield from _versions(proto, origin.target)
    yield from _operators(proto, origin.target)
    yield from _device(proto, origin.target)
    troubles = external.problems(proto, path.parent)
    yield from (WEIGHTS.found(f"tensor {one.tensor}, file {one.file}", one.text) for one in troubles if one.kind != "outside")
    size = external.whole_bytes(proto, path)
    del proto  # what follows reads the file again, and it may be large
    yield from _checker(origin)
    if size > external.LIMIT_BYTES:
        yield _too_large(origin, size)
    elif not troubles:
        yield from _loads(origin)


def _unreadable(origin: Origin, found: str) -> Finding:
    with origin.path.open("rb") as stream:
        told = magic.told(stream.read(magic.HEAD_BYTES))
    text = f"it is no ONNX model: {told or f'{origin.path.stat().st_size} {found}'}"
    return READABLE.found(str(origin.named), text, "copy or export the file again")


def _too_large(origin: Origin, size: int) -> Finding:
    text = f"{size / 1e9:.2f} GB with its weights: it is looked at, and neither loaded, optimized, measured nor released"
    return SIZE.found(str(origin.named), text)


def _borders(proto: onnx.ModelProto) -> Iterator[Finding]:
    """Sizes below zero, which neither the checker nor onnxruntime minds: both take them for free dimensions."""
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_value < 0:
                yield VALID.found(f"tensor {plain(value.name, 80)}", f"dimension {axis} has size {dimension.dim_value}")


def _versions(proto: onnx.ModelProto, target: Target) -> Iterator[Finding]:
    """One finding a version: an error beyond the target's runtime, else a warning beyond what every target takes."""
    opset = next((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), 0)
    limit = limits.of(target, version())
    if limit and opset and opset not in limit.opsets:
        said = f"{limit.opsets.start} to {limit.opsets.stop - 1}"
        yield RUNTIME.found(f"opset {opset}", f"{limit.runtime} takes {said}")
    elif opset not in OPSETS:
        yield OPSET.found(f"opset {opset}", f"outside {OPSETS.start} to {OPSETS.stop - 1}, which every target takes")
    if limit and limit.ir and proto.ir_version > limit.ir:
        yield RUNTIME.found(f"IR version {proto.ir_version}", f"{limit.runtime} takes at most {limit.ir}", IR.mend)
    elif proto.ir_version > IR_VERSION:
        yield IR.found(f"IR version {proto.ir_version}", f"above {IR_VERSION}; older runtimes refuse the file")


def _operators(proto: onnx.ModelProto, target: Target) -> Iterator[Finding]:
    """One finding for each operator that is not ONNX's own, with its nodes."""
    within = {(plain(one.domain), plain(one.name)) for one in proto.functions}
    custom: dict[tuple[str, str], list[str]] = {}
    for node in every_node(proto):
        operator = plain(node.domain), plain(node.op_type)
        if operator[0] not in STANDARD and operator not in within:
            custom.setdefault(operator, []).append(plain(node.name, 80) or f"(no name) of {listed(node.output, 1)}")
    for (domain, name), places in sorted(custom.items())[:50]:
        severity, reason = _whose(domain, target)
        count = f"{len(places)} node{'s'[: len(places) > 1]}"
        text = f"{reason}; {count}: {listed(places)}"
        yield OPERATORS.found(f"operator {domain}.{name}", text, None if severity != "note" else "", severity)


def _whose(domain: str, target: Target) -> tuple[Severity, str]:
    if domain == CONTRIB or domain in BLOCKED:
        if target.runtime == "onnxruntime":
            return "note", "onnxruntime's own: no other runtime has all of them"
        if target.runtime == "openvino":
            return "warning", "onnxruntime's own, and OpenVINO has some of them"
        return "error", "onnxruntime's own, and TensorRT has none of them"
    if domain == OPENVINO and target.runtime == "openvino":
        return "note", "OpenVINO's own: no other runtime has it"
    if domain in PREVIEW:
        return "error", f"a preview of ONNX's, not in the standard yet, and {target.runtime} does not know this domain"
    return "error", f"neither ONNX nor {target.runtime} knows this domain"


def _device(proto: onnx.ModelProto, target: Target) -> Iterator[Finding]:
    if reason := notes.misplaced(proto, target):
        yield DEVICE.found("INT8", reason, "optimize the original for this target")
    kinds = {(plain(node.domain), plain(node.op_type)) for node in every_node(proto)}
    if blocked := {domain for domain, _ in kinds if domain in BLOCKED}:
        text = f"operators of {listed(blocked)}: onnxruntime has optimized it for the CPU that it ran on then"
        here = target.runtime == "onnxruntime" and target.device == "cpu"
        yield DEVICE.found("layout", text, severity="warning" if here else "error")
    if (CONTRIB, "EPContext") in kinds:
        text = "it holds an engine (EPContext), which is compiled for one device and one version of its runtime"
        yield DEVICE.found("engine", text, severity="warning" if target.device == "cuda" else "error")


def _checker(origin: Origin) -> Iterator[Finding]:
    """By path: it then looks at files of weights, too, and no copy of the model is made in Python."""
    try:
        onnx.checker.check_model(origin.path, full_check=True)
    except Exception as error:  # noqa: BLE001  beside its own two it raises what pybind makes of any C++ exception
        text = first_line(error).replace(str(origin.path), str(origin.named))
        within = WITHIN.search(str(error))
        if within and onnx.defs.has(within[1]) and _is_function(onnx.defs.get_schema(within[1])):
            reason = f"types cannot be inferred within ONNX's own definition of {within[1]}, which may be the fault of onnx"
            yield VALID.found(str(origin.named), f"{reason}: {text}", "see whether a newer onnx says so, too", "warning")
        else:
            yield VALID.found(str(origin.named), text)


def _is_function(schema: onnx.defs.OpSchema) -> bool:
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


def _loads(origin: Origin) -> Iterator[Finding]:
    """Whatever crashes in here has crashed in a child, and the intake of our own process never comes to see it.

    Where the law ``graph.kernel`` speaks it names the nodes, and nothing is said here.
    """
    try:
        session(origin.path, Target())
    except Refused as error:
        if not any(kernels.look(origin)):
            yield _refused(origin, error)
        return
    if origin.target.runtime != "openvino" or errand.missing(("openvino",), "targets of OpenVINO", "openvino"):
        return
    try:
        runners.load(Path(origin.path), origin.target).close()
    except Refused as error:
        yield _refused(origin, error)


def _refused(origin: Origin, error: Refused) -> Finding:
    text = plain(error.found.replace(str(origin.path), str(origin.named)), 300)
    return LOADS.found(str(origin.named), f"{error.what.partition(' does not')[0]}: {text}")
