"""Area ``graph``: every node and every weight is needed, and there once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import onnx

from shipworthy.backends.onnx_graph import branches, outputs
from shipworthy.check.graph.view import View, listed, needed
from shipworthy.check.law import Law
from shipworthy.check.words import title
from shipworthy.records import Finding, Severity

# Less is lost in the file's own overhead.
LEAST_BYTES = 1024
# What is worth a warning: so much, or such a share of all weights.
MUCH_BYTES, MUCH_SHARE = 1_000_000, 0.05
TIDY = "shipworthy optimize: the pass graph takes them out"

TWICE = Law(
    name="graph.twice",
    severity="warning",
    holds="no weight is stored twice",
    breaks="file and memory are larger by the copies",
    mend="shipworthy optimize: the pass graph lets all readers share one copy",
)
UNREAD = Law(
    name="graph.unread",
    severity="warning",
    holds="every node and every weight leads to an output",
    breaks="the file carries, and a runtime may compute, what no answer needs",
    mend=TIDY,
)
IDLE = Law(
    name="graph.idle",
    severity="note",
    holds="no node only passes its input on",
    breaks="a runtime that does not take them out copies tensors for nothing",
    mend=TIDY,
)
REQUANTIZED = Law(
    name="graph.requantized",
    severity="warning",
    holds="no tensor is quantized, restored and quantized again on its way",
    breaks="values are rounded twice, and fusions of quantized operators miss",
    mend="quantize the float model again, in one go: shipworthy optimize",
)
LAWS = (TWICE, UNREAD, IDLE, REQUANTIZED)


def look(seen: View) -> Iterator[Finding]:
    """What could go without any answer changing."""
    yield from _twice(seen)
    yield from _unread(seen)
    idle = [node for node in seen.every if _is_idle(node, seen)]
    if idle:
        rows = sum(any(_is_idle(made, seen) for made in _before(node, seen)) for node in idle)
        chains = f", {rows} of them behind another one" if rows else ""
        yield IDLE.found(title(idle[0]), f"{len(idle)} nodes change nothing{chains}: {listed(idle)}")
    again = [node for node in seen.nodes if _is_again(node, seen)]
    if again:
        yield REQUANTIZED.found(
            title(again[0]),
            f"{len(again)} tensors are restored and at once quantized anew: {listed(again)}",
        )


def _twice(seen: View) -> Iterator[Finding]:
    same: dict[tuple[object, ...], list[onnx.TensorProto]] = {}
    given = {one.name for one in seen.graph.input}  # a caller may give them other values
    for tensor in seen.weights.values():
        if tensor.name not in given and tensor.data_type != onnx.TensorProto.STRING and tensor.ByteSize() > LEAST_BYTES:
            same.setdefault((tensor.data_type, tuple(tensor.dims), _digest(tensor)), []).append(tensor)
    copies = [tensor for group in same.values() for tensor in group[1:]]
    if not copies:
        return
    wasted = sum(tensor.ByteSize() for tensor in copies)
    first = next(group for group in same.values() if len(group) > 1)
    evidence = f"{len(copies)} weights are copies of others: {_mb(wasted)}; '{first[1].name}' is '{first[0].name}' again"
    yield TWICE.found(f"initializer {first[1].name}", evidence, severity=_severity(wasted, seen))


def _unread(seen: View) -> Iterator[Finding]:
    wanted, read = needed(seen)
    dead = [node for node in seen.nodes if id(node) not in wanted]
    if dead:
        yield UNREAD.found(title(dead[0]), f"{len(dead)} nodes lead to no output: {listed(dead)}")
    idle = [tensor for name, tensor in seen.weights.items() if name not in read]
    size = sum(tensor.ByteSize() for tensor in idle)
    if size > LEAST_BYTES:
        evidence = f"{len(idle)} weights are read by no node that leads to an output: {_mb(size)}"
        yield UNREAD.found(f"initializer {idle[0].name}", evidence, severity=_severity(size, seen))


def _severity(wasted: int, seen: View) -> Severity:
    whole = sum(tensor.ByteSize() for tensor in seen.weights.values())
    return "warning" if wasted >= min(MUCH_BYTES, MUCH_SHARE * whole) else "note"


def _is_idle(node: onnx.NodeProto, seen: View) -> bool:
    """It passes on what it reads; one that gives an output its name has to stay."""
    if not {*node.output}.isdisjoint(outputs(seen.graph)) or next(branches(node), None):
        return False
    if node.op_type == "Cast":
        kind = seen.types.get(node.input[0])
        return kind is not None and kind == seen.types.get(node.output[0])
    return node.op_type == "Identity" and node.input[0] not in seen.weights


def _is_again(node: onnx.NodeProto, seen: View) -> bool:
    """It quantizes what was quantized and restored with nothing in between, and nobody else reads what was restored."""
    restored = seen.makers.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
    if restored is None or restored.op_type != "DequantizeLinear" or len(seen.readers.get(node.input[0], ())) > 1:
        return False
    made = seen.makers.get(restored.input[0])
    return made is not None and made.op_type == "QuantizeLinear"


def _before(node: onnx.NodeProto, seen: View) -> Iterable[onnx.NodeProto]:
    return (seen.makers[name] for name in node.input if name in seen.makers)


def _digest(tensor: onnx.TensorProto) -> bytes:
    nameless = tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
    return hashlib.sha256(nameless).digest()


def _mb(size: int) -> str:
    return f"{size / 1e6:.2g} MB" if size < MUCH_BYTES else f"{size / 1e6:.1f} MB"
