"""What onnxruntime makes of the nodes before it runs them, as far as it changes which tensors there are. Pure.

Fusions: onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html. In-place kernels and shared buffers:
``AllocationPlanner`` (core/framework/allocation_planner.cc): a kernel writes over an input of the same shape that nobody reads
after it; dimensions are the same where both have one number or one name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from shipworthy.check.liveness import Graph, Size, Step

# Outputs that are their first input under another shape.
VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout"})
ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid", "HardSwish", "BatchNormalization"})
MULTIPLYING = frozenset({"Conv", "Gemm", "ConvTranspose"})
BINARY = frozenset({"Add", "Mul", "Sub", "Div"})
IN_PLACE = BINARY | ACTIVATIONS | frozenset(
    {"Softmax", "Abs", "Neg", "Exp", "Log", "Sqrt", "Floor", "Ceil", "Erf", "Elu", "Selu", "Softplus", "Cast", "Not"}
)  # fmt: skip
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def fused(graph: Graph, constants: Iterable[str], *, named: bool) -> Graph:
    """The graph as it is run.

    Args:
        graph: as the file has it.
        constants: names that are known before any call.
        named: whether the batch dimension has a name, without which no kernel can work in place on a batch.
    """
    known = set(constants)
    graph = _direct(graph)
    steps = _folded(graph.steps, known)
    steps = _curved(steps, set(graph.given), known)
    steps = _merged(steps, graph, known)
    steps = _quantized(steps, set(graph.given))
    made = {name for step in steps for name in step.outputs}
    sizes = {name: size for name, size in graph.sizes.items() if name in made}
    return Graph(steps, sizes, graph.given, _views(steps, sizes, graph, named=named))


def _direct(graph: Graph) -> Graph:
    """Without the Identity that gives a tensor out under another name: who makes the tensor gives it."""
    made = {name for step in graph.steps for name in step.outputs} - set(graph.given)
    source = {step.outputs[0]: step.inputs[0] for step in graph.steps if step.kind == "Identity" and step.inputs[0] in made}
    source = {name: before for name, before in source.items() if name in graph.given}
    steps = tuple(step for step in graph.steps if not set(step.outputs) & source.keys())
    return replace(graph, steps=steps, given=tuple(source.get(name, name) for name in graph.given))


def _folded(steps: Iterable[Step], known: set[str]) -> tuple[Step, ...]:
    """Without the nodes of constants only: they are computed when the model is loaded. ``known`` grows by what they make."""
    left = []
    for step in steps:
        if all(name in known for name in step.inputs) and not step.inner and not step.kind.startswith("Random"):
            known.update(step.outputs)
        else:
            left.append(step)
    return tuple(left)


def _quantized(steps: tuple[Step, ...], given: set[str]) -> tuple[Step, ...]:
    """A node between DequantizeLinear and QuantizeLinear computes on the integers; the floats beside it are never made."""
    readers = _readers(steps)
    whole = {step.outputs[0]: step.inputs[0] for step in steps if step.kind == DEQUANTIZE and step.outputs[0] not in given}
    left: list[Step] = []
    gone: set[int] = set()
    for number, step in enumerate(steps):
        if number in gone or (step.kind == DEQUANTIZE and step.outputs[0] in whole):
            continue
        inputs = tuple(whole.get(name, name) for name in step.inputs)
        chain = _to_integers(steps, number, readers, given) if inputs != step.inputs else []
        gone.update(chain)
        left.append(replace(step, inputs=inputs, outputs=steps[chain[-1]].outputs if chain else step.outputs))
    return tuple(left)


def _to_integers(steps: tuple[Step, ...], number: int, readers: Mapping[str, list[int]], given: set[str]) -> list[int]:
    """The steps from a node to the QuantizeLinear of its output, with the activation between them; none where there is none."""
    chain: list[int] = []
    while len(after := readers.get(result := steps[(chain or [number])[-1]].outputs[0], [])) == 1 and result not in given:
        chain.append(after[0])
        if steps[after[0]].kind == QUANTIZE:
            return chain
        if steps[after[0]].kind not in ACTIVATIONS:
            break
    return []


def _curved(steps: tuple[Step, ...], given: set[str], known: set[str]) -> tuple[Step, ...]:
    """GELU as exporters write it, with the bias before it, and x * sigmoid(x) are one kernel each."""
    makers = {name: number for number, step in enumerate(steps) for name in step.outputs}
    readers = _readers(steps)
    kept: dict[int, Step] = dict(enumerate(steps))
    for number, step in enumerate(steps):
        if step.kind not in {"Erf", "Sigmoid"}:
            continue
        before, root = makers.get(step.inputs[0], -1), step.inputs[0]
        if step.kind == "Erf" and steps[before].kind in BINARY:
            root = steps[before].inputs[0]
        else:
            before = -1
        chain = [number]
        while len(after := readers.get(result := steps[chain[-1]].outputs[0], [])) == 1 and result not in given:
            if steps[after[0]].kind not in BINARY or _other(steps[after[0]], result) not in known | {root}:
                break
            chain.append(after[0])
        if root not in {name for one in chain[1:] for name in steps[one].inputs}:
            continue
        for one in {before, *chain} - {-1}:
            kept.pop(one)
        kept[chain[-1]] = Step("Gelu", (root,), steps[chain[-1]].outputs, steps[chain[-1]].place)
    return tuple(kept[number] for number in sorted(kept))


def _merged(steps: tuple[Step, ...], graph: Graph, known: set[str]) -> tuple[Step, ...]:
    """Convolutions and matrix products take in the bias, the sum and the activation that follow them."""
    readers = _readers(steps)
    current = dict(enumerate(steps))
    for number, step in enumerate(steps):
        if step.kind not in MULTIPLYING:
            continue
        place, summed = number, False
        while (after := readers.get(current[place].outputs[0], [])) and len(after) == 1:
            head, follower = current[place], current.get(after[0])
            if follower is None or head.outputs[0] in graph.given or follower.kind not in ACTIVATIONS | BINARY:
                break
            other = _other(follower, head.outputs[0])
            if follower.kind in BINARY and other not in known:
                same = graph.sizes.get(other) == graph.sizes.get(follower.outputs[0])
                if summed or head.kind != "Conv" or follower.kind != "Add" or not same or other == head.outputs[0]:
                    break
                summed = True
            rest = tuple(name for name in follower.inputs if name != head.outputs[0])
            del current[place]
            place = after[0]
            current[place] = replace(head, inputs=(*head.inputs, *rest), outputs=follower.outputs)
    return tuple(current[number] for number in sorted(current))


def _views(steps: tuple[Step, ...], sizes: Mapping[str, Size], graph: Graph, *, named: bool) -> dict[str, str]:
    """From each output that has no bytes of its own to the tensor whose bytes it takes over: see the module's sources.

    A buffer that is idle is kept for the next tensor of its shape, and goes only after the last of them.
    """
    reads = Counter(name for step in steps for name in dict.fromkeys(step.inputs))
    given, views, left = set(graph.given), dict[str, str](), dict[str, int]()
    idle: dict[Size, list[str]] = {}
    for step in steps:
        for result in step.outputs:
            root = _taken_over(step, result, sizes, (views, left, idle), given, named=named)
            if root:
                views[result] = root
            left[root or result] = left.get(root or result, 0) + reads[result]
        for name in dict.fromkeys(step.inputs):
            root = views.get(name, name)
            if root in left and root not in given:
                left[root] -= 1
                if not left[root]:
                    idle.setdefault(sizes.get(root, Size()), []).append(root)
    return views


def _taken_over(
    step: Step,
    result: str,
    sizes: Mapping[str, Size],
    state: tuple[dict[str, str], dict[str, int], dict[Size, list[str]]],
    given: set[str],
    *,
    named: bool,
) -> str:
    """Whose buffer an output takes; empty: it has one of its own."""
    views, left, idle = state
    size = sizes.get(result)
    if size is None or result in given:
        return ""
    if step.kind in VIEWS and step.inputs and result == step.outputs[0]:
        root = views.get(step.inputs[0], step.inputs[0])
        return root if root in sizes and root not in given else ""
    if not named:
        return ""
    over = step.inputs if step.kind in IN_PLACE else step.inputs[-1:] if step.kind == "Conv" else ()
    for root in (views.get(name, name) for name in over):
        if sizes.get(root) == size and left.get(root) == 1 and root not in given:
            return root
    return idle[size].pop() if idle.get(size) else ""


def _readers(steps: tuple[Step, ...]) -> dict[str, list[int]]:
    """By name, the numbers of the steps that read it; a step with graphs inside reads what those read."""
    found: dict[str, list[int]] = {}
    for number, step in enumerate(steps):
        for name in dict.fromkeys(step.inputs):
            found.setdefault(name, []).append(number)
    return found


def _other(step: Step, name: str) -> str:
    return next((one for one in step.inputs if one != name), name)
