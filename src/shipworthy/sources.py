"""From what a user names to what the server loads: releases, bundles, bare models, model repositories, MLflow's registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shipworthy import records
from shipworthy.errors import NotFound, Refused
from shipworthy.files import file_digest
from shipworthy.records import Evidence, Measured, Target
from shipworthy.release import bundle
from shipworthy.release.registry import SqliteRegistry
from shipworthy.serve import repository
from shipworthy.serve.plan import Cost
from shipworthy.serve.source import Offer, Policy, ServedModel, Source
from shipworthy.settings import FILE_NAME, RolloutSettings, Settings, for_model, read
from shipworthy.workspace import Workspace

if TYPE_CHECKING:
    from shipworthy.release.mlflow_fetch import Registered

KINDS = (
    "an .onnx file, a bundle, a folder with a shipworthy.toml, a model repository (NAME/VERSION/model.onnx), "
    "the name of a release, or models:/NAME@ALIAS"
)


def sources(whats: Sequence[str], workspace: Path, overrides: Mapping[str, str]) -> tuple[Source, Settings]:
    """Where the models lie that ``whats`` name, all together, and the settings that go with them.

    Args:
        whats: at least one: ``NAME``, ``NAME@ALIAS`` or ``NAME@VERSION`` of a release; a bundle's folder; a folder with
            a shipworthy.toml, or that file: its release is meant; an .onnx file; a model repository;
            ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` in MLflow's registry.
        workspace: whose registry is asked.
        overrides: as for ``settings.read``.

    Returns:
        The source, and the settings of the only shipworthy.toml among ``whats``; the defaults when there is none, or
        several.

    Raises:
        Refused: one that is none of these, a name that is there twice, or settings that are wrong.
    """
    home = Workspace(workspace)
    try:
        own = [what for what in whats if _has_settings(Path(what))]
        settings = read(Path(own[0]), overrides) if len(own) == 1 else for_model(Path(Path(whats[0]).name), overrides)
        found = [_source(what, home, settings, overrides) for what in whats]
    except OSError as error:  # a name too long, a folder that is not ours
        raise Refused("that cannot be read", found=str(error)[:300], expected=KINDS) from None
    named = Counter(name for source in found for name in source.names())
    if twice := [name for name, times in named.items() if times > 1]:
        raise Refused(
            f"there are several models with the name '{twice[0]}'",
            found=", ".join(what for what, source in zip(whats, found, strict=True) if twice[0] in source.names()),
            next="rename one of them, or serve them on different ports",
        )
    return (found[0] if len(found) == 1 else Union(found)), settings


class Union:
    """Several sources as one; no name is in two of them."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self._parts = parts

    def names(self) -> list[str]:
        """Every model of every source."""
        return [name for part in self._parts for name in part.names()]

    def numbers(self, name: str) -> list[int]:
        """Every version of a model, in order."""
        return sorted({number for part in self._parts for number in part.numbers(name)})

    def find(self, name: str, policy: Policy | None = None) -> Offer:
        """What is to be served of a model, from the source that has it.

        Raises:
            NotFound, Refused: as ``Source``; or two sources have come to have that name.
        """
        owners = [part for part in self._parts if name in part.names()]
        if len(owners) > 1:
            raise Refused(f"there are several models with the name '{name}'", next="rename one of them")
        said = []
        for part in owners or self._parts:
            try:
                return part.find(name, policy)
            except NotFound as error:
                said.append(error)
        raise said[0] if len(said) == 1 else NotFound(said[0].what, found="; ".join(filter(None, (one.found for one in said))))


class Single:
    """One model in one version, outside of any registry: ``look`` checks what lies there and says what to serve."""

    def __init__(self, name: str, look: Callable[[], ServedModel]) -> None:
        self._name = name
        self._look = look

    def names(self) -> list[str]:
        """The model."""
        return [self._name]

    def numbers(self, name: str) -> list[int]:
        """Version 1."""
        return [1] if name == self._name else []

    def find(self, name: str, policy: Policy | None = None) -> Offer:
        """The model, as it lies there now.

        Raises:
            NotFound: another model, or another version, is wanted.
            Refused: it cannot be served.
        """
        if not (policy or Policy()).pick(self.numbers(name)):
            raise NotFound(f"there is no such model or version of '{name[:100]}'", found=f"{self._name} version 1")
        return Offer((self._look(),), 1)


class Releases:
    """The releases of one name in the registry; without a policy only the one that the alias or number means."""

    def __init__(self, name: str, which: str, alias: str, home: Workspace, policy: Policy | None) -> None:
        """``which`` is what the user has named, an alias or a number; ``alias`` stands for it where that is empty."""
        self._name = name
        self._which = which
        self._alias = alias
        self._home = home
        self._policy = policy

    def names(self) -> list[str]:
        """The model."""
        return [self._name]

    def numbers(self, name: str) -> list[int]:
        """Every release, in order."""
        return [one.version for one in SqliteRegistry(self._home.registry).releases(name)] if name == self._name else []

    def find(self, name: str, policy: Policy | None = None) -> Offer:
        """What the registry says now: an alias that has moved is followed. Every bundle is verified.

        Raises:
            NotFound: no such release, or none of the versions asked for.
            Refused: a bundle is not what was released.
        """
        _refuse_other(name, self._name)
        registry = SqliteRegistry(self._home.registry)
        named, numbers = self._which or self._alias, self.numbers(name)
        policy = policy or self._policy
        if policy is None or self._which or not numbers:
            named = str(registry.get(name, named).version)
        served = [int(named)] if policy is None else _picked(name, policy, numbers)
        return _offer([self._release(registry, number) for number in served], registry.aliases(name), named)

    def _release(self, registry: SqliteRegistry, number: int) -> ServedModel:
        release = registry.get(self._name, number)
        folder, manifest = bundle.open_bundle(self._home.store, release.bundle)
        return _of_bundle(folder, manifest, release.version, release.bundle)


class InMlflow:
    """A model in MLflow's registry, fetched by a process of its own; without a policy only the version that is named."""

    def __init__(self, uri: str, home: Workspace, policy: Policy | None, target: Target) -> None:
        from shipworthy.release import mlflow_fetch  # noqa: PLC0415  what it needs costs every other start 25 ms

        self._name, self._which = mlflow_fetch.parts(uri)
        self._home = home
        self._policy = policy
        self._target = target

    def names(self) -> list[str]:
        """The model."""
        return [self._name]

    def numbers(self, name: str) -> list[int]:
        """Every version that MLflow has, in order.

        Raises:
            Failed: MLflow does not answer.
        """
        return list(self._fetch([]).numbers) if name == self._name else []

    def find(self, name: str, policy: Policy | None = None) -> Offer:
        """What MLflow says now: an alias that has moved is followed. Takes some seconds.

        Raises:
            NotFound: no such model, or none of the versions asked for.
            Refused: a version is not an ONNX model.
            Failed: MLflow does not answer.
        """
        _refuse_other(name, self._name)
        found = self._fetch([self._which])
        files = dict(found.files)
        named = next(iter(files))
        policy = policy or self._policy
        served = [named] if policy is None else _picked(name, policy, found.numbers)
        if missing := [str(number) for number in served if number not in files]:
            files |= self._fetch(missing).files
        models = [ServedModel(name, number, Path(files[number].path), self._target, files[number].bundle) for number in served]
        return _offer(models, found.aliases, str(named))

    def _fetch(self, wanted: Sequence[str]) -> Registered:
        from shipworthy.release import mlflow, mlflow_fetch  # noqa: PLC0415

        folder = self._home.folder
        return mlflow_fetch.fetch(mlflow.tracking_uri(folder), self._name, wanted, folder / "fetched")


def _source(what: str, home: Workspace, settings: Settings, overrides: Mapping[str, str]) -> Source:
    path = Path(what)
    policy = Policy.read(settings.serve.versions) if settings.serve.versions else None
    if what.startswith("models:"):
        return InMlflow(what, home, policy, settings.target())
    if path.suffix == ".onnx":
        return Single(for_model(path).model.name, lambda: _of_file(path, settings.target()))
    if (path / bundle.MANIFEST).is_file():
        name = bundle.verify(path).name
        return Single(name, lambda: _of_bundle(path, bundle.verify(path), 1, file_digest(path / bundle.MANIFEST)))
    if _has_settings(path):
        own = read(path, overrides)
        return Releases(own.model.name, "", own.rollout.alias, home, policy)
    if path.is_dir() and repository.is_repository(path):
        return _repository(path, policy, settings.target())
    name, _, which = what.partition("@")
    if path.exists() or "/" in name:
        raise _nothing(path)
    return Releases(name, which, RolloutSettings().alias, home, policy)


def _repository(path: Path, policy: Policy | None, target: Target) -> repository.Folder:
    folder = repository.Folder(path, policy, target)
    if not folder.names():
        raise Refused(f"no model in {path} has a version to serve", expected="NAME/VERSION/model.onnx, VERSION a whole number")
    return folder


def _nothing(path: Path) -> Refused:
    """Why there is nothing to serve there, and what to name instead."""
    mend = f"convert it first: shipworthy ship {path}"
    if not path.exists():
        mend = "correct the path"
    elif path.is_dir() and repository.has_versions(path):
        mend = f"this is one model of a model repository; name the repository: {path.absolute().parent}"
    elif path.is_dir():
        files = sorted(path.glob("*.onnx"))
        mend = f"name the file: {files[0]}" if files else f"or is a release meant? {path.name}@{RolloutSettings().alias}"
    return Refused(f"there is nothing to serve in {path}", expected=KINDS, next=mend)


def _has_settings(path: Path) -> bool:
    return path.suffix == ".toml" or ((path / FILE_NAME).is_file() and not (path / bundle.MANIFEST).is_file())


def _refuse_other(name: str, own: str) -> None:
    if name != own:
        raise NotFound(f"there is no model '{name[:100]}'", found=own)


def _picked(name: str, policy: Policy, numbers: Sequence[int]) -> list[int]:
    """The versions that a policy picks.

    Raises:
        NotFound: none.
    """
    picked = policy.pick(numbers)
    if not picked:
        known = ", ".join(map(str, numbers))[:500]
        raise NotFound(
            f"model '{name}' has none of the versions asked for",
            found=f"versions: {known or 'none'}",
            expected=", ".join(map(str, policy.listed)),
        )
    return picked


def _offer(models: Sequence[ServedModel], aliases: Mapping[str, int], named: str) -> Offer:
    """These versions; the one that ``named`` (an alias or a number) means is the default, where it is served."""
    numbers = [model.version for model in models]
    labels = {alias: number for alias, number in aliases.items() if number in numbers}
    default = labels.get(named, int(named) if named.isdecimal() else 0)
    return Offer(tuple(models), default if default in numbers else numbers[-1], labels)


def _of_file(path: Path, target: Target) -> ServedModel:
    if not path.is_file():
        raise NotFound(f"there is no file {path}", next="correct the path")
    return ServedModel(for_model(path).model.name, 1, path, target)


def _of_bundle(folder: Path, manifest: records.Bundle, version: int, digest: str) -> ServedModel:
    measured = records.decode(Measured, (folder / "evidence.json").read_bytes())
    evidence = next((one for one in measured.evidence if one.variant_name == manifest.variant_name), None)
    target = evidence.target if evidence else Target()
    return ServedModel(manifest.name, version, folder / bundle.MODEL, target, digest, _cost(evidence))


def _cost(evidence: Evidence | None) -> Cost | None:
    """What a run costs, as it was measured: how the model is served follows from that."""
    row, batched = (evidence.figure(name) if evidence else None for name in ("p50_ms", "throughput_rps"))
    return Cost(row.median, batched.median) if row and batched else None
