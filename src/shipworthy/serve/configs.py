"""What the configuration files of a model repository say, in our words. Pure.

``config.pbtxt`` stands beside the versions of a model and is Triton's; ``models.config`` stands in the root of the
repository and is TensorFlow Serving's. A field that is not followed is named in a note, never passed over in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from shipworthy.errors import Refused
from shipworthy.records import Device, Runtime
from shipworthy.serve.source import Policy
from shipworthy.serve.textproto import Fields, integer, last, message, messages, whole

TRITON = "config.pbtxt"
TENSORFLOW = "models.config"
MODEL = "model.onnx"

_THREADS = "intra_op_thread_count"
_KINDS = ("KIND_AUTO", "KIND_CPU", "KIND_GPU", "KIND_MODEL")
_ACCELERATORS: tuple[tuple[str, Device, Runtime], ...] = (
    ("cpu_execution_accelerator", "cpu", "openvino"),
    ("gpu_execution_accelerator", "cuda", "tensorrt"),
)
_POLICY = ("latest.num_versions", "all", "specific.versions")
_TRITON = {
    *("name", "platform", "backend", "default_model_filename", "max_batch_size", "instance_group.kind", "parameters"),
    *(f"version_policy.{one}" for one in _POLICY),
    *(f"optimization.execution_accelerators.{field}.name" for field, _, _ in _ACCELERATORS),
}
_TENSORFLOW = {"name", "base_path", "version_labels", *(f"model_version_policy.{one}" for one in _POLICY)}


@dataclass(frozen=True)
class Config:
    """What a config.pbtxt says of a model; what it leaves out has its default.

    ``most_rows`` bounds a batch, ``threads`` are those of one call, ``device`` is where it runs and ``runtimes`` what runs
    it on each device; ``notes`` name what is not followed.
    """

    file_name: str = MODEL
    most_rows: int | None = None
    policy: Policy | None = None
    threads: int | None = None
    device: Device | None = None
    runtimes: Mapping[Device, Runtime] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """What models.config says of a model: its folder as it stands there, which versions, and labels for them."""

    base_path: str
    policy: Policy | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def of_triton(fields: Fields, folder: str) -> Config:
    """The meaning of the config.pbtxt in a folder of that name.

    Raises:
        Refused: it names another model or one that is not ONNX, or a field has a value that it cannot have.
    """
    _refuse_others(fields, folder)
    kinds = {last(group, "kind") for group in messages(fields, "instance_group")}
    if unknown := sorted(kinds - {"", *_KINDS}):
        raise Refused("'instance_group.kind' is unknown", found=unknown[0][:100], expected=f"one of: {', '.join(_KINDS)}")
    parameters = _map(fields, "parameters")
    accelerators = message(message(fields, "optimization"), "execution_accelerators")
    runtimes: dict[Device, Runtime] = {}
    left = [*_left(fields, _TRITON), *(f"parameters.{key}" for key in parameters if key != _THREADS)]
    for key, device, runtime in _ACCELERATORS:
        for name in (last(one, "name") for one in messages(accelerators, key)):
            if name == runtime:
                runtimes[device] = runtime
            else:
                left.append(f"{key} '{name}'")
    if {"KIND_CPU", "KIND_GPU"} <= kinds:
        left.append("instance_group.kind KIND_CPU")
    rows = integer(fields, "max_batch_size")
    return Config(
        file_name=_file_name(fields),
        most_rows=rows,
        policy=_policy(message(fields, "version_policy")),
        threads=(whole(parameters[_THREADS], f"parameters.{_THREADS}") or None) if _THREADS in parameters else None,
        device="cuda" if "KIND_GPU" in kinds else "cpu" if "KIND_CPU" in kinds else None,
        runtimes=runtimes,
        notes=_notes(TRITON, left),
    )


def of_tensorflow(fields: Fields) -> dict[str, Entry]:
    """The models that a models.config names.

    Raises:
        Refused: it is no list of models, a model has no name or no folder, or a field has a value that it cannot have.
    """
    if other := [name for name in fields if name != "model_config_list"]:
        raise Refused("that is no list of models", found=other[0][:100], expected="model_config_list { config { ... } }")
    entries: dict[str, Entry] = {}
    for one in messages(message(fields, "model_config_list"), "config"):
        name, base_path = last(one, "name"), last(one, "base_path")
        if not name or not base_path or name in entries:
            what = "is named twice" if name in entries else "has no base_path" if name else "has no name"
            raise Refused(f"a model {what}", found=f"name: '{name[:100]}', base_path: '{base_path[:100]}'")
        entries[name] = Entry(
            base_path=base_path,
            policy=_policy(message(one, "model_version_policy")),
            labels={label: whole(text, f"version_labels.{label[:100]}") for label, text in _map(one, "version_labels").items()},
            notes=_notes(TENSORFLOW, _left(one, _TENSORFLOW)),
        )
    return entries


def _refuse_others(fields: Fields, folder: str) -> None:
    name = last(fields, "name")
    if name not in {"", folder}:
        raise Refused(f"{TRITON} names another model", found=name[:100], expected=folder, next="rename the folder or the model")
    for key, only in (("platform", "onnxruntime_onnx"), ("backend", "onnxruntime")):
        found = last(fields, key)
        if found not in {"", only}:
            raise Refused(
                "that is not an ONNX model",
                found=f'{key}: "{found[:100]}"',
                expected=f'{key}: "{only}"',
                next="export the model to ONNX, or take it out of the repository",
            )


def _file_name(fields: Fields) -> str:
    name = last(fields, "default_model_filename") or MODEL
    if "/" in name or "\0" in name or name in {".", ".."}:
        raise Refused("'default_model_filename' is not the name of a file", found=name[:100], expected="such as model.onnx")
    return name


def _policy(fields: Fields) -> Policy | None:
    """Triton's and TensorFlow Serving's messages have the same fields."""
    chosen = [name for name in ("latest", "all", "specific") if name in fields]
    if len(chosen) > 1:
        raise Refused("there are several version policies", found=", ".join(chosen), expected="one")
    if "latest" in fields:
        return Policy(latest=integer(message(fields, "latest"), "num_versions") or 1)
    if "specific" in fields:
        values = message(fields, "specific").get("versions", [])
        listed = {whole(text if isinstance(text, str) else "a message", "versions") for text in values}
        if not listed:
            raise Refused("the version policy 'specific' names no version", expected="versions: [1, 2]")
        return Policy(listed=tuple(sorted(listed)))
    return Policy() if "all" in fields else None


def _map(fields: Fields, name: str) -> dict[str, str]:
    """A map of texts, numbers, or Triton's parameters, by key."""
    found = {}
    for entry in messages(fields, name):
        inner = [value for value in entry.get("value", []) if not isinstance(value, str)]
        found[last(entry, "key")] = last(inner[0], "string_value") if inner else last(entry, "value")
    return found


def _left(fields: Fields, followed: set[str], place: str = "") -> Iterator[str]:
    """The path of every field that is not among those that are followed."""
    for name, values in fields.items():
        path = f"{place}{name}"
        if path in followed:
            continue
        inner = [value for value in values if not isinstance(value, str)]
        if inner and any(one.startswith(f"{path}.") for one in followed):
            for one in inner:
                yield from _left(one, followed, f"{path}.")
        else:
            yield path


def _notes(origin: str, left: Iterable[str]) -> tuple[str, ...]:
    names = [name[:100] for name in dict.fromkeys(left)]
    return (f"{origin}: not followed: {', '.join(names)}",) if names else ()
