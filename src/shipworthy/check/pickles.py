"""What a pickle would call, listed without loading it: its opcodes are followed with stand-ins in place of objects.

``pickletools`` says how each opcode is written; the stack and the memo are followed as ``pickle`` has them, because newer
pickles take the names of what they call from there. A file of joblib has the bytes of arrays between the opcodes: they are
skipped, by the description that stands before them. Nothing is imported, and nothing called but ``numpy.dtype``.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# A million words of a vectorizer are three million opcodes, and those take some seconds.
MOST_OPCODES = 10_000_000
MOST_MEMO = 5_000_000
MOST_NESTED = 20
# Longer text names no module, and longer tuples and tables describe no array.
MOST_TEXT, MOST_ITEMS = 1000, 64
# Of one text; of one line.
MOST_READ, MOST_LINE = 1 << 26, 1 << 20
SKIPPED = 1 << 20

# What joblib puts where the bytes of an array begin.
WRAPPER = ("joblib.numpy_pickle", "NumpyArrayWrapper")
# Their arrays are pickles in files beside, or in bytes, that are not looked at here.
HIDING = {
    ("joblib.numpy_pickle", "NDArrayWrapper"),
    ("joblib.numpy_pickle", "ZNDArrayWrapper"),
    ("joblib.numpy_pickle_compat", "NDArrayWrapper"),
    ("joblib.numpy_pickle_compat", "ZNDArrayWrapper"),
    ("torch.storage", "_load_from_bytes"),
}
# They make an object of the class that is given to them.
MAKERS = {("copyreg", "_reconstructor"), ("copyreg", "__newobj__"), ("copy_reg", "_reconstructor"), ("copy_reg", "__newobj__")}
Name = tuple[str, str]
OPCODES = {one.code.encode("latin-1"): one for one in pickletools.opcodes}
OTHER = object()
MARK = object()


class Opaque(Exception):
    """The pickle cannot be followed to its end; the text says why."""


@dataclass
class Called:
    """A global by its module and name: so much of it as is known."""

    name: Name


@dataclass
class Made:
    """What a call would make: by what, of what, and what its state is set to."""

    by: Called
    of: Any
    state: Any = field(default_factory=dict)


class Bounded:
    """A stream that says where it is, and gives neither too much at once nor more than ``most`` bytes in all."""

    def __init__(self, stream: io.BufferedIOBase, most: int) -> None:
        self._stream = stream
        self._most = most
        self.place = 0

    def read(self, count: int) -> bytes:
        """As many bytes as there are, of those that are asked for."""
        if count > MOST_READ:
            raise Opaque(f"{count} bytes are said to be one text at byte {self.place}")
        read = self._stream.read(count)
        self.place += len(read)
        if self.place > self._most:
            raise Opaque(f"it unpacks to more than {self._most / 1e9:.0f} GB")
        return read

    def readline(self) -> bytes:
        """One line."""
        read = self._stream.readline(MOST_LINE)
        self.place += len(read)
        return read

    def exactly(self, count: int) -> bytes:
        """All of the bytes that are asked for."""
        read = self.read(count)
        if len(read) < count:
            raise Opaque(f"it breaks off at byte {self.place}")
        return read

    def skip(self, count: int) -> None:
        """Go on behind so many bytes."""
        if count < 0:
            raise Opaque(f"an array has a size below zero at byte {self.place}")
        while count:
            count -= len(self.exactly(min(count, SKIPPED)))


def names(stream: io.BufferedIOBase, found: set[Name], most: int, pickles: int = 1) -> None:
    """Put into ``found`` the module and name of everything that loading the pickle would import.

    Args:
        stream: the bytes, unpacked.
        found: filled as far as the pickle is followed, also where it raises.
        most: how many bytes it may have.
        pickles: how many lie one behind another, at most.

    Raises:
        Opaque: it is cut, broken, too large, or takes a name from where it cannot be followed.
    """
    bounded = Bounded(stream, most)
    for number in range(pickles):
        try:
            if not _Reader(bounded, found).follow(first=number == 0):
                break
        except Opaque:
            raise
        except Exception as error:  # noqa: BLE001  a broken pickle makes the readers of pickletools raise almost anything
            raise Opaque(f"it breaks off or is damaged at byte {bounded.place} ({type(error).__name__})") from None


class _Reader:
    """One pickle, followed: what lies on its stack and in its memo."""

    def __init__(self, stream: Bounded, found: set[Name], depth: int = 0) -> None:
        self.stream = stream
        self.found = found
        self.depth = depth
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.count = 0
        self.frame_ends = 0

    def follow(self, *, first: bool = True) -> bool:
        """To its end; ``False`` when there is none any more (and it is not the first)."""
        while True:
            code = self.stream.read(1)
            opcode = OPCODES.get(code)
            if opcode is None:
                if not first and self.count == 0:
                    return False
                raise Opaque(f"{'it breaks off' if not code else f'{code!r} is no opcode'} at byte {self.stream.place}")
            self.count += 1
            if self.count > MOST_OPCODES or len(self.memo) > MOST_MEMO:
                raise Opaque(f"it is longer than {MOST_OPCODES} opcodes, or {MOST_MEMO} memos")
            if opcode.name == "STOP":
                return True
            argument = self._argument(opcode)
            if step := STEPS.get(opcode.name):
                step(self, argument)
            elif opcode.name in CONSTANTS:
                self.stack.append(CONSTANTS[opcode.name]())
            elif opcode.name not in IDLE:  # numbers and texts
                self.stack.append(argument)

    def _argument(self, opcode: pickletools.OpcodeInfo) -> Any:
        if opcode.arg is None:
            return None
        if opcode.name in LONG_BYTES:
            self.stream.skip(int.from_bytes(self.stream.exactly(LONG_BYTES[opcode.name]), "little"))
            return OTHER
        argument = opcode.arg.reader(self.stream)  # type: ignore[arg-type]  # of a stream it takes these two methods
        return OTHER if isinstance(argument, str) and len(argument) > MOST_TEXT else argument

    def pop_mark(self) -> list[Any]:
        """What lies above the last mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not MARK:  # IndexError at the bottom, which is a broken pickle
            place -= 1
        taken = self.stack[place + 1 :]
        del self.stack[place:]
        return taken

    def call(self, module: Any, name: Any) -> None:
        """Put a global on the stack, and its name among those found."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise Opaque("it names something by a text that it makes while it is loaded")
        self.found.add((module, name))
        if (module, name) in HIDING:
            raise Opaque(f"{module}.{name} loads a second pickle, which is not in the opcodes of this one")
        self.stack.append(Called((module, name)))

    def make(self, of: Any, by: Any) -> None:
        """Put on the stack what a call gives."""
        if isinstance(by, Called) and by.name in MAKERS:
            by, of = of[0] if isinstance(of, tuple) and of else OTHER, ()
        if not isinstance(by, Called):
            raise Opaque("it calls what is not named in it, but made by another call")
        self.stack.append(Made(by, of))

    def build(self) -> None:
        """Set the state of what is below; the bytes of joblib's arrays lie behind that."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Called):
            raise Opaque(f"it changes {'.'.join(target.name)} itself, and not an object of it")
        if not isinstance(target, Made):
            return
        if isinstance(state, dict) and isinstance(target.state, dict):
            target.state = target.state | state
        elif target.state:
            raise Opaque("it sets the state of one object twice")
        else:
            target.state = state
        if target.by.name == WRAPPER:
            self._array(target.state)

    def _array(self, state: Any) -> None:
        if not isinstance(state, dict) or OTHER in state or not isinstance(shape := state.get("shape"), tuple):
            raise Opaque("the size of an array in it cannot be told")
        if self.stream.place < self.frame_ends:
            raise Opaque("an array lies within a frame of opcodes, where loaders do not read it")
        dtype = _dtype(state.get("dtype"))
        if dtype.hasobject:
            if self.depth >= MOST_NESTED:
                raise Opaque(f"more than {MOST_NESTED} pickles lie one within another")
            _Reader(self.stream, self.found, self.depth + 1).follow()
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            self.stream.skip(self.stream.exactly(1)[0])
        self.stream.skip(math.prod(int(one) for one in shape) * dtype.itemsize)


def _dtype(value: Any) -> np.dtype[Any]:
    """The dtype that the pickle describes, made as numpy makes it: by its name, then its state."""
    if not (isinstance(value, Made) and value.by.name == ("numpy", "dtype") and isinstance(value.of[0], str)):
        raise Opaque("the type of an array in it cannot be told")
    made = np.dtype(value.of[0], align=False, copy=True)
    if isinstance(value.state, tuple):
        made.__setstate__(tuple(_resolved(one) for one in value.state))  # type: ignore[attr-defined]
    return made


def _resolved(value: Any) -> Any:
    """A part of a dtype's state: the dtypes within it made, too."""
    if isinstance(value, Made):
        return _dtype(value)
    if isinstance(value, tuple):
        return tuple(_resolved(one) for one in value)
    if isinstance(value, dict) and OTHER not in value:
        return {key: _resolved(one) for key, one in value.items()}
    if value is None or isinstance(value, str | int | bytes):
        return value
    raise Opaque("the type of an array in it cannot be told")


# ---------------------------------------------------------------- the opcodes that do more than put a constant there


def _short(values: list[Any]) -> Any:
    return tuple(values) if len(values) <= MOST_ITEMS else OTHER


def _tuple(count: int) -> Callable[[_Reader, Any], object]:
    def step(reader: _Reader, _: Any) -> None:
        values = [reader.stack.pop() for _ in range(count)][::-1]
        reader.stack.append(tuple(values))

    return step


def _pairs(reader: _Reader, values: list[Any]) -> None:
    target = reader.stack[-1]
    if not isinstance(target, dict):
        return
    for key, value in zip(values[::2], values[1::2], strict=False):
        if isinstance(key, str) and (key in target or len(target) < MOST_ITEMS):
            target[key] = value
        else:
            target[OTHER] = True  # it holds more than is known here


def _setitem(reader: _Reader, _: Any) -> None:
    value, key = reader.stack.pop(), reader.stack.pop()
    _pairs(reader, [key, value])


def _dict(reader: _Reader, _: Any) -> None:
    values = reader.pop_mark()
    reader.stack.append({})
    _pairs(reader, values)


def _stack_global(reader: _Reader, _: Any) -> None:
    name, module = reader.stack.pop(), reader.stack.pop()
    reader.call(module, name)


def _inst(reader: _Reader, argument: Any) -> None:
    values = reader.pop_mark()
    reader.call(*str(argument).split(" ", 1))
    reader.make(_short(values), reader.stack.pop())


def _obj(reader: _Reader, _: Any) -> None:
    by, *values = reader.pop_mark()
    reader.make(_short(values), by)


def _newobj_ex(reader: _Reader, _: Any) -> None:
    reader.stack.pop()
    reader.make(reader.stack.pop(), reader.stack.pop())


def _extension(reader: _Reader, argument: Any) -> None:  # noqa: ARG001
    raise Opaque("it names something by a number of the extension registry, which is not in the file")


def _marked(make: Callable[[list[Any]], Any]) -> Callable[[_Reader, Any], object]:
    def step(reader: _Reader, _: Any) -> None:
        reader.stack.append(make(reader.pop_mark()))

    return step


STEPS: dict[str, Callable[[_Reader, Any], object]] = {
    "MARK": lambda reader, _: reader.stack.append(MARK),
    "POP": lambda reader, _: reader.stack.pop(),
    "POP_MARK": lambda reader, _: reader.pop_mark(),
    "DUP": lambda reader, _: reader.stack.append(reader.stack[-1]),
    "TUPLE": _marked(_short),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "LIST": _marked(lambda _: OTHER),
    "FROZENSET": _marked(lambda _: OTHER),
    "DICT": _dict,
    "APPEND": lambda reader, _: reader.stack.pop(),
    "APPENDS": lambda reader, _: reader.pop_mark(),
    "ADDITEMS": lambda reader, _: reader.pop_mark(),
    "SETITEM": _setitem,
    "SETITEMS": lambda reader, _: _pairs(reader, reader.pop_mark()),
    "PUT": lambda reader, place: reader.memo.__setitem__(place, reader.stack[-1]),
    "BINPUT": lambda reader, place: reader.memo.__setitem__(place, reader.stack[-1]),
    "LONG_BINPUT": lambda reader, place: reader.memo.__setitem__(place, reader.stack[-1]),
    "MEMOIZE": lambda reader, _: reader.memo.__setitem__(len(reader.memo), reader.stack[-1]),
    "GET": lambda reader, place: reader.stack.append(reader.memo[place]),
    "BINGET": lambda reader, place: reader.stack.append(reader.memo[place]),
    "LONG_BINGET": lambda reader, place: reader.stack.append(reader.memo[place]),
    "GLOBAL": lambda reader, argument: reader.call(*str(argument).split(" ", 1)),
    "STACK_GLOBAL": _stack_global,
    "INST": _inst,
    "OBJ": _obj,
    "REDUCE": lambda reader, _: reader.make(reader.stack.pop(), reader.stack.pop()),
    "NEWOBJ": lambda reader, _: reader.make(reader.stack.pop(), reader.stack.pop()),
    "NEWOBJ_EX": _newobj_ex,
    "BUILD": lambda reader, _: reader.build(),
    "EXT1": _extension,
    "EXT2": _extension,
    "EXT4": _extension,
    "BINPERSID": lambda reader, _: reader.stack.__setitem__(-1, OTHER),
    "PERSID": lambda reader, _: reader.stack.append(OTHER),
    "FRAME": lambda reader, length: setattr(reader, "frame_ends", reader.stream.place + length),
    "NEXT_BUFFER": lambda reader, _: reader.stack.append(OTHER),
}
# Their bytes are skipped: so many bytes say how many there are.
LONG_BYTES = {"BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8, "BINSTRING": 4}
IDLE = ("PROTO", "READONLY_BUFFER")
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": lambda: OTHER,
    "EMPTY_SET": lambda: OTHER,
}
