"""Which channels of a PyTorch module depend on each other, found in its traced graph; and the module without some of them.

A lane is where the channels of one set lie in a tensor. Operators hand lanes on, join two, or begin a new one; whatever
is not known to do one of these keeps its channels from being touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from shipworthy.backends.errand import first_line
from shipworthy.backends.torch_model import Trained
from shipworthy.errors import Refused

# Numbers of channels that vector units like.
MULTIPLE = 8
ACTIVATIONS = {
    *("relu", "relu_", "relu6", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "elu", "gelu", "silu", "silu_"),
    *("sigmoid", "tanh", "hardswish", "hardswish_", "hardsigmoid", "dropout", "clone", "contiguous", "detach"),
}
POOLS = {"max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "max_pool1d", "avg_pool1d", "adaptive_avg_pool1d"}
JOINS = {"add", "add_", "sub", "mul", "mul_"}
CONVOLUTIONS = {"conv1d", "conv2d"}
RESHAPES = {"flatten", "view", "reshape"}
OUT, IN = 0, 1


@dataclass(frozen=True)
class Lane:
    """Channels of the set ``group`` along ``axis`` of a tensor, each ``repeat`` times in a row."""

    group: int
    axis: int
    repeat: int = 1


@dataclass(frozen=True)
class Slice:
    """A dimension of a parameter (by name) that a set of channels lies in."""

    parameter: str
    axis: int
    repeat: int = 1


@dataclass
class Group:
    """Channels that stay or go together: how many, and every place that holds them."""

    size: int
    slices: list[Slice] = field(default_factory=list)
    fixed: bool = False


def narrow(trained: Trained, share: float) -> dict[str, str]:
    """Take ``share`` of the channels of every set out of the module, in place; the numbers left are multiples of 8.

    Returns:
        Channels before and after, by the first parameter of each set.

    Raises:
        Refused: the module cannot be traced, has no channels that may go, or does not work without them.
    """
    shapes = _shapes(trained)
    cut, kept = {}, list[tuple[Group, Any]]()
    for group in _groups(trained):
        keep = math.ceil(group.size * (1 - share) / MULTIPLE) * MULTIPLE
        if not group.fixed and keep < group.size and group.slices:
            kept.append((group, _best(trained.module, group, keep)))
            cut[group.slices[0].parameter] = f"{group.size} to {keep}"
    if not cut:
        raise Refused("no channels of the module can go", found="none that lie between two layers, or too few of them")
    for group, channels in kept:
        for one in group.slices:
            _cut(trained.module, one, channels)
    _tell_sizes(trained.module)
    try:
        after = _shapes(trained)
    except Exception as error:  # the user's forward raises what it likes
        raise Refused("forward does not work with fewer channels", found=first_line(error)) from error
    if after != shapes:
        raise Refused("forward gives something else with fewer channels", found=str(after), expected=str(shapes))
    return cut


def _shapes(trained: Trained) -> list[tuple[int, ...]]:
    return [tuple(one.shape) for one in trained.outputs(trained.example)]


def _groups(trained: Trained) -> list[Group]:
    try:
        program = trained.traced()
    except Exception as error:  # the tracer raises what it likes
        raise Refused("the module cannot be traced", found=first_line(error)) from error
    return _Walk(program).groups()


class _Walk:
    """One way through the graph, from the inputs to the outputs."""

    def __init__(self, program: Any) -> None:
        signature = program.graph_signature
        self._nodes = program.graph.nodes
        self._names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._lanes: dict[Any, Lane] = {}
        self._groups: list[Group] = []
        self._joined: list[int] = []

    def groups(self) -> list[Group]:
        """Every set of channels, each once."""
        for node in self._nodes:
            if node.op == "call_function":
                schema = getattr(node.target, "_schema", None)
                lane = self._visit(node, schema.name.removeprefix("aten::") if schema else "")
                if lane is not None:
                    self._lanes[node] = lane
            elif node.op == "output":
                self._fix(node.all_input_nodes)
        found: dict[int, Group] = {}
        for number, group in enumerate(self._groups):
            whole = found.setdefault(self._root(number), Group(group.size))
            whole.slices += group.slices
            whole.fixed = whole.fixed or group.fixed
        return list(found.values())

    def _visit(self, node: Any, name: str) -> Lane | None:
        """The lane of what an operator gives; ``None``: none, and those that it reads are fixed."""
        first = self._lanes.get(node.args[0]) if node.args else None
        lane: Lane | None = None
        if name in CONVOLUTIONS:
            return self._convolution(node, first)
        if name == "linear":
            return self._linear(node, first)
        if name in JOINS:
            lane = self._join(node)
        elif first is not None and (name in ACTIVATIONS or (name in POOLS and first.axis == 1)):
            lane = first
        elif first is not None and name == "batch_norm":
            lane = self._normalisation(node, first)
        elif first is not None and name == "mean":
            lane = self._mean(node, first)
        elif first is not None and name in RESHAPES:
            lane = self._reshape(node, first)
        if lane is None:
            self._fix(node.all_input_nodes)
        return lane

    def _convolution(self, node: Any, taken: Lane | None) -> Lane | None:
        weight, bias = node.args[1], node.args[2] if len(node.args) > 2 else None  # noqa: PLR2004
        groups = node.args[6] if len(node.args) > 6 else node.kwargs.get("groups", 1)  # noqa: PLR2004
        outs = _shape(weight)[0]
        if groups == 1:
            if taken is not None:
                self._hold(taken, weight, IN)
            given = self._begin(outs, axis=1)
        elif taken is not None and groups == outs == self._groups[self._root(taken.group)].size:
            given = taken  # one filter a channel
        else:
            self._fix(node.all_input_nodes)
            return None
        for one in (weight, bias):
            if one is not None:
                self._hold(given, one, OUT)
        return given

    def _linear(self, node: Any, taken: Lane | None) -> Lane | None:
        weight, bias = node.args[1], node.args[2] if len(node.args) > 2 else None  # noqa: PLR2004
        last = len(_shape(node)) - 1
        if taken is not None and taken.axis == last:
            self._hold(taken, weight, IN)
        elif taken is not None:
            self._fix([node.args[0]])
        given = self._begin(_shape(weight)[0], axis=last)
        for one in (weight, bias):
            if one is not None:
                self._hold(given, one, OUT)
        return given

    def _join(self, node: Any) -> Lane | None:
        """The sum or product of two tensors of the same channels; with a plain number, of one."""
        lanes = [self._lanes.get(one) for one in node.all_input_nodes]
        shapes = [_shape(one) for one in node.all_input_nodes]
        first = lanes[0]
        if first is None:
            return None
        for lane, shape in zip(lanes, shapes, strict=True):
            if lane is None or (lane.axis, lane.repeat) != (first.axis, first.repeat) or len(shape) != len(shapes[0]):
                return None
            if shape[lane.axis] != shapes[0][first.axis]:
                return None
        for lane in lanes[1:]:
            assert lane is not None  # noqa: S101 - looked at above
            self._joined[self._root(lane.group)] = self._root(first.group)
        return first

    def _normalisation(self, node: Any, lane: Lane) -> Lane | None:
        if lane.axis != 1 or lane.repeat != 1:
            return None
        for one in node.args[1:5]:
            if one is not None:
                self._hold(lane, one, OUT)
        return lane

    def _mean(self, node: Any, lane: Lane) -> Lane | None:
        rank = len(_shape(node.args[0]))
        axes = {axis % rank for axis in (node.args[1] if len(node.args) > 1 and node.args[1] else range(rank))}
        keeps = node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False)  # noqa: PLR2004
        if lane.axis in axes:
            return None
        return lane if keeps else Lane(lane.group, lane.axis - sum(axis < lane.axis for axis in axes), lane.repeat)

    def _reshape(self, node: Any, lane: Lane) -> Lane | None:
        """Images as rows of numbers; no other change of shape."""
        before, after = _shape(node.args[0]), _shape(node)
        if lane.axis != 1 or len(after) != 2 or after[0] != before[0]:  # noqa: PLR2004
            return None
        return Lane(lane.group, 1, lane.repeat * math.prod(before[2:]))

    def _begin(self, size: int, axis: int) -> Lane:
        self._groups.append(Group(size))
        self._joined.append(len(self._joined))
        return Lane(len(self._groups) - 1, axis)

    def _hold(self, lane: Lane, source: Any, axis: int) -> None:
        """Note that a parameter holds the channels; what is no parameter, or read elsewhere too, fixes them."""
        group = self._groups[lane.group]
        if source.name in self._names and len(source.users) == 1:
            group.slices.append(Slice(self._names[source.name], axis, lane.repeat))
        else:
            group.fixed = True

    def _fix(self, nodes: Iterable[Any]) -> None:
        for node in nodes:
            if node in self._lanes:
                self._groups[self._lanes[node].group].fixed = True

    def _root(self, number: int) -> int:
        while self._joined[number] != number:
            number = self._joined[number]
        return number


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _best(module: Any, group: Group, keep: int) -> Any:
    """The numbers of the channels with the largest weights, in order; every layer counts the same."""
    import torch  # noqa: PLC0415

    tensors = module.state_dict(keep_vars=True)
    score = torch.zeros(group.size)
    for one in group.slices:
        tensor = tensors[one.parameter].detach()
        if tensor.dim() > 1:
            size = tensor.movedim(one.axis, 0).reshape(group.size, -1).norm(dim=1)
            score += size / size.mean().clamp_min(torch.finfo(size.dtype).tiny)
    return torch.argsort(score, descending=True, stable=True)[:keep].sort().values


def _cut(module: Any, one: Slice, channels: Any) -> None:
    import torch  # noqa: PLC0415

    place, _, name = one.parameter.rpartition(".")
    owner = module.get_submodule(place)
    places = (channels[:, None] * one.repeat + torch.arange(one.repeat)).flatten()
    cut = getattr(owner, name).detach().index_select(one.axis, places).contiguous()
    if name in owner._parameters:  # noqa: SLF001 - a new size cannot be set in another way
        owner._parameters[name] = torch.nn.Parameter(cut)  # noqa: SLF001
    else:
        owner._buffers[name] = cut  # noqa: SLF001


def _tell_sizes(module: Any) -> None:
    """Set the numbers that layers keep beside their weights."""
    import torch  # noqa: PLC0415

    nn = torch.nn
    for one in module.modules():
        if isinstance(one, nn.Conv1d | nn.Conv2d):
            if one.groups == one.out_channels:  # one filter a channel
                one.groups = one.weight.shape[0]
            one.out_channels, one.in_channels = one.weight.shape[0], one.weight.shape[1] * one.groups
        elif isinstance(one, nn.Linear):
            one.out_features, one.in_features = one.weight.shape
        elif isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d) and one.weight is not None:
            one.num_features = one.weight.shape[0]
