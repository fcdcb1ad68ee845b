"""A folder of models as Triton and TensorFlow Serving users have it: ``NAME/VERSION/model.onnx``. No configuration is needed.

A request brings no path: the name it asks for is looked up among the folders that are there. Links are followed
wherever they lead: whoever can put one there could put the file there, versions are often links into a store of models,
and Kubernetes mounts its volumes as links.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from shipworthy.errors import NotFound, Refused
from shipworthy.records import RUNTIMES, Target
from shipworthy.serve import textproto
from shipworthy.serve.configs import MODEL, TENSORFLOW, TRITON, Config, Entry, of_tensorflow, of_triton
from shipworthy.serve.source import Offer, Policy, ServedModel

_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_LATEST = Policy(latest=1)


@dataclass(frozen=True)
class _Place:
    """The folder of a model, and what models.config says of it."""

    folder: Path
    entry: Entry


class Folder:
    """The models below ``path``, one version of each or those that a policy names; see ``Source``."""

    def __init__(self, path: Path, policy: Policy | None, target: Target) -> None:
        """``policy`` wins over what the configuration files say (``None``: they decide); ``target`` is where all run."""
        self._path = path
        self._policy = policy
        self._target = target

    def names(self) -> list[str]:
        """Every model with a version to serve, and those whose configuration ``find`` refuses.

        Raises:
            Refused: the folder or its models.config cannot be read.
        """
        return [name for name, place in sorted(self._places().items()) if _is_candidate(place.folder)]

    def numbers(self, name: str) -> list[int]:
        """Every version of a model that lies there, in order; none when it cannot be read.

        Raises:
            Refused: as ``names``.
        """
        place = self._places().get(name)
        if place is None:
            return []
        try:
            return sorted(_versions(place.folder, _config(place.folder)))
        except Refused:
            return []

    def find(self, name: str, policy: Policy | None = None) -> Offer:
        """What is to be served of a model: the caller's policy wins, then ours, models.config's, config.pbtxt's; latest.

        Raises:
            NotFound: no such model, or no version to serve; the message says what lies there.
            Refused: a configuration cannot be read or followed, or the model is not ONNX.
        """
        places = self._places()
        place = places.get(name)
        if place is None:
            known = ", ".join(sorted(places))[:500]
            raise NotFound(f"there is no model '{name[:100]}' in {self._path}", found=known or "none", next="correct the name")
        config = _config(place.folder)
        versions = _versions(place.folder, config)
        wanted = policy or self._policy or place.entry.policy or config.policy or _LATEST
        numbers = wanted.pick(versions)
        if not numbers:
            raise NotFound(
                f"model '{name}' has no version to serve",
                found=f"versions: {', '.join(map(str, sorted(versions)))}" if versions else _contents(place.folder),
                expected=f"versions {', '.join(map(str, wanted.listed))}" if versions else f"VERSION/{config.file_name}",
                next=f"put a model into {place.folder}/VERSION/{config.file_name}, VERSION being a whole number",
            )
        target = _target(self._target, config)
        labels = {label: number for label, number in place.entry.labels.items() if number in numbers}
        return Offer(
            versions=tuple(
                ServedModel(name, number, versions[number], target, most_rows=config.most_rows) for number in numbers
            ),
            default=numbers[-1],
            labels=labels,
            notes=(
                *place.entry.notes,
                *config.notes,
                *(f"version {number} is not there" for number in wanted.listed if number not in versions),
                *(
                    f"label '{label}' means a version that is not served"
                    for label in sorted(place.entry.labels.keys() - labels)
                ),
            ),
        )

    def _places(self) -> dict[str, _Place]:
        """Every folder that could be a model, by the name it is served under."""
        with _named(self._path):
            children = [child for child in self._path.iterdir() if _is_name(child.name) and child.is_dir()]
        places = {child.name: _Place(child, Entry(child.name)) for child in children}
        path = self._path / TENSORFLOW
        if path.is_file():
            with _named(path):
                entries = of_tensorflow(textproto.read(path))
                folders = {name: _inside(self._path, name, entry) for name, entry in entries.items()}
            for folder in folders.values():
                if folder.parent == self._path:
                    places.pop(folder.name, None)  # it has the name that it is given there
            places |= {name: _Place(folders[name], entry) for name, entry in entries.items()}
        return places


def is_repository(path: Path) -> bool:
    """Whether a folder looks like a model repository: it has a models.config, or folders with versions or a config.pbtxt."""
    with _named(path):
        children = [child for child in path.iterdir() if _is_name(child.name) and child.is_dir()]
        return (path / TENSORFLOW).is_file() or any((child / TRITON).is_file() or has_versions(child) for child in children)


def has_versions(folder: Path) -> bool:
    """Whether a folder looks like a model in a repository: it has folders named by whole numbers.

    Raises:
        Refused: it cannot be read.
    """
    with _named(folder):
        return any(_NUMBER.fullmatch(child.name) and child.is_dir() for child in folder.iterdir())


def _is_name(name: str) -> bool:
    """Whether a name can stand in an answer (names that are not UTF-8 cannot); hidden folders are nobody's models."""
    return name.isprintable() and not name.startswith(".")


def _is_candidate(folder: Path) -> bool:
    try:
        return bool(_versions(folder, _config(folder)))
    except Refused:
        return True


def _config(folder: Path) -> Config:
    path = folder / TRITON
    with _named(path):
        return of_triton(textproto.read(path), folder.name) if path.is_file() else Config()


def _versions(folder: Path, config: Config) -> dict[int, Path]:
    """The model's file by version; a model with files beside it may be a folder of the model's name, as in Triton."""
    found = {}
    with _named(folder):
        for child in folder.iterdir() if folder.is_dir() else ():
            path = child / config.file_name
            path = path / MODEL if path.is_dir() else path
            if _NUMBER.fullmatch(child.name) and path.is_file():
                found[int(child.name)] = path
    return found


def _contents(folder: Path) -> str:
    """What lies where the versions should lie, for the message that there are none."""
    with _named(folder):
        found = sorted(path.relative_to(folder).as_posix() for path in islice(folder.glob("*/*"), 10))
    return ", ".join(found)[:300] or "no folder of a version"


def _target(target: Target, config: Config) -> Target:
    """Where the model runs: what its configuration says, and for the rest what we were told."""
    device = config.device or target.device
    runtime = target.runtime if device in RUNTIMES[target.runtime] else "onnxruntime"
    return replace(
        target, device=device, runtime=config.runtimes.get(device, runtime), threads=config.threads or target.threads
    )


def _inside(root: Path, name: str, entry: Entry) -> Path:
    """The folder that an entry of models.config means.

    Raises:
        Refused: it lies outside of the repository, or the name cannot be served.
    """
    home = Path(os.path.normpath(root.absolute()))
    folder = Path(os.path.normpath(home / entry.base_path.removeprefix("file://")))
    if not folder.is_relative_to(home):
        home, folder = home.resolve(), folder.resolve()
    if folder == home or not folder.is_relative_to(home):
        raise Refused(
            f"the base_path of model '{name[:100]}' is not a folder in the repository",
            found=entry.base_path[:300],
            expected=f"a folder below {root}",
            next=f"write it relative to the repository, as base_path: '{folder.name}'",
        )
    if not _is_name(name) or "/" in name:
        raise Refused("that cannot be the name of a model", found=repr(name[:100]), expected="no '/', no leading '.'")
    return root / folder.relative_to(home)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file or folder is meant, and let out only our own errors.

    Raises:
        Refused: what is inside was refused, or the system does not let us read there.
    """
    try:
        yield
    except Refused as error:
        what = error.what if str(path) in error.what else f"{path}: {error.what}"
        raise Refused(what, found=error.found, expected=error.expected, next=error.next) from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        found = getattr(error, "strerror", None) or str(error)
        raise Refused(f"{path} cannot be read", found=found, expected="a folder of NAME/VERSION/model.onnx") from None
