"""A look inside a model while onnxruntime runs it: any tensor between its nodes, with its optimisations or without."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnxruntime as ort

from shipworthy.backends.onnxruntime import first_line, session
from shipworthy.backends.onnxruntime_passes import feed
from shipworthy.errors import Failed
from shipworthy.protocols import Array, Arrays
from shipworthy.records import Target


class Inside:
    """One model whose tensors can be looked at; from ``opened``."""

    def __init__(self, copy: Path, whole: int, outputs: Collection[str]) -> None:
        """``copy`` is ours to change; ``whole`` are the bytes of it that are the model, ``outputs`` what that gives anyway."""
        self._copy, self._whole, self._outputs = copy, whole, outputs

    def look(self, names: Sequence[str], inputs: Arrays, *, optimised: bool = False) -> dict[str, Array]:
        """The tensors of these names: what nodes of the outermost graph give, for one call.

        Without optimisations every node runs as it is written. With them a tensor that is looked at stands in the way of
        a fusion around it, the others are fused.

        Raises:
            Refused: onnxruntime does not load the model with these outputs.
            Failed: it could not run the call.
        """
        self._show(names)
        options = ort.SessionOptions()
        options.enable_cpu_mem_arena = False
        if not optimised:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        loaded = session(self._copy, Target(), options)
        try:
            return dict(zip(names, loaded.run(list(names), inputs), strict=True))
        except Exception as error:  # whatever the runtime raises: the boundary lets out only our own
            raise Failed("onnxruntime could not run the rows", found=first_line(error)) from error

    def stream(self, names: Sequence[str], rows: Arrays, take: Callable[[Mapping[str, Array]], None]) -> None:
        """Give ``take`` these tensors and inputs for all rows, a few at a time; see ``onnxruntime_passes.feed``."""
        self._show([name for name in names if name not in rows])
        feed(self._copy, names, rows, take)

    def _show(self, names: Sequence[str]) -> None:
        """Make outputs of them. Messages of protobuf one after the other are one: lists in them are joined.

        Source: https://protobuf.dev/programming-guides/encoding/, "Last One Wins". The weights are so never in memory.
        """
        import onnx  # noqa: PLC0415  (never in a server)

        further = onnx.ModelProto()
        further.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in self._outputs)
        with self._copy.open("r+b") as stream:
            stream.truncate(self._whole)
            stream.seek(self._whole)
            stream.write(further.SerializeToString())


@contextmanager
def opened(model: Path, outputs: Collection[str]) -> Iterator[Inside]:
    """A copy of the model to look into, for so long; ``outputs`` are the names of its outputs."""
    with tempfile.TemporaryDirectory(prefix="shipworthy-inside-") as scratch:
        copy = Path(scratch) / "inside.onnx"
        shutil.copyfile(model, copy)
        yield Inside(copy, copy.stat().st_size, outputs)
