"""Models out of MLflow, brought into a folder: by a process of its own, so that whoever serves stays light.

``fetch`` (versions of ONNX, to serve) and ``bring`` (whatever was logged, to check) are the caller's side and import nothing
heavy. ``main`` is the child's: it reads one request on standard input,
asks MLflow, and leaves its answer in a file. What was fetched once is kept under a name that holds the version, its run
and its model; what an alias means is asked each time.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from shipworthy.child import exit_with_parent
from shipworthy.errors import Failed, NotFound, Refused, ShipworthyError, StorageFailed
from shipworthy.files import draft_folder, folder_digest, machine_errors, publish, write_bytes
from shipworthy.release._reach import reachable, shown, without_password
from shipworthy.release.mlflow import ENVIRONMENT, TAG, available

SECONDS = 600.0
TAIL = 400

_URI = re.compile(r"models:/([^/@:'\"%]{1,200})(?:@([^/@:'\"%]{1,200})|/([1-9][0-9]{0,17}))")
_DAY_SECONDS = 86400
META = "registered_model_meta"
# What MLflow says of what it does not have.
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_KINDS = {kind.__name__: kind for kind in (Failed, NotFound, Refused, StorageFailed)}


class Registered(msgspec.Struct, frozen=True, tag=True):
    """What MLflow has of a model: all version numbers, where its aliases point, and the files that were asked for."""

    numbers: tuple[int, ...]
    aliases: dict[str, int]
    files: dict[int, File]


class Logged(msgspec.Struct, frozen=True, tag=True):
    """A model as somebody has logged it: the folder with its MLmodel file, and what that says of each flavor."""

    folder: str
    flavors: dict[str, dict[str, Any]]


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """Why there is no answer: the kind of error, and its parts."""

    kind: str
    what: str
    found: str
    expected: str
    next: str


class File(msgspec.Struct, frozen=True):
    """A version's ONNX file; ``bundle`` is the digest of the bundle it came from, empty for what others have logged."""

    path: str
    bundle: str


class Request(msgspec.Struct, frozen=True):
    """What the child is to do: bring these versions (numbers or aliases) into ``folder`` and answer in ``answer``.

    With ``uri`` it is what lies there that is brought, and ``name`` is only for messages.
    """

    tracking_uri: str
    name: str
    wanted: tuple[str, ...]
    folder: str
    answer: str
    uri: str = ""


def parts(uri: str) -> tuple[str, str]:
    """The name and the alias or version number in ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises:
        Refused: it is neither.
    """
    match = _URI.fullmatch(uri)
    if match is None or not uri.isprintable():
        raise Refused(
            "that is no model in MLflow's registry", found=uri[:300], expected="models:/NAME@ALIAS or models:/NAME/VERSION"
        )
    return match[1], match[2] or match[3]


def fetch(tracking_uri: str, name: str, wanted: Sequence[str], folder: Path) -> Registered:
    """Look a model up in MLflow's registry and bring versions of it into ``folder``, unless they are there.

    Args:
        tracking_uri: the tracking server or database.
        name: the registered model.
        wanted: version numbers or aliases; none: only look.
        folder: where fetched models are kept; each is there whole or not at all.

    Raises:
        NotFound: no such model, version or alias; the message names those there are.
        Refused: MLflow is not installed, or a version is not an ONNX model.
        Failed: the server does not answer, or MLflow could not give the model within ten minutes.
    """
    answer = _asked(Request(tracking_uri, name, tuple(wanted), str(folder.absolute()), ""), folder)
    assert isinstance(answer, Registered)  # noqa: S101 - for the type checker
    return answer


def bring(tracking_uri: str, uri: str, folder: Path) -> Logged:
    """Bring a model of any kind into ``folder``, under the digest of all that was logged with it.

    Args:
        tracking_uri: the tracking server or database.
        uri: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``models:/m-ID`` or ``runs:/ID/PATH``.
        folder: where fetched models are kept; each is there whole or not at all.

    Raises:
        NotFound, Refused, Failed: as ``fetch``.
    """
    answer = _asked(Request(tracking_uri, uri, (), str(folder.absolute()), "", uri), folder)
    assert isinstance(answer, Logged)  # noqa: S101 - for the type checker
    return answer


def _asked(request: Request, folder: Path) -> Registered | Logged:
    """The answer of a child."""
    tracking_uri = request.tracking_uri
    if not available():
        raise Refused("MLflow is not installed", next="pip install 'shipworthy[mlflow]'")
    reachable(tracking_uri)
    database = Path(tracking_uri.removeprefix("sqlite:///").partition("?")[0])
    if tracking_uri.startswith("sqlite:///") and not database.exists():
        raise NotFound(
            "nothing is logged to MLflow yet",
            found=f"no database {database}",
            next="set MLFLOW_TRACKING_URI to the server or database that has the model",
        )
    _sweep(folder)
    with draft_folder(folder) as draft:
        request = msgspec.structs.replace(request, answer=str(draft / "answer.json"))
        said = _run(request)
        try:
            content = Path(request.answer).read_bytes()
            answer: Registered | Logged | Refusal = msgspec.json.decode(content, type=Registered | Logged | Refusal)
        except FileNotFoundError:
            raise Failed(f"the process that asks MLflow at {shown(tracking_uri)} died", found=said) from None
    if isinstance(answer, Refusal):
        raise _KINDS[answer.kind](answer.what, found=answer.found, expected=answer.expected, next=answer.next)
    return answer


def _run(request: Request) -> str:
    """Run the child to its end; its last words."""
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(
            [sys.executable, "-m", "shipworthy.release.mlflow_fetch"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT | os.environ,
        ) as process,
    ):
        try:
            assert process.stdin is not None  # noqa: S101 - for the type checker
            process.stdin.write(msgspec.json.encode(request) + b"\n")
            process.stdin.flush()  # not closed: the end of it tells the child that its parent is gone
            process.wait(SECONDS)
        except BrokenPipeError:
            process.wait()
        except subprocess.TimeoutExpired:
            where = shown(request.tracking_uri)
            raise Failed(f"MLflow at {where} did not give '{request.name}' in {SECONDS:.0f} s", next="try again") from None
        finally:
            process.kill()
        output.seek(0)
        return without_password(output.read().decode(errors="replace"), request.tracking_uri).strip()[-TAIL:]


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed have left half-fetched; younger drafts may be somebody's work."""
    for scrap in folder.glob("draft-*"):
        with machine_errors(folder):
            if time.time() - scrap.stat().st_mtime > _DAY_SECONDS:
                shutil.rmtree(scrap, ignore_errors=True)


# ---------------------------------------------------------------- the child


def main() -> None:
    """Read a request from standard input and leave its answer in the file that it names."""
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=Request)
    exit_with_parent()
    answer: Registered | Logged | Refusal
    try:
        answer = _bring(request) if request.uri else _answer(request)
    except ShipworthyError as error:
        answer = _refusal(error)
    except Exception as error:  # noqa: BLE001 - whatever MLflow, its database layer or its HTTP client raise
        found = without_password((str(error).strip().splitlines() or [type(error).__name__])[0], request.tracking_uri)[:TAIL]
        what = f"MLflow at {shown(request.tracking_uri)} did not give '{request.name}'"
        answer = _refusal(Failed(what, found=found, next="mend what MLflow says, then try again"))
    write_bytes(Path(request.answer), msgspec.json.encode(answer))


def _refusal(error: ShipworthyError) -> Refusal:
    kind = type(error).__name__ if type(error).__name__ in _KINDS else Failed.__name__
    return Refusal(kind, error.what, error.found, error.expected, error.next)


def _client(request: Request) -> Any:
    import mlflow  # noqa: PLC0415 - heavy, and only here

    mlflow.set_tracking_uri(request.tracking_uri)
    mlflow.set_registry_uri(request.tracking_uri)
    return mlflow.MlflowClient()


def _bring(request: Request) -> Logged:
    """Whatever was logged, in a folder named by the digest of all its files."""
    _client(request)
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from mlflow.models import Model  # noqa: PLC0415

    with draft_folder(Path(request.folder)) as draft, machine_errors(draft):
        try:
            made = Path(download_artifacts(request.uri, dst_path=str(draft)))
        except (MlflowException, OSError) as error:
            if isinstance(error, MlflowException) and error.error_code not in ABSENT:
                raise
            raise NotFound(
                f"MLflow at {shown(request.tracking_uri)} has nothing at {request.uri}",
                found=without_password((str(error).strip().splitlines() or ["?"])[0], request.tracking_uri)[:TAIL],
                next="correct the URI, or MLFLOW_TRACKING_URI",
            ) from None
        if not (made / "MLmodel").is_file():
            raise Refused(
                f"{request.uri} is no model of MLflow's",
                found="no file MLmodel in it",
                expected="what mlflow.FLAVOR.log_model has written",
                next="name the folder of the model: runs:/ID/PATH",
            )
        flavors = {name: dict(about) for name, about in Model.load(str(made / "MLmodel")).flavors.items()}
        (made / META).unlink(missing_ok=True)  # MLflow's note of what it was asked for: no part of what was logged
        final = Path(request.folder) / folder_digest(made)
        if not final.is_dir():
            publish(made, final)
    return Logged(str(final), msgspec.to_builtins(flavors, enc_hook=str))


def _answer(request: Request) -> Registered:
    client = _client(request)
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        aliases = {alias: int(number) for alias, number in client.get_registered_model(request.name).aliases.items()}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = ", ".join(sorted(one.name for one in client.search_registered_models(max_results=100)))
        raise NotFound(
            f"MLflow at {shown(request.tracking_uri)} has no model '{request.name}'",
            found=f"models: {known[:TAIL] or 'none'}",
            next="correct the name, or MLFLOW_TRACKING_URI",
        ) from None
    versions = {int(one.version): one for one in _versions(client, request.name)}
    files = {}
    for which in request.wanted:
        number = int(which) if which.isdecimal() else aliases.get(which)
        if number is None or number not in versions:
            known, placed = ", ".join(map(str, sorted(versions)))[:TAIL], ", ".join(aliases)[:TAIL]
            raise NotFound(
                f"model '{request.name}' in MLflow has no {'version' if which.isdecimal() else 'alias'} '{which}'",
                found=f"versions: {known or 'none'}; aliases: {placed or 'none'}",
                next="name one of those",
            )
        files[number] = File(str(_download(request, versions[number])), versions[number].tags.get(TAG, ""))
    return Registered(tuple(sorted(versions)), aliases, files)


def _versions(client: Any, name: str) -> list[Any]:
    """All versions that are whole."""
    found: list[Any] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        found += page
        token = page.token
        if not token:
            return [one for one in found if one.status == "READY"]


def _download(request: Request, version: Any) -> Path:
    """The version's ONNX file, in a folder that is there whole or not at all."""
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415

    identity = (
        request.tracking_uri,
        version.name,
        version.version,
        version.run_id,
        version.model_id,
        version.creation_timestamp,
    )
    folder = Path(request.folder) / hashlib.sha256(msgspec.json.encode(identity)).hexdigest()
    uri = f"models:/{version.name}/{version.version}"
    if not folder.is_dir():
        with draft_folder(Path(request.folder)) as draft, machine_errors(draft):
            (draft / "about").mkdir()
            (draft / "model").mkdir()
            # First only what says of which kind it is: what is not ONNX may be large, and is not wanted.
            _onnx_file(Path(download_artifacts(f"{uri}/MLmodel", dst_path=str(draft / "about"))), version)
            made = Path(download_artifacts(uri, dst_path=str(draft / "model")))
            publish(made, folder)
    return folder / _onnx_file(folder / "MLmodel", version)


def _onnx_file(about: Path, version: Any) -> str:
    """The name of the ONNX file that an MLmodel file tells of.

    Raises:
        Refused: the model is of another kind, or its file lies elsewhere.
    """
    from mlflow.models import Model  # noqa: PLC0415

    flavors: Mapping[str, Any] = Model.load(str(about)).flavors
    name = flavors.get("onnx", {}).get("data", "")
    if re.fullmatch(r"[\w-][\w.-]*", name):
        return str(name)
    raise Refused(
        f"version {version.version} of '{version.name}' in MLflow is not an ONNX model",
        found=f"flavors: {', '.join(sorted(flavors)) or 'none'}",
        expected="the flavor onnx, with its file beside MLmodel",
        next="log it with mlflow.onnx.log_model, or let shipworthy ship convert, measure and log the trained file",
    )


if __name__ == "__main__":
    main()
