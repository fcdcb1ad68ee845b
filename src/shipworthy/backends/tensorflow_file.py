"""What a file of Keras or a folder of TensorFlow is, and whether loading it executes code: read without TensorFlow."""

from __future__ import annotations

import importlib.util
import json
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from shipworthy.errors import Refused

Kind = Literal["keras", "tf_keras", "saved_model"]
KERAS, HDF5 = ".keras", ".h5"
SUFFIXES = (KERAS, HDF5)
MAGIC = b"\x89HDF\r\n\x1a\n"
GRAPH = "saved_model.pb"
# One ONNX file holds no more.
LIMIT_BYTES = 2_000_000_000
CONFIG_BYTES = 50_000_000

# Keras' own objects that a file may name: layers, operations, and what they are made with.
OWN = re.compile(
    r"keras(\.(layers|initializers|regularizers|constraints|activations|dtype_policies|models|random)"
    r"|\.src\.(models\.(functional|sequential|model)|ops\.\w+))?"
)
VALUES = ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__")
# Keras' own layers that run what they find, in the file or beside it.
RUNNERS = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
# Options of layers that name a file to read, where they are not a list.
FILES = ("vocabulary", "idf_weights")


def kind(path: Path) -> Kind:
    """Which of the three formats it is, by what is in it; an .h5 file is taken for one of Keras 2.

    Raises:
        Refused: none of them, gone, broken, or over 2 GB.
    """
    if not path.exists():
        raise Refused(f"there is no file {path}", next="correct the path; it is read relative to the settings file")
    if path.is_dir():
        return _saved_model(path)
    if path.suffix == HDF5:
        _bound(path, path.stat().st_size)
        with path.open("rb") as stream:
            if (start := stream.read(len(MAGIC))) != MAGIC:
                raise _broken(path, f"{start!r} at its start, which HDF5 does not have")
        return "tf_keras"
    with _opened(path) as archive:
        version = str(_json(archive, path, "metadata.json").get("keras_version", ""))
    major = version.partition(".")[0]
    if major not in {"2", "3"}:
        raise Refused(f"{path} is of no known version of Keras", found=f"'{version}'", expected="Keras 2 or 3")
    return "keras" if major == "3" else "tf_keras"


def executes(path: Path) -> str:
    """Why loading the file can execute code that is not Keras' own; empty when it cannot.

    Raises:
        Refused: as ``kind``.
    """
    return next(iter(reasons(path)), "")


def reasons(path: Path) -> list[str]:
    """All that ``executes`` could say, each once.

    Raises:
        Refused: as ``kind``.
    """
    found = kind(path)
    if found == "saved_model":
        return ["a SavedModel is a program: its graph can read and write files"]
    if found == "tf_keras":
        return ["files of Keras 2 can hold Python code, and its loader executes it", *_runners_of_keras_2(path)]
    with _opened(path) as archive:
        config = _json(archive, path, "config.json")
    config.pop("compile_config", None)  # losses and optimizers are not loaded
    return list(dict.fromkeys(_foreign(config)))


def _runners_of_keras_2(path: Path) -> Iterator[str]:
    """Which of its layers run code; of an .h5 file only h5py can read that."""
    if path.suffix == KERAS:
        with _opened(path) as archive:
            text = json.dumps(_json(archive, path, "config.json"))
    elif importlib.util.find_spec("h5py") is None:
        yield "which of its layers do is not known: h5py is not installed"
        return
    else:
        import h5py  # noqa: PLC0415

        try:
            with h5py.File(path, "r") as file:
                text = str(file.attrs.get("model_config", ""))
        except Exception as error:  # noqa: BLE001 - a broken file makes HDF5 raise almost anything
            raise _broken(path, str(error)) from None
    named = {name for name in RUNNERS if re.search(rf'"class_name": *"{name}"', text)}
    yield from (f"a layer {name} runs code of its own" for name in sorted(named))


def _foreign(config: Any) -> Iterator[str]:
    """What of a configuration is not made of Keras' own parts alone."""
    left = [config]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left.extend(value)
        elif isinstance(value, dict):
            if "class_name" in value and (said := _stranger(value)):
                yield said
            yield from (f"its '{key}' names a file" for key in FILES if isinstance(value.get(key), str))
            left.extend(value.values())


def _stranger(value: Mapping[str, Any]) -> str:
    name, module, registered = value["class_name"], value.get("module"), value.get("registered_name")
    if name in VALUES and module is None:
        return ""
    if name in (*RUNNERS, "__lambda__"):
        return f"a layer {'Lambda' if name == '__lambda__' else name} runs code of its own"
    own = isinstance(name, str) and name.isidentifier() and not name.startswith("_") and registered in (None, name)
    if not own or not isinstance(module, str) or not OWN.fullmatch(module):
        return f"'{registered or name}' of {module or 'the code it was trained with'} is not Keras' own"
    return ""


def _saved_model(path: Path) -> Kind:
    if not (path / GRAPH).is_file():
        raise Refused(
            f"the folder {path} cannot be read as a model",
            found=f"no {GRAPH}",
            expected="a SavedModel of TensorFlow",
            next="name the folder that has it; where it was trained: model.export(FOLDER)",
        )
    _bound(path, sum(one.stat().st_size for one in path.rglob("*") if one.is_file()))
    return "saved_model"


def _opened(path: Path) -> zipfile.ZipFile:
    """The archive; every file in it is bounded."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise _broken(path, str(error)) from None
    size = sum(one.file_size for one in archive.infolist())
    if size > LIMIT_BYTES:
        archive.close()
        _bound(path, size)
    return archive


def _json(archive: zipfile.ZipFile, path: Path, name: str) -> dict[str, Any]:
    size = next((one.file_size for one in archive.infolist() if one.filename == name), None)
    if size is None or size > CONFIG_BYTES:
        raise _broken(path, f"no {name} in it" if size is None else f"{name} of {size} bytes")
    try:
        read = json.loads(archive.read(name))
    except Exception as error:  # noqa: BLE001 - a broken archive makes zipfile, zlib and json raise almost anything
        raise _broken(path, f"{name}: {error}") from None
    if not isinstance(read, dict):
        raise _broken(path, f"{name} is no object")
    return read


def _broken(path: Path, found: str) -> Refused:
    return Refused(
        f"{path} is not a readable file of Keras",
        found=found[:200],
        expected="what model.save writes: a whole file; a truncated download looks like this",
        next="write or copy the file again",
    )


def _bound(path: Path, size: int) -> None:
    if size > LIMIT_BYTES:
        raise Refused(
            f"{path} is too large", found=f"{size / 1e9:.1f} GB", expected="at most 2 GB, which one ONNX file can hold"
        )
