"""What ``shipworthy init`` does: look at a model and the files beside it, and write a commented shipworthy.toml.

The options come from the settings records (``groups``), so the file is never out of date. Nothing is loaded that could
execute code: a pickle is only named, and of an .npz file only the headers of its arrays are read.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np

from shipworthy import files
from shipworthy.backends import boosters, sklearn, tensorflow_file, torch
from shipworthy.errors import Refused
from shipworthy.records import Signature, Target, TensorSpec
from shipworthy.settings import FILE_NAME, Section, Settings, TargetSettings, for_model
from shipworthy.text import printable

FORMATS = (".onnx", *sklearn.SUFFIXES, *boosters.SUFFIXES, *torch.SUFFIXES, *tensorflow_file.SUFFIXES)
# Where each kind of rows usually lies, the best name first.
USUAL_NAMES = {
    "evaluation": ("evaluation.npz", "eval.npz", "test.npz", "val*.npz"),
    "calibration": ("calibration.npz", "calib*.npz", "train.npz"),
    "baseline": ("baseline.npz", "train.npz"),
}
UNITS = {"percent": "%", "ms": "ms", "rps": "rows/s", "mb": "MB", "seconds": "s", "rows": "rows"}
# What an option without a default is shown as: a value to start from, never one that is used unasked.
EXAMPLES = {"%": 99.0, "ms": 10.0, "rows/s": 1000.0, "MB": 100.0, "": 0.9}

Headers: TypeAlias = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


@dataclass(frozen=True)
class Option:
    """One key of shipworthy.toml.

    ``unit`` and ``limits`` are empty where there are none; ``default`` is ``None`` where leaving the key out means "not
    set", and ``required`` says that it must be there; ``value`` is what an example of the line holds.
    """

    key: str
    kind: str
    unit: str
    limits: str
    required: bool
    default: Any
    value: Any
    about: str


@dataclass(frozen=True)
class Group:
    """One section of shipworthy.toml: its name, what it is about, and its keys; a ``repeated`` one may stand many times."""

    name: str
    about: str
    options: tuple[Option, ...]
    repeated: bool = False

    @property
    def head(self) -> str:
        """The line that it begins with."""
        return f"[[{self.name}]]" if self.repeated else f"[{self.name}]"


def groups() -> tuple[Group, ...]:
    """Every section of shipworthy.toml with every key, in the order of the records."""
    found: list[Group] = []
    for one in msgspec.structs.fields(Settings):
        kind = TargetSettings if one.name == "targets" else one.type
        if isinstance(kind, type) and issubclass(kind, Section):
            found += _groups("targets.NAME" if one.name == "targets" else one.name, kind)
    return tuple(found)


def toml(value: Any) -> str:
    """``value`` (text, bool, number, list or table of these) as TOML writes it on one line."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inner = ", ".join(f"{toml(key)} = {toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(one) for one in value)}]"
    return json.dumps(value)


def write(model: Path, force: bool = False) -> Path:  # noqa: FBT001, FBT002
    """Write a commented shipworthy.toml beside the model, filled with what the files there show.

    Args:
        model: the trained file, with one of ``FORMATS``, or the folder of a SavedModel; only .onnx is loaded.
        force: write over the settings that are there.

    Returns:
        The file written.

    Raises:
        Refused: no such model, another folder, not a model, or there are settings already.
        Failed: the folder cannot be written.
    """
    _refuse_no_model(model)
    path = model.parent / FILE_NAME
    if path.is_dir():
        raise Refused(f"{path} is a folder", expected="room for the settings file", next="move the folder away")
    if path.exists() and not force:
        raise Refused(f"{path} exists already", next="edit it, or write a new one over it with --force")
    with files.machine_errors(model.parent):
        looked = _look(model)
    files.write_bytes(path, _page(model, looked).encode())
    return path


@dataclass
class _Looked:
    """What the files show: ``values`` by dotted key, and ``notes`` by section (empty: the head of the file)."""

    values: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def note(self, section: str, text: str) -> None:
        notes = self.notes.setdefault(section, [])
        if text not in notes:
            notes.append(text)


# ---------------------------------------------------------------- the records as a table


def _groups(name: str, kind: type[msgspec.Struct], repeated: bool = False) -> list[Group]:  # noqa: FBT001, FBT002
    """The section, and those that may stand in it many times."""
    about = (kind.__doc__ or "").partition(": ")[2].partition("\n")[0]
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)  # noqa: S101 - for the type checker
    found = [Group(name, about, tuple(_option(each) for each in info.fields), repeated)]
    for each in info.fields:
        inner = each.type.type if isinstance(each.type, msgspec.inspect.Metadata) else each.type
        if isinstance(inner, msgspec.inspect.VarTupleType) and isinstance(inner.item_type, msgspec.inspect.StructType):
            found += _groups(f"{name}.{each.name}", inner.item_type.cls, repeated=True)
    return found


def _option(one: msgspec.inspect.Field) -> Option:
    about, kind, optional = "", one.type, False
    if isinstance(kind, msgspec.inspect.Metadata):
        about, kind = (kind.extra_json_schema or {}).get("description", ""), kind.type
    if isinstance(kind, msgspec.inspect.UnionType):
        optional, kind = True, kind.types[0]
    unit = UNITS.get(one.name.rpartition("_")[2], "")
    default = None if one.default is msgspec.NODEFAULT else one.default
    if one.default_factory is not msgspec.NODEFAULT:
        default = one.default_factory()
    value = default
    if optional:
        value = kind.values[0] if isinstance(kind, msgspec.inspect.LiteralType) else EXAMPLES.get(unit)
    return Option(one.name, _kind(kind), unit, _limits(kind), one.required, default, value, about)


def _kind(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.LiteralType):
        return ("one of " if len(kind.values) > 1 else "") + ", ".join(toml(one) for one in kind.values)
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return f"list of {_kind(kind.item_type).removeprefix('one of ')}"
    if isinstance(kind, msgspec.inspect.DictType):
        return f"table of {_kind(kind.value_type)}"
    return {
        "BoolType": "true or false",
        "IntType": "whole number",
        "FloatType": "number",
        "StrType": "text",
        "StructType": "tables",
    }[type(kind).__name__]


def _limits(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.StrType):
        return f"matches `{kind.pattern}`" if kind.pattern else "not empty" if kind.min_length else ""
    if not isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return ""
    low = f"above {kind.gt}" if kind.gt is not None else f"{kind.ge}" if kind.ge is not None else ""
    high = f"{kind.le:.15g}" if kind.le is not None else ""
    joint = ", at most " if kind.gt is not None else " to "
    return joint.join(part for part in (low, high) if part)


# ---------------------------------------------------------------- looking


def _refuse_no_model(model: Path) -> None:
    expected = f"a trained model: {', '.join(FORMATS)}, or the folder of a SavedModel"
    try:
        model.name.encode()
        if (model / tensorflow_file.GRAPH).is_file():
            return
        beside = sorted(one.name for one in model.iterdir() if _is_model(one)) if model.is_dir() else []
        folder, there, empty = model.is_dir(), model.is_file(), model.is_file() and not model.stat().st_size
    except (OSError, ValueError) as error:
        raise Refused(f"{str(model)[:200]!r} cannot be read", found=str(error)[:300], expected=expected) from None
    if folder:
        found = f"models in it: {', '.join(beside[:5])}" if beside else "no model in it"
        mend = f"shipworthy init {model / (beside or ['MODEL'])[0]}"
        raise Refused(f"{model} is a folder", found=found, expected=expected, next=mend)
    if not there:
        raise Refused(f"there is no file {model}", expected=expected, next="correct the path")
    if empty or not _is_model(model):
        found = "an empty file" if empty else "another text" if model.suffix in FORMATS else model.suffix or "no suffix"
        mend = "export the model again, in one of these formats"
        raise Refused(f"{model} is not a model", found=found, expected=expected, next=mend)


def _is_model(path: Path) -> bool:
    """Whether a file may be one by its suffix; where that is one of anything, by its first bytes."""
    return boosters.is_model(path) if path.suffix in boosters.SUFFIXES and path.is_file() else path.suffix in FORMATS


def _look(model: Path) -> _Looked:
    looked = _Looked({"model.name": for_model(model).model.name, "model.path": model.name})
    if (model.parent / "train.py").is_file():
        looked.values["model.train"] = "train.py"
    signature = None
    if model.suffix != ".onnx":
        looked.note("model", f"{model.name} was not loaded: what it takes and gives is not known here.")
        if reason := _why_trust(model):
            looked.values["model.trust"] = False
            looked.note("model", reason)
            looked.note("model", "Only if you made it yourself, set trust = true here or give --trust.")
    else:
        signature = _signature(model)
        looked.note("", "What the model takes and gives (? is a free dimension):")
        for word, specs in (("takes", signature.inputs), ("gives", signature.outputs)):
            for spec in specs:
                looked.note("", f"  {word} {spec}")
    _look_at_data(model.parent, signature, looked)
    return looked


def _why_trust(model: Path) -> str:
    """What there is in a file that executes code when it loads; empty where there is nothing."""
    if model.suffix in sklearn.PICKLES:
        return "It is a pickle: loading it executes whatever its maker put in."
    if model.suffix == sklearn.SKOPS:
        return "Loading it needs trust where it holds types that skops does not know; check names them."
    if model.suffix == torch.PROGRAM:
        return "It can hold pickles: loading it executes whatever its maker put in."
    if model.suffix == torch.WEIGHTS:
        return "It holds weights, and no model: factory names the function of yours that makes the module, and is executed."
    return tensorflow_file.executes(model) if model.is_dir() or model.suffix in tensorflow_file.SUFFIXES else ""


def _signature(model: Path) -> Signature:
    from shipworthy.backends.onnxruntime import OnnxRuntimeRunner  # noqa: PLC0415 - not needed for a pickle

    runner = OnnxRuntimeRunner(model, Target())
    runner.close()
    return runner.signature


def _look_at_data(folder: Path, signature: Signature | None, looked: _Looked) -> None:
    names: dict[str, str] | None = None
    for key, patterns in USUAL_NAMES.items():
        path = _beside(folder, patterns)
        if path is None:
            continue
        headers = _headers(path)
        if isinstance(headers, str):
            looked.note("data", f"{path.name} lies here and is not a readable .npz file: {headers}")
            continue
        shown = ", ".join(f"{name} {dtype} {list(shape)}" for name, (shape, dtype) in headers.items())
        looked.note("data", f"{path.name} holds {shown or 'nothing'}")
        mapping = _mapping(headers, signature, names)
        if mapping is None:
            looked.note("data", f"{path.name} is not used: it does not hold exactly one array for each input of the model")
            continue
        names = mapping
        looked.values[f"data.{key}"] = path.name
        if key == "evaluation":
            _look_for_labels(headers, set(mapping.values()), looked)
    different = {name: array for name, array in (names or {}).items() if name != array}
    if different:
        looked.values["data.inputs"] = different


def _beside(folder: Path, patterns: tuple[str, ...]) -> Path | None:
    there = sorted(one for one in folder.iterdir() if one.is_file() and one.name.isprintable())
    return next((one for pattern in patterns for one in there if fnmatch(one.name.lower(), pattern)), None)


def _headers(path: Path) -> Headers | str:
    """Shape and dtype of every array, or why the file cannot be read; no array is loaded."""
    found: Headers = {}
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as stream:
                    shape, _, dtype = readers[np.lib.format.read_magic(stream)](stream)
                    found[member.removesuffix(".npy")] = (shape, dtype)
    except Exception as error:  # noqa: BLE001 - a broken file makes zipfile, zlib and numpy raise almost anything
        return (str(error).splitlines() or [type(error).__name__])[0][:120]
    return found


def _mapping(headers: Headers, signature: Signature | None, names: Mapping[str, str] | None) -> dict[str, str] | None:
    """Input of the model to array; ``None`` when the shapes do not make it clear. ``names``: decided by an earlier file."""
    mapping: dict[str, str] = {}
    for spec in signature.inputs if signature else ():
        fitting = [name for name, (shape, dtype) in headers.items() if _fits(shape, dtype, spec)]
        wanted = (names or {}).get(spec.name, spec.name)
        if wanted in fitting:
            mapping[spec.name] = wanted
        elif len(fitting) == 1 and not names:
            mapping[spec.name] = fitting[0]
        else:
            return None
    return mapping if len(set(mapping.values())) == len(mapping) else None


def _fits(shape: tuple[int, ...], dtype: np.dtype[Any], spec: TensorSpec) -> bool:
    if len(shape) != len(spec.shape) or not shape:
        return False
    if any(n is not None and n != m for n, m in zip(spec.shape[1:], shape[1:], strict=True)):
        return False
    return dtype.kind == "U" if spec.dtype == "str" else np.can_cast(dtype, np.dtype(spec.dtype), "same_kind")


def _look_for_labels(headers: Headers, inputs: set[str], looked: _Looked) -> None:
    rows = {shape[0] for name, (shape, _) in headers.items() if (name in inputs if inputs else len(shape) > 1)}
    fitting = [n for n, (shape, _) in headers.items() if len(shape) == 1 and shape[0] in rows and n not in inputs]
    if "y" in fitting:
        looked.values["gates.accuracy_kept_percent"] = EXAMPLES["%"]
    elif len(fitting) == 1:
        looked.values["data.labels"] = fitting[0]
        looked.values["gates.accuracy_kept_percent"] = EXAMPLES["%"]
    else:
        looked.note("data", f"which array holds the labels is not clear: name it below (found: {', '.join(fitting) or 'none'})")


# ---------------------------------------------------------------- writing


def _page(model: Path, looked: _Looked) -> str:
    return "\n".join(_lines(model, looked)) + "\n"


def _lines(model: Path, looked: _Looked) -> Iterator[str]:
    yield _comment(f"Shipworthy's settings for {model.name}, written by looking at it and at the files beside it.")
    yield _comment("Remove the # before a key to set it: it stands at its default or, where there is none, at an example.")
    yield _comment("Precedence: a flag, then this file, then the default. Paths are relative to this file; MB is 10**6 bytes.")
    for text in looked.notes.get("", []):
        yield _comment(text)
    for group in groups():
        if group.repeated:  # one that stood here, though empty, would be one that is meant
            continue
        yield ""
        yield _comment(group.about[:1].upper() + group.about[1:])
        for text in looked.notes.get(group.name, []):
            yield _comment(text)
        yield group.head.replace("NAME", "cpu")
        for option in group.options:
            choices = option.kind if option.kind.startswith("one of") else ""
            bounds = ", ".join(part for part in (option.unit, option.limits, choices) if part)
            yield _comment(option.about + (f" ({bounds})" if bounds else ""))
            if f"{group.name}.{option.key}" in looked.values:
                yield f"{option.key} = {toml(looked.values[f'{group.name}.{option.key}'])}"
            else:
                yield f"#{option.key} = {toml(option.value)}"


def _comment(text: str) -> str:
    return f"# {printable(text)}"
