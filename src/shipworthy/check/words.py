"""What a file says, made fit for our messages: a broken or hostile one must not write to the terminal as it likes."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from shipworthy.text import plain


def first_line(error: BaseException) -> str:
    """What an error of a library is told as."""
    return plain((str(error).strip().splitlines() or [type(error).__name__])[0], 300)


def listed(names: Iterable[object], shown: int = 5) -> str:
    """Some of the names, and how many more there are."""
    every = [plain(name, 80) for name in names]
    rest = f" and {len(every) - shown} more" if len(every) > shown else ""
    return ", ".join(every[:shown]) + rest


def title(node: onnx.NodeProto) -> str:
    """A node as the place of a finding."""
    return f"node {node.name or 'that gives ' + next(filter(None, node.output), '?')} ({node.op_type})"
