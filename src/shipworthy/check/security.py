"""Area ``security``: what loading the file would execute, where its paths lead, and whether it is the file that was released.

Nothing is loaded for it: pickles are listed by their opcodes, archives by their members.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError

from shipworthy import records
from shipworthy.backends import external, sklearn, tensorflow, tensorflow_file, torch
from shipworthy.check import archives, unpacked
from shipworthy.check.callables import judge
from shipworthy.check.law import Law
from shipworthy.check.subject import Origin
from shipworthy.check.words import listed
from shipworthy.errors import Refused
from shipworthy.files import file_digest
from shipworthy.records import Bundle, Finding
from shipworthy.text import plain

TRUST = "if you made it yourself or trust its maker, say so with --trust, or trust = true under [model] in shipworthy.toml"

CODE = Law(
    name="security.code",
    severity="error",
    holds="loading the file executes nothing, or the user has said that its maker is trusted",
    breaks="whoever can put a file there runs programs as the user that loads it",
    mend=f"{TRUST}; an .onnx file executes nothing",
)
CALLABLES = Law(
    name="security.callables",
    severity="error",
    holds="a pickle names nothing that runs programs, opens files or fetches code: no model needs it, trusted or not",
    breaks="loading the file does what its maker wants, with the rights of whoever loads it",
    mend="do not load this file anywhere; ask its maker for the model as .onnx or .safetensors",
)
OPAQUE = Law(
    name="security.opaque",
    severity="error",
    holds="what a file would execute can be listed to its end without loading it",
    breaks="a file that breaks off does not load; one that hides what it calls may do anything",
    mend="copy or write the file again, with joblib.dump or pickle.dump; give .onnx or .safetensors where that does not help",
)
PATHS = Law(
    name="security.paths",
    severity="error",
    holds="every path in the file stays in the model's own folder",
    breaks="whoever loads or unpacks it reads or overwrites files that are none of the model's",
    mend="copy what it needs into its own folder, as plain files, and export it again with paths relative to that",
)
DIGEST = Law(
    name="security.digest",
    severity="error",
    holds="a file in a bundle is the one that the bundle's manifest names, byte for byte",
    breaks="what is served is not what was measured and released",
    mend="copy the bundle again from where it was released, or release again",
)
LAWS = (CODE, CALLABLES, OPAQUE, PATHS, DIGEST)

MANIFEST = "manifest.json"
MOST_MANIFEST_BYTES = 10_000_000
ADDRESS = re.compile(r"[0-9a-f]{64}")


def look(origin: Origin) -> Iterator[Finding]:
    """All laws on a file; what cannot be opened has its finding in the area ``format``."""
    for step in (_digest, _paths, _code):
        try:
            yield from step(origin)
        except (OSError, DecodeError, Refused):
            continue


def _code(origin: Origin) -> Iterator[Finding]:
    path = origin.path
    if path.suffix == sklearn.SKOPS:
        if strangers := sklearn.untrusted(path):
            text = f"it names types that skops does not know: {listed([plain(one, 80) for one in strangers], 10)}"
            yield CODE.note(str(origin.named), text) if origin.trust else CODE.found(str(origin.named), _executes(text))
    elif path.suffix in sklearn.PICKLES:
        yield from _of_pickles(origin, unpacked.of_scikit_learn(path), "it is a pickle", CODE.mend)
    elif path.suffix == torch.PROGRAM:
        yield from _of_pickles(origin, unpacked.of_torch(path), "it can hold pickles", CODE.mend)
    elif path.suffix in torch.PICKLES:
        yield from _of_pickles(origin, unpacked.of_torch(path), "it is a pickle", torch.refuse_pickle(path).next)
    elif path.suffix == torch.WEIGHTS and not origin.trust:
        yield CODE.found(str(origin.named), "it holds weights: the factory under [model], which makes the model, is executed")
    elif tensorflow.takes(path) and (reasons := tensorflow_file.reasons(path)):
        said = "; ".join(plain(one, 200) for one in reasons)
        yield CODE.note(str(origin.named), said) if origin.trust else CODE.found(str(origin.named), _executes(said))


def _of_pickles(origin: Origin, found: unpacked.Contents, what: str, mend: str) -> Iterator[Finding]:
    """What is dangerous or cannot be told is an error with trust, too; of the rest trust makes a note."""
    place = str(origin.named)
    judged = {name: judge(*name) for name in sorted(found.names)}
    dangerous = [".".join(name) for name, verdict in judged.items() if verdict == "dangerous"]
    if dangerous:
        yield CALLABLES.found(place, f"it calls {listed(dangerous, 10)}, which no model needs")
    yield from (OPAQUE.found(place, text) for text in found.opaque[:5])
    if dangerous:
        return
    known = sorted({name[0].partition(".")[0] for name, verdict in judged.items() if verdict == "known"})
    others = [".".join(name) for name, verdict in judged.items() if verdict == "unknown"]
    said = [f"it names parts of {listed(known, 10)}"] if known else []
    said += [f"and what is neither plain data nor known of a framework: {listed(others, 10)}"] if others else []
    said += [f"it holds {found.code} files of TorchScript's code"] if found.code else []
    text = "; ".join([what, *said])
    if origin.trust:
        yield CODE.note(place, text)
    else:
        yield CODE.found(place, _executes(text), mend)


def _executes(text: str) -> str:
    return f"loading it can execute any code that is in it: {text}"


def _paths(origin: Origin) -> Iterator[Finding]:
    path, place = origin.path, str(origin.named)
    if path.is_dir():
        inside = path.resolve()
        for one in path.rglob("*"):
            if one.is_symlink() and not one.resolve().is_relative_to(inside):
                yield PATHS.found(f"{place}, {plain(one.relative_to(path), 80)}", f"a link leads to {plain(one.resolve())}")
    elif path.suffix == ".onnx":
        if path.stat().st_size <= external.LIMIT_BYTES:
            proto = onnx.load_model_from_string(path.read_bytes())
            strays = (one for one in external.problems(proto, path.parent) if one.kind == "outside")
            yield from (PATHS.found(f"tensor {one.tensor}, file {one.file}", one.text) for one in strays)
    else:
        yield from (PATHS.found(f"{place}, member {member}", text) for member, text in archives.strays(path))


def _digest(origin: Origin) -> Iterator[Finding]:
    """Only beside a manifest of ours: a folder named by a digest whose manifest cannot be read is one that was changed."""
    folder, place = origin.path.resolve().parent, str(origin.named)
    manifest = folder / MANIFEST
    if not manifest.is_file() or manifest.stat().st_size > MOST_MANIFEST_BYTES:
        return
    read = manifest.read_bytes()
    addressed = bool(ADDRESS.fullmatch(folder.name))
    try:
        bundle = records.decode(Bundle, read)
    except Refused as error:
        if addressed:
            yield DIGEST.found(str(manifest), plain(error.found or error.what, 200))
        return
    if addressed and (found := hashlib.sha256(read).hexdigest()) != folder.name:
        yield DIGEST.found(str(manifest), f"its sha256 is {found}, and the bundle is named {folder.name}")
    entry, digest = bundle.files.get(origin.path.name), file_digest(origin.path)
    if entry is None:
        yield DIGEST.found(place, f"{MANIFEST} beside it does not name it", severity="warning")
    elif entry.digest != digest:
        yield DIGEST.found(place, f"its sha256 is {digest}, and {MANIFEST} beside it says {entry.digest}")
