"""A PyTorch model in the process that may import torch: loaded, traced, written as ONNX, asked.

Loading executes code: the user's factory, or what is pickled in a .pt2.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from shipworthy.backends.errand import first_line
from shipworthy.backends.fine_tune import function
from shipworthy.backends.torch import PACKAGES, PROGRAM, Recipe
from shipworthy.errors import Refused
from shipworthy.protocols import Array

# Two rows: with one, the tracer takes the number of rows for a constant.
ROWS = 2
# Rows of one call of the framework.
BATCH = 64


@dataclass(frozen=True)
class Trained:
    """A module in evaluation mode, with rows that show what it takes: a tensor an input, in the order of ``forward``.

    ``program`` is what a .pt2 holds, with its shapes; its inputs may be positional (the first ``positional`` of them).
    """

    module: Any
    example: dict[str, Any]
    program: Any = None
    positional: int = 0

    def write_onnx(self, result: Path, opset: int, ir_version: int) -> None:
        """Write the model as ONNX: only standard operators, weights inside, the same bytes for the same model.

        Raises:
            Refused: it cannot be traced with a free number of rows, or has no ONNX form.
        """
        import torch  # noqa: PLC0415

        outputs = len(self.outputs(self.example))
        names = ["output"] if outputs == 1 else [f"output_{place}" for place in range(outputs)]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    self.program or self.traced(),
                    (),
                    str(result),
                    dynamo=True,
                    opset_version=opset,
                    input_names=list(self.example),
                    output_names=names,
                    external_data=False,
                    verbose=False,
                )
        except Exception as error:  # the exporter raises what it likes
            raise Refused(
                "the PyTorch model has no ONNX form",
                found=first_line(error.__cause__ or error),
                expected="a forward that torch.export can trace for any number of rows along the first axis of every input",
                next="mend what is found in forward, or export it yourself (torch.export.save) and give the .pt2 file",
            ) from error
        _clean(result, ir_version)

    def traced(self) -> Any:
        """The graph of the module, for any number of rows."""
        import torch  # noqa: PLC0415

        rows = {name: {0: torch.export.Dim("rows")} for name in self.example}
        return torch.export.export(self.module, (), dict(self.example), dynamic_shapes=rows)

    def answer(self, inputs: Mapping[str, Array]) -> list[Array]:
        """What the module answers, every output with its rows along the first axis, a piece of the rows at a time."""
        import torch  # noqa: PLC0415

        count = len(next(iter(inputs.values())))
        pieces: list[list[Array]] = []
        # Pieces of much the same size: some programs do not take a single row.
        for chosen in np.array_split(np.arange(count), -(-count // BATCH)):
            piece = {name: torch.from_numpy(np.ascontiguousarray(inputs[name][chosen])) for name in self.example}
            pieces.append([one.numpy() for one in self.outputs(piece)])
        return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]

    def outputs(self, inputs: Mapping[str, Any]) -> list[Any]:
        """The tensors that the module gives for tensors; nothing is kept for training.

        Raises:
            Refused: it gives something else.
        """
        import torch  # noqa: PLC0415

        with torch.no_grad():
            if not self.program:
                return _tensors(self.module(**inputs))
            values = list(inputs.values())
            keywords = list(self.program.example_inputs[1])
            given = dict(zip(keywords, values[self.positional :], strict=True))
            return _tensors(self.module(*values[: self.positional], **given))


def load(path: Path, recipe: Recipe) -> Trained:
    """The model in the file, in evaluation mode and float32.

    Raises:
        Refused: the file cannot be read, the recipe does not fit it, or its code fails.
    """
    if path.suffix == PROGRAM:
        return _program(path)
    module = _module(path, recipe.factory)
    return Trained(module, _example(module, recipe))


def versions() -> dict[str, str]:
    """The packages that convert: name to version."""
    return {name: metadata.version(name) for name in PACKAGES}


def _module(path: Path, factory: str) -> Any:
    import torch  # noqa: PLC0415
    from safetensors.torch import load_model  # noqa: PLC0415

    make = function(factory)
    try:
        module = make()
    except Exception as error:  # the user's code raises what it likes
        raise Refused(
            f"{factory} failed", found=first_line(error), expected="a torch.nn.Module, made without arguments"
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise Refused(f"{factory} gave no model", found=type(module).__name__, expected="a torch.nn.Module")
    try:
        load_model(module, path)
    except RuntimeError as error:
        raise Refused(
            f"the weights in {path} are not those of the module that {factory} makes",
            found=" ".join(str(error).split())[:300],
            next="make the module with the sizes it was trained with",
        ) from None
    except Exception as error:  # noqa: BLE001 - its own errors have no common base
        raise Refused(
            f"{path} is not a readable safetensors file",
            found=first_line(error),
            next="write it again: safetensors.torch.save_file(model.state_dict(), FILE)",
        ) from None
    return module.float().eval()


def _example(module: Any, recipe: Recipe) -> dict[str, Any]:
    """The first rows of the data, a tensor an input of ``forward``."""
    import torch  # noqa: PLC0415

    parameters = inspect.signature(module.forward).parameters.values()
    wanted = [
        one.name for one in parameters if one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
    ]
    if not wanted:
        raise Refused("forward of the module names no inputs", expected="a parameter an input, as forward(self, image)")
    arrays = _arrays(recipe.rows)
    example = {}
    for name in wanted:
        array = arrays.get(recipe.names.get(name, name))
        if array is None or array.ndim == 0 or len(array) < ROWS:
            raise Refused(
                f"{recipe.rows} does not show what the input '{name}' of forward takes",
                found="arrays " + ", ".join(f"'{one}' {a.dtype} {list(a.shape)}" for one, a in sorted(arrays.items())),
                expected=f"an array '{recipe.names.get(name, name)}' of at least {ROWS} rows",
                next=f'rename it, or map it in shipworthy.toml: [data] inputs = {{ {name} = "THE ARRAY" }}',
            )
        rows = array[:ROWS].astype(np.float32) if array.dtype.kind == "f" else array[:ROWS]
        example[name] = torch.from_numpy(np.ascontiguousarray(rows))
    return example


def _arrays(path: Path | None) -> dict[str, Array]:
    try:
        with np.load(str(path), allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:  # noqa: BLE001 - a broken file makes zipfile, zlib and numpy raise almost anything
        raise Refused(
            f"{path} is not a readable .npz file", found=first_line(error), expected="plain arrays (numpy.savez)"
        ) from None


def _program(path: Path) -> Trained:
    import torch  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(path)
            module = program.module()
    except Exception as error:  # zipfile, pickle and torch raise anything
        raise Refused(
            f"{path} is not a readable exported program",
            found=first_line(error),
            expected=f"what torch.export.save wrote, with a torch that {metadata.version('torch')} can read",
            next="export it again",
        ) from error
    names = [one.arg.name for one in program.graph_signature.input_specs if one.kind.name == "USER_INPUT"]
    if program.example_inputs is None:
        raise Refused(f"{path} has no example inputs", next="export it again: torch.export.export keeps them")
    positional, keywords = program.example_inputs
    values = [*positional, *keywords.values()]
    if len(values) != len(names) or not all(isinstance(one, torch.Tensor) for one in values):
        raise Refused(
            f"{path} takes more than tensors", expected="a program whose inputs are tensors, not lists or dictionaries"
        )
    if any(one.is_floating_point() and one.dtype != torch.float32 for one in values):
        raise Refused(
            f"{path} does not take float32", found=", ".join(str(one.dtype) for one in values), next="export it in float32"
        )
    return Trained(module, dict(zip(names, values, strict=True)), program, len(positional))


def _tensors(answer: Any) -> list[Any]:
    """The tensors in what a module gives: one, several, or a dictionary of them."""
    import torch  # noqa: PLC0415

    found = torch.utils._pytree.tree_leaves(answer)  # noqa: SLF001 - the order that its exporter has
    if not found or not all(isinstance(one, torch.Tensor) for one in found):
        raise Refused(
            "forward gives more than tensors", found=", ".join(sorted({type(one).__name__ for one in found})) or "nothing"
        )
    return list(found)


def _clean(result: Path, ir_version: int) -> None:
    """Take out what the exporter notes beside the graph: places on this machine, for one."""
    proto = onnx.load_model(result)
    graph = proto.graph
    del proto.metadata_props[:], graph.metadata_props[:]
    for one in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del one.metadata_props[:]
        one.doc_string = ""
    del graph.value_info[:]
    graph.name = "torch"
    proto.ir_version = min(proto.ir_version, ir_version)
    result.write_bytes(proto.SerializeToString(deterministic=True))
