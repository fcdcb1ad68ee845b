"""Area ``graph``: the target's runtime has every operator, where that is not onnxruntime on a CPU (``kernels`` is for that)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import onnx

from shipworthy.backends import errand
from shipworthy.check.graph import cuda_operators
from shipworthy.check.graph.tensorrt_operators import READ, TABLE
from shipworthy.check.graph.view import View, listed
from shipworthy.check.law import Law
from shipworthy.check.subject import Subject
from shipworthy.check.words import title
from shipworthy.records import Finding

# TensorRT has no numbers of these types; whole numbers of 8 bits only as quantized ones.
FOREIGN = {
    getattr(onnx.TensorProto, name) for name in ("STRING", "INT16", "UINT16", "UINT32", "UINT64", "COMPLEX64", "COMPLEX128")
}

FALLBACK = Law(
    name="graph.fallback",
    severity="warning",
    holds="the accelerator's runtime takes the whole graph",
    breaks="the graph is split: tensors travel between runtimes, and TensorRT without onnxruntime refuses it",
    mend="replace the nodes that are named by others, or do that part before and after the model",
)
LAWS = (FALLBACK,)


def look(subject: Subject, seen: View) -> Iterator[Finding]:
    """By tables for TensorRT and CUDA; of OpenVINO the law ``format.loads`` speaks. What is not checked is said."""
    target = subject.target
    if target.runtime == "tensorrt":
        yield from fallbacks(seen, {(one.domain, one.name) for one in subject.proto.functions})
    elif target.runtime == "openvino":
        if lacking := errand.missing(("openvino",), "targets of OpenVINO", "openvino"):
            yield FALLBACK.note("OpenVINO", f"not checked: {lacking.found}; {lacking.next}")
    elif target.device == "cuda":
        yield from left_to_the_cpu(seen, {(one.domain, one.name) for one in subject.proto.functions})


def fallbacks(seen: View, functions: Collection[tuple[str, str]] = ()) -> Iterator[Finding]:
    """The nodes that TensorRT does not read, and into how many engines they cut the graph at least."""
    left = [node for node in seen.nodes if not _is_read(node, seen, functions)]
    what = f"are not read by TensorRT (table: {TABLE}; later versions read more)"
    yield from _cut(seen, left, what, "the rest is at least {} engine", "s")


def left_to_the_cpu(seen: View, functions: Collection[tuple[str, str]] = ()) -> Iterator[Finding]:
    """The nodes for which onnxruntime has no kernel of CUDA, and how many stretches of the graph the GPU has at least."""
    left = [node for node in seen.nodes if not _has_cuda(node, functions)]
    what = f"have no kernel of CUDA and run on the CPU (table: {cuda_operators.TABLE}; types are not looked at)"
    yield from _cut(seen, left, what, "the GPU has at least {} stretch", "es")


def _cut(seen: View, left: Sequence[onnx.NodeProto], what: str, rest: str, plural: str) -> Iterator[Finding]:
    """That these nodes are left to another runtime, and into how many pieces that cuts the rest."""
    if left:
        pieces = _stretches(seen, {id(node) for node in left})
        said = rest.format(pieces) + plural * (pieces != 1)
        yield FALLBACK.found(title(left[0]), f"{len(left)} of {len(seen.nodes)} nodes {what}: {listed(left)}; {said}")


def _has_cuda(node: onnx.NodeProto, functions: Collection[tuple[str, str]]) -> bool:
    """Whether there is a kernel, or the operator is made of others, which onnxruntime then runs."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    if (node.domain, node.op_type) in functions or node.op_type in cuda_operators.KERNELS.get(domain, ()):
        return True
    if not onnx.defs.has(node.op_type, domain):
        return False
    schema = onnx.defs.get_schema(node.op_type, domain)
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


def _is_read(node: onnx.NodeProto, seen: View, functions: Collection[tuple[str, str]]) -> bool:
    if (node.domain, node.op_type) in functions:
        return True
    kinds = {seen.types.get(name) for name in (*node.input, *node.output)}
    return node.domain in ("", "ai.onnx") and node.op_type in READ and not kinds & FOREIGN


def _stretches(seen: View, left: Collection[int]) -> int:
    """How many stretches the nodes that are not left make at least: a new one after each node that is left to others."""
    turns: dict[int, int] = {}
    for node in seen.nodes:  # makers come before readers
        before = [made for name in node.input if (made := seen.makers.get(name)) is not None and id(made) in turns]
        turns[id(node)] = max((turns[id(made)] + ((id(made) in left) != (id(node) in left)) for made in before), default=0)
    return len({turn for node, turn in turns.items() if node not in left})
