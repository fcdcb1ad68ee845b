"""What lives at one time, what the runtime makes of it, and what of its arena is touched: the pure rules."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipworthy.check.arena import FIRST_REGION_BYTES, Arena
from shipworthy.check.fusion import fused
from shipworthy.check.liveness import Event, Graph, Size, Step, life, packed

KB = 1024


def chain(*kinds, size=KB, given=None, extra=()):
    """Steps one after the other, from x to t0, t1, ...; all tensors of one size."""
    steps = [Step(kind, (f"t{n - 1}" if n else "x",), (f"t{n}",), f"node {n}") for n, kind in enumerate(kinds)]
    sizes = {f"t{n}": Size(size, size, (1, size)) for n in range(len(kinds))}
    return Graph((*steps, *extra), sizes, (given or f"t{len(kinds) - 1}",))


def test_two_tensors_live_in_a_chain_whatever_its_length():
    for length in (3, 30):
        alive = life(chain(*["Sin"] * length), 1)
        assert (alive.peak, alive.block) == (2 * KB, 2 * KB)
        assert alive.outputs == KB


def test_rows_scale_what_grows_with_them_and_nothing_else():
    graph = Graph((Step("Sin", ("x",), ("a",)), Step("Sin", ("a",), ("b",))), {"a": Size(KB, KB), "b": Size(KB, 0)}, ("b",))
    assert [life(graph, rows).peak for rows in (1, 2, 32)] == [2 * KB, 3 * KB, 33 * KB]


def test_a_tensor_lives_until_its_last_reader_and_the_peak_names_all():
    late = Step("Add", ("t0", "t3"), ("sum",), "the sum")
    graph = chain("Sin", "Sin", "Sin", "Sin", given="sum", extra=(late,))
    graph = Graph(graph.steps, {**graph.sizes, "sum": Size(5 * KB)}, graph.given)
    alive = life(graph, 1)
    assert alive.peak == 7 * KB
    assert alive.at == "sum"
    assert [name for name, _ in alive.alive] == ["sum", "t0", "t3"]


def test_of_the_branches_of_a_node_the_larger_counts():
    small, large = chain("Sin", "Sin"), chain("Sin", "Sin", size=10 * KB)
    graph = Graph((Step("If", ("x",), ("y",), "the branch", (small, large)),), {"y": Size(KB)}, ("y",))
    assert life(graph, 1).peak == KB + 20 * KB


def test_the_block_leaves_a_hole_where_the_next_tensor_does_not_fit():
    """ResNet-50's first block on onnxruntime 1.32: 333,971,456 bytes were asked of the arena for 32 images."""
    large, small = 102_760_448, 25_690_112
    order = ["+stem", "+pool", "-stem", "+a", "+b", "-a", "+past", "-pool", "+sum", "-b", "-past", "+c", "-sum", "-c"]
    sizes = dict.fromkeys(("stem", "past", "sum"), large) | dict.fromkeys(("pool", "a", "b", "c"), small)
    assert packed([Event(one[1:], sizes[one[1:]], begins=one[0] == "+") for one in order]) == 333_971_456


@pytest.mark.parametrize(
    ("kinds", "constants", "left"),
    [
        (("Conv", "Relu"), (), ["Conv"]),
        (("Conv", "BatchNormalization", "Relu"), (), ["Conv"]),
        (("Gemm", "Tanh"), (), ["Gemm"]),
        (("MatMul", "Relu"), (), ["MatMul", "Relu"]),
        (("Conv", "Sin"), (), ["Conv", "Sin"]),
        (("Sin", "Relu"), ("x",), []),
        (("DequantizeLinear", "Conv", "Relu", "QuantizeLinear"), (), ["Conv"]),
        (("DequantizeLinear", "Conv", "Sin"), (), ["Conv", "Sin"]),
        (("Conv", "Relu", "QuantizeLinear"), (), ["Conv", "QuantizeLinear"]),
    ],
)
def test_what_the_runtime_makes_of_nodes(kinds, constants, left):
    assert [step.kind for step in fused(chain(*kinds), constants, named=False).steps] == left


def test_a_convolution_takes_in_the_sum_with_the_way_past_it_once():
    size = Size(KB, KB, (1, KB))
    steps = (
        Step("Sin", ("x",), ("past",)),
        Step("Conv", ("x", "w"), ("inner",)),
        Step("Add", ("inner", "past"), ("sum",)),
        Step("Relu", ("sum",), ("t",)),
        Step("Add", ("t", "past"), ("y",)),
    )
    graph = Graph(steps, dict.fromkeys(("past", "inner", "sum", "t", "y"), size), ("y",))
    left = fused(graph, ("w",), named=False).steps
    assert [(step.kind, step.outputs) for step in left] == [("Sin", ("past",)), ("Conv", ("t",)), ("Add", ("y",))]


def test_gelu_is_one_kernel():
    steps = (
        Step("Sin", ("x",), ("h",)),
        Step("Div", ("h", "root"), ("scaled",)),
        Step("Erf", ("scaled",), ("erf",)),
        Step("Add", ("erf", "one"), ("more",)),
        Step("Mul", ("h", "more"), ("both",)),
        Step("Mul", ("both", "half"), ("y",)),
    )
    graph = Graph(steps, {name: Size(KB) for step in steps for name in step.outputs}, ("y",))
    left = fused(graph, ("root", "one", "half"), named=False)
    assert [step.kind for step in left.steps] == ["Sin", "Gelu"]
    assert life(left, 1).peak == 2 * KB


def test_kernels_work_in_place_where_the_batch_has_a_name_only():
    graph = chain("Sin", "Erf", "Exp", "Sin")
    assert life(fused(graph, (), named=False), 1).block == 2 * KB
    assert life(fused(graph, (), named=True), 1).block == KB


def test_a_view_has_no_bytes_of_its_own_and_keeps_those_it_shows():
    graph = chain("Sin", "Reshape", "Sin", "Sin")
    run = fused(graph, (), named=False)
    assert run.views == {"t1": "t0"}
    assert life(run, 1).block == 2 * KB


def test_an_arena_grows_by_twice_its_last_region_and_touches_what_it_gives():
    arena = Arena()
    first = arena.take(FIRST_REGION_BYTES // 4)
    assert arena.resident == FIRST_REGION_BYTES // 4
    second = arena.take(FIRST_REGION_BYTES)
    assert (second.region, arena.resident) == (1, FIRST_REGION_BYTES // 4 + FIRST_REGION_BYTES)
    assert [arena.take(FIRST_REGION_BYTES).region for _ in range(2)] == [1, 2], "the second region holds two of these"
    arena.give_back(first)
    again = arena.take(FIRST_REGION_BYTES // 2)
    assert (again.region, again.offset) == (0, 0), "what was given back joins the rest of its region"
    assert arena.take(0) is None


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5_000_000)), max_size=60))
def test_no_two_chunks_of_an_arena_overlap(steps):
    arena, held = Arena(), []
    for take, size in steps:
        if take or not held:
            held.append((arena.take(size), size))
        else:
            arena.give_back(held.pop(size % len(held))[0])
        for number, (one, asked) in enumerate(held):
            assert one.size >= asked
            assert one.offset + asked <= arena.touched[one.region]
            for other, _ in held[:number]:
                apart = (
                    one.region != other.region
                    or one.offset >= other.offset + other.size
                    or other.offset >= one.offset + one.size
                )
                assert apart


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5000)), max_size=40))
def test_a_block_is_never_smaller_than_what_lives(choices):
    living, events, peak = {}, [], 0
    for key, size in choices:
        name = str(key)
        if name in living:
            events.append(Event(name, living.pop(name), begins=False))
        else:
            living[name] = size
            events.append(Event(name, size, begins=True))
            peak = max(peak, sum(living.values()))
    assert packed(events) >= peak
