from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import Refused
from shipworthy.protocols import Arrays
from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import extensions
from shipworthy.serve.batcher import Batcher, Plan
from shipworthy.serve.catalog import Live
from shipworthy.serve.statistics import CANCELLED, EXPIRED, REJECTED, Statistics


class Still:
    """A runner that is never run."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature

    def run(self, inputs: Arrays) -> dict[str, Any]:  # noqa: ARG002
        raise AssertionError

    def close(self) -> None:
        pass


def live(*shape: int | None, name: str = "m", version: int = 1, bundle: str = "") -> Live:
    signature = Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=shape), TensorSpec(name="t", dtype="str", shape=(None, 1))),
        outputs=(TensorSpec(name="y", dtype="bool", shape=(None,)),),
    )
    statistics = Statistics()
    runner = Still(signature)
    return Live(name, version, bundle, runner, Batcher(runner, Plan(), statistics), statistics)


def test_statistics_say_what_was_done() -> None:
    one = live(None, 2, version=3)
    done = one.statistics
    for rows, took in ((4, 100), (1, 30), (4, 120)):
        done.batch(rows, took)
    done.succeeded([50] * 5, [20] * 5, 10, [0] * 5)
    done.failed(70)
    for outcome, count in ((REJECTED, 2), (EXPIRED, 3), (CANCELLED, 4)):
        for _ in range(count):
            done.turned_away(outcome)
    (plain,) = json.loads(json.dumps(extensions.statistics([(one.name, one.version, one.statistics)])))["model_stats"]
    assert (plain["name"], plain["version"]) == ("m", "3")
    assert plain["last_inference"] == done.last_ms > 1_600_000_000_000
    assert (plain["inference_count"], plain["execution_count"]) == (9, 3)
    never = {"count": 0, "ns": 0}
    assert plain["inference_stats"] == {
        "success": {"count": 5, "ns": 250},
        "fail": {"count": 10, "ns": 70},
        "queue": {"count": 5, "ns": 100},
        "compute_input": never,
        "compute_infer": {"count": 5, "ns": 50},
        "compute_output": never,
        "cache_hit": never,
        "cache_miss": never,
    }
    assert [(one["batch_size"], one["compute_infer"]) for one in plain["batch_stats"]] == [
        (1, {"count": 1, "ns": 30}),
        (4, {"count": 2, "ns": 220}),
    ]


def test_a_batched_model_has_a_largest_batch_and_shapes_without_rows() -> None:
    plain = extensions.configuration(live(None, 3, None, version=2, bundle="ab"), Plan(max_rows=16, threads=2))
    assert (plain["name"], plain["max_batch_size"]) == ("m", 16)
    assert plain["input"] == [
        {"name": "x", "data_type": "TYPE_FP32", "dims": [3, -1]},
        {"name": "t", "data_type": "TYPE_STRING", "dims": [1]},
    ]
    assert plain["output"] == [{"name": "y", "data_type": "TYPE_BOOL", "dims": []}]
    assert plain["dynamic_batching"]["preferred_batch_size"] == [16]
    assert plain["instance_group"][0]["count"] == 2
    assert plain["version_policy"] == {"specific": {"versions": [2]}}
    assert plain["parameters"] == {"bundle": {"string_value": "ab"}}


@pytest.mark.parametrize("shape", [(2, 3), ()])
def test_a_model_without_free_rows_has_no_batches(shape: tuple[int, ...]) -> None:
    plain = extensions.configuration(live(*shape), Plan())
    assert plain["max_batch_size"] == 0
    assert "dynamic_batching" not in plain
    assert plain["input"][0]["dims"] == list(shape)
    assert plain["output"][0]["dims"] == [-1]
    assert plain["instance_group"][0]["count"] == 1


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": true}', b'{"ready": false, "more": 1}'])
def test_an_index_may_be_asked_for(body: bytes) -> None:
    assert extensions.read_index(body) == (b"true" in body)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"parameters": {}}', b'{"parameters": null}'])
def test_a_change_may_be_asked_for(body: bytes) -> None:
    extensions.check_load(body)
    extensions.check_unload(body)


def test_dependents_may_be_named_but_a_configuration_is_refused() -> None:
    extensions.check_unload(b'{"parameters": {"unload_dependents": true}}')
    for key in ("config", "file:1/model.onnx"):
        with pytest.raises(Refused, match=key):
            extensions.check_load(json.dumps({"parameters": {key: "x"}}).encode())


CHECKS = [extensions.read_index, extensions.check_load, extensions.check_unload]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"1",
        b"{",
        b"\xff",
        b'{"ready": 1, "parameters": 1}',
        b'{"parameters": {"a": {}}, "ready": "x"}',
        b'{"parameters": {"\xff": 1}, "ready": "\xff"}',
    ],
)
def test_what_is_no_request_is_refused(check: Any, body: bytes) -> None:
    with pytest.raises(Refused, match="repository"):
        check(body)


@given(st.binary(max_size=20), st.sampled_from(CHECKS))
def test_garbage_is_fine_or_refused(body: bytes, check: Any) -> None:
    try:
        check(body)
    except Refused as error:
        assert error.http_status == 400  # noqa: PT017
    else:
        assert not body or isinstance(json.loads(body), dict)
