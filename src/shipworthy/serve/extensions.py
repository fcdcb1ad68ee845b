"""The extensions of the Open Inference Protocol that Triton's clients know: statistics, configuration, repository. Pure.

Each answer is a plain dict or list in that server's JSON shapes, for the edge to encode.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from shipworthy.errors import Refused
from shipworthy.records import Target, TensorSpec
from shipworthy.serve.batcher import Plan
from shipworthy.serve.catalog import Live
from shipworthy.serve.statistics import Statistics
from shipworthy.serve.tensors import DATATYPES

NAMES = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)
"""What a server's metadata names as its extensions, as Triton spells them."""


class _Index(msgspec.Struct):
    ready: bool = False


class _Change(msgspec.Struct):
    parameters: dict[str, str | int | float | bool] | None = None


def platform(target: Target) -> str:
    """What runs a model, as metadata names it."""
    return "openvino" if target.runtime == "openvino" else "onnxruntime_onnx"


def statistics(counted: Iterable[tuple[str, int, Statistics]]) -> dict[str, Any]:
    """What each version, by its model's name and its number, has done since it was loaded; times in ns.

    Copying inputs and outputs is not timed apart and nothing is cached: those counts stay 0.
    """
    return {"model_stats": [_statistics(*one) for one in counted]}


def configuration(live: Live, plan: Plan) -> dict[str, Any]:
    """How a version is served, as Triton's ``ModelConfig``; where rows are batched, shapes are given without them."""
    batched = live.signature.is_batched
    config: dict[str, Any] = {
        "name": live.name,
        "platform": platform(live.target),
        "backend": live.target.runtime if live.target.runtime == "openvino" else "onnxruntime",
        "version_policy": {"specific": {"versions": [live.version]}},
        "max_batch_size": plan.max_rows if batched else 0,
        "input": [_tensor(spec, batched=batched) for spec in live.signature.inputs],
        "output": [_tensor(spec, batched=batched) for spec in live.signature.outputs],
        "instance_group": [
            {
                "name": live.name,
                "kind": "KIND_CPU" if live.target.device == "cpu" else "KIND_GPU",
                "count": max(1, plan.threads),
            }
        ],
        "model_transaction_policy": {"decoupled": False},
        "parameters": {"bundle": {"string_value": live.bundle}} if live.bundle else {},
    }
    if batched and plan.max_rows:
        config["dynamic_batching"] = {"preferred_batch_size": [plan.max_rows], "max_queue_delay_microseconds": 0}
    return config


def read_index(body: bytes) -> bool:
    """Whether only versions that are ready are asked for.

    Raises:
        Refused: neither empty nor ``{"ready": true or false}``.
    """
    return bool(_read(body, _Index).ready)


def check_unload(body: bytes) -> None:
    """Refuse a body that is no request to unload; no model depends on another, so its parameters change nothing.

    Raises:
        Refused: neither empty nor ``{"parameters": {…}}`` with plain values.
    """
    _read(body, _Change)


def check_load(body: bytes) -> None:
    """Refuse a body that is no request to load, or that brings a configuration or files of its own.

    Raises:
        Refused: neither empty nor ``{"parameters": {…}}``; or a parameter that we do not follow.
    """
    refuse_parameters(_read(body, _Change).parameters or ())


def refuse_parameters(names: Iterable[str]) -> None:
    """Refuse a configuration or files that come with a request to load.

    Raises:
        Refused: there are any.
    """
    found = ", ".join(names)
    if found:
        raise Refused(
            "a model is loaded as its folder or release has it, not with a configuration or files from a request",
            found=found[:300],
            expected="no parameters",
            next="release the model, or put it into the model repository, then load it",
        )


def _statistics(name: str, version: int, done: Statistics) -> dict[str, Any]:
    never = _duration(0, 0)
    failed = done.failures + done.rejected + done.expired + done.cancelled
    batches = [
        {
            "batch_size": rows,
            "compute_input": never,
            "compute_infer": _duration(count, ns),
            "compute_output": never,
        }
        for rows, (count, ns) in sorted(done.batches.items())
    ]
    return {
        "name": name,
        "version": str(version),
        "last_inference": done.last_ms,
        "inference_count": done.rows,
        "execution_count": sum(count for count, _ in done.batches.values()),
        "inference_stats": {
            "success": _duration(done.successes, done.successes_ns),
            "fail": _duration(failed, done.failures_ns),
            "queue": _duration(done.successes, done.queue_ns),
            "compute_input": never,
            "compute_infer": _duration(done.successes, done.compute_ns),
            "compute_output": never,
            "cache_hit": never,
            "cache_miss": never,
        },
        "batch_stats": batches,
        "memory_usage": [],
        "response_stats": {},
    }


def _duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}


def _tensor(spec: TensorSpec, *, batched: bool) -> dict[str, Any]:
    shape = [-1 if n is None else n for n in spec.shape][1 if batched else 0 :]
    kind = "STRING" if spec.dtype == "str" else DATATYPES[spec.dtype]
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": shape}


def _read(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        fields = ", ".join(kind.__struct_fields__)
        raise Refused(
            "the body is not a request to the model repository",
            found=str(error)[:200],
            expected=f"nothing, or a JSON object with: {fields}",
        ) from None
