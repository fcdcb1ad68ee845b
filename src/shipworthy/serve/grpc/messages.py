"""Protocol buffer messages out of tables, in a pool of their own.

Nothing enters protobuf's default pool: a client package that lives in the same process may define the same names.
A table is a text of one message, enum or service a paragraph; a line that begins with a space continues it::

    package inference
    ModelReadyRequest: name=1 string, version=2 string
    Outer.Inner: numbers=1 *int64, by_name=2 map<string,Outer>, a=3 bool|choice, b=4 string|choice
    enum State: UNKNOWN=0, READY=1
    service Health: Check CheckRequest CheckResponse, Watch *WatchRequest *WatchResponse

``*`` means repeated, or a stream; ``|choice`` names the oneof of a field.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from shipworthy.errors import Refused
from shipworthy.serve.grpc import tables

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _FIELD.TYPE_BOOL,
    "bytes": _FIELD.TYPE_BYTES,
    "double": _FIELD.TYPE_DOUBLE,
    "float": _FIELD.TYPE_FLOAT,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "string": _FIELD.TYPE_STRING,
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
}


@dataclass(frozen=True)
class Messages:
    """Message classes by full name; what reflection shows: files by name and by symbol, and the services."""

    classes: Mapping[str, Any]
    files: Mapping[str, Any]
    symbols: Mapping[str, str]
    services: tuple[str, ...]

    def __getitem__(self, name: str) -> Any:
        """The class of a message."""
        return self.classes[name]


@functools.cache
def load() -> Messages:
    """All messages that we speak; built once a process."""
    return build(tables.FILES)


def build(texts: Mapping[str, str]) -> Messages:
    """The messages of some files: file name to table, each file after those it needs."""
    pool = descriptor_pool.DescriptorPool()
    parsed = {name: _paragraphs(text) for name, text in texts.items()}
    kinds: dict[str, tuple[int, str]] = {}
    for name, (package, entries) in parsed.items():
        for head, _ in entries:
            kind, _, symbol = head.rpartition(" ")
            if kind != "service":
                kinds[f"{package}.{symbol}"] = (_FIELD.TYPE_ENUM if kind == "enum" else _FIELD.TYPE_MESSAGE, name)
    files = {name: _file(name, package, entries, kinds) for name, (package, entries) in parsed.items()}
    for file in files.values():
        pool.AddSerializedFile(file.SerializeToString())
    classes = {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        for name, (kind, _) in kinds.items()
        if kind == _FIELD.TYPE_MESSAGE
    }
    services = {f"{file.package}.{service.name}": name for name, file in files.items() for service in file.service}
    symbols = {symbol: name for symbol, (_, name) in kinds.items()} | services
    return Messages(classes, files, symbols, tuple(services))


def read(kind: Any, message: bytes) -> Any:
    """The message of class ``kind`` in its bytes.

    Raises:
        Refused: they are not such a message.
    """
    try:
        return kind.FromString(message)
    except DecodeError:
        raise Refused(
            "the message cannot be read", found=f"{len(message)} bytes", expected=f"a {kind.DESCRIPTOR.full_name}"
        ) from None


def varint(number: int) -> bytes:
    """A length as protocol buffers write it: seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _paragraphs(text: str) -> tuple[str, list[tuple[str, list[str]]]]:
    """The package of a table, and of each paragraph its head and what is listed after the colon."""
    lines = text.strip().replace("\n ", " ").splitlines()
    entries = []
    for line in lines[1:]:
        head, _, rest = line.partition(":")
        entries.append((head, [part.strip() for part in rest.split(", ") if part.strip()]))
    return lines[0].removeprefix("package "), entries


def _file(name: str, package: str, entries: list[tuple[str, list[str]]], kinds: Mapping[str, tuple[int, str]]) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    made: dict[str, Any] = {}
    for head, parts in entries:
        kind, _, symbol = head.rpartition(" ")
        outer, _, last = symbol.rpartition(".")
        inside = made[outer] if outer else file
        if kind == "service":
            _add_methods(file.service.add(name=last), package, parts)
        elif kind == "enum":
            values = [part.split("=") for part in parts]
            enum = inside.enum_type.add(name=last)
            for label, number in values:
                enum.value.add(name=label, number=int(number))
        else:
            made[symbol] = (inside.nested_type if outer else file.message_type).add(name=last)
            for part in parts:
                _add_field(made[symbol], f"{package}.{symbol}", part, kinds)
    needed = {kinds[full][1] for full in _uses(file.message_type)}
    file.dependency.extend(sorted(needed - {name}))
    return file


def _add_field(message: Any, scope: str, part: str, kinds: Mapping[str, tuple[int, str]]) -> None:
    """One field, as ``name=number type``."""
    declared, kind = part.split(" ")
    name, number = declared.split("=")
    kind, _, choice = kind.partition("|")
    repeated = kind.startswith(("*", "map<"))
    field = message.field.add(name=name, number=int(number), label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL)
    if choice:
        known = [oneof.name for oneof in message.oneof_decl]
        if choice not in known:
            message.oneof_decl.add(name=choice)
        field.oneof_index = known.index(choice) if choice in known else len(known)
    if kind.startswith("map<"):
        key, value = kind[4:-1].split(",")
        entry = message.nested_type.add(name="".join(word.capitalize() for word in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add_field(entry, scope, f"key=1 {key}", kinds)
        _add_field(entry, scope, f"value=2 {value}", kinds)
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{scope}.{entry.name}"
        return
    kind = kind.removeprefix("*")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
        return
    full = _resolve(kind, scope, kinds)
    field.type, field.type_name = kinds[full][0], f".{full}"


def _resolve(kind: str, scope: str, kinds: Mapping[str, tuple[int, str]]) -> str:
    """The full name of a type, looked for from the innermost scope outwards."""
    while scope and f"{scope}.{kind}" not in kinds:
        scope = scope.rpartition(".")[0]
    return f"{scope}.{kind}" if scope else kind


def _uses(messages: Any) -> set[str]:
    """The full names of all types that messages have fields of, map entries left out."""
    found: set[str] = set()
    for message in messages:
        own = {nested.name for nested in message.nested_type if nested.options.map_entry}
        found |= {field.type_name[1:] for field in message.field if field.type_name.rpartition(".")[2] not in own} - {""}
        found |= _uses(message.nested_type)
    return found


def _add_methods(service: Any, package: str, parts: list[str]) -> None:
    for part in parts:
        name, takes, gives = part.split(" ")
        service.method.add(
            name=name,
            input_type=f".{package}.{takes.removeprefix('*')}",
            output_type=f".{package}.{gives.removeprefix('*')}",
            client_streaming=takes.startswith("*"),
            server_streaming=gives.startswith("*"),
        )
