"""Weights that an ONNX model keeps in other files: which they are, whether they may be read, and the model as one file.

Nothing outside of the model's folder is opened, whatever the model says: no absolute path, no ``..``, no link that leads
elsewhere, nothing but plain files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError

from shipworthy.errors import Refused

# protobuf holds no more than 2 GiB in one message; the rest is room for what is beside the weights.
LIMIT_BYTES = 1_900_000_000


def files(path: Path) -> dict[str, Path | None]:
    """The files that an ONNX model keeps weights in, by the name it has for them; ``None``: one that may not be read.

    No file but ``path`` is opened. What is no ONNX model has none.
    """
    try:
        content = path.read_bytes()
        if b"location" not in content:  # the key of every such tensor; most models are not read further for this
            return {}
        proto = onnx.load_model_from_string(content)
    except (DecodeError, OSError, ValueError):  # ValueError: more than protobuf holds
        return {}
    return {name: inside(path.parent, name) for name in sorted({location(tensor) for tensor in outside(proto)})}


def join(proto: onnx.ModelProto, path: Path) -> None:
    """Bring all weights into the message, in place.

    Args:
        proto: the model as it was read from ``path``.
        path: the file, whose folder the weights have to lie in.

    Raises:
        Refused: a file is gone or lies elsewhere, is too short, or all together are more than one file holds.
    """
    tensors, room = list(outside(proto)), LIMIT_BYTES - proto.ByteSize()
    for tensor in tensors:
        name = location(tensor)
        file = inside(path.parent, name)
        if file is None:
            raise Refused(
                f"{path} keeps weights where they are not read",
                found=f"tensor '{tensor.name}' in {name[:200]!r}",
                expected=f"a plain file in {path.parent} or a folder below it, and no link to elsewhere",
                next="copy all files of the model into one folder, or export it again with the weights inside",
            )
        start, size = _span(tensor, path, file.stat().st_size)
        room -= size
        if room < 0:
            raise _too_large(path, tensors)
        with file.open("rb") as stream:
            stream.seek(start)
            tensor.raw_data = stream.read(size)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def inside(folder: Path, name: str) -> Path | None:
    """The plain file of that name in a folder or below it; ``None`` where it is something else, or leads elsewhere."""
    if not name or "\0" in name or "\\" in name or PurePosixPath(name).is_absolute():
        return None
    try:
        home, file = folder.resolve(), (folder / name).resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a ring of links
        return None
    return file if file.is_relative_to(home) and file.is_file() else None


def outside(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model whose data lies in another file."""
    graphs = [proto.graph, *(one for info in proto.training_info for one in (info.initialization, info.algorithm))]
    found = [tensor for graph in graphs for tensor in _of_graph(graph)]
    found += [tensor for function in proto.functions for tensor in _of_nodes(function.node)]
    return (tensor for tensor in found if tensor.data_location == onnx.TensorProto.EXTERNAL)


def location(tensor: onnx.TensorProto) -> str:
    """The name of the file that a tensor's data lies in."""
    return next((str(entry.value) for entry in tensor.external_data if entry.key == "location"), "")


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _of_graph(graph)


def _span(tensor: onnx.TensorProto, path: Path, there: int) -> tuple[int, int]:
    """Where in a file of ``there`` bytes the data begins, and how long it is."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    try:
        start = int(said.get("offset") or 0)
        size = int(said.get("length") or there - start)
    except ValueError:
        start, size = -1, -1
    if start < 0 or size < 0 or start + size > there:
        raise Refused(
            f"{path} and its weights do not belong together",
            found=f"tensor '{tensor.name}': {said.get('length', 'all')} bytes from {said.get('offset', '0')} on, "
            f"in {location(tensor)[:200]} of {there} bytes"[:400],
            expected="files that are whole; a truncated download looks like this",
            next="copy or export the model again, with all of its files",
        )
    return start, size


def _too_large(path: Path, tensors: list[onnx.TensorProto]) -> Refused:
    sizes = {name: file.stat().st_size for name in {location(one) for one in tensors} if (file := inside(path.parent, name))}
    return Refused(
        f"{path} and its weights are more than one file holds",
        found=f"{sum(sizes.values()) / 1e9:.1f} GB in {len(sizes)} other file{'s'[: len(sizes) > 1]}",
        expected=f"at most {LIMIT_BYTES / 1e9:.1f} GB: protobuf ends at 2 GB, and one digest has to speak for all of it",
        next="the laws on files still speak, and onnxruntime runs such a model as it lies, outside of this tool; to have it "
        "measured and released, export it in float16, or in parts",
    )
