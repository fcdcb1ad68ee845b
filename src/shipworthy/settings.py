"""shipworthy.toml, read into the records of ``sections``.

Strict: an unknown key is an error that names the nearest right one. Inert: reading settings opens no other file and
starts nothing. Precedence in one sentence: a flag, then the file, then the default below.
Every number carries its unit in its name; MB is 10**6 bytes.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from shipworthy.errors import Refused
from shipworthy.records import Target
from shipworthy.sections import (
    CheckSettings,
    DataSettings,
    GateSettings,
    MeasureSettings,
    ModelSettings,
    OptimizeSettings,
    ReleaseSettings,
    RolloutSettings,
    Section,
    ServeSettings,
    SilenceSettings,
    TargetSettings,
    WatchSettings,
)
from shipworthy.targets import KINDS

FILE_NAME = "shipworthy.toml"


class Settings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. ``folder`` is where it lies; paths in it are relative to that."""

    model: ModelSettings
    data: DataSettings = DataSettings()
    check: CheckSettings = CheckSettings()
    gates: GateSettings = GateSettings()
    targets: dict[str, TargetSettings] = {}
    optimize: OptimizeSettings = OptimizeSettings()
    measure: MeasureSettings = MeasureSettings()
    release: ReleaseSettings = ReleaseSettings()
    serve: ServeSettings = ServeSettings()
    watch: WatchSettings = WatchSettings()
    rollout: RolloutSettings = RolloutSettings()
    folder: str = "."

    def __post_init__(self) -> None:
        """Refuse gates on the accuracy where another metric is measured; msgspec makes it an error."""
        for name in ("accuracy_percent", "accuracy_kept_percent"):
            if getattr(self.gates, name) is not None and self.data.metric != "accuracy":
                mend = name.replace("accuracy_percent", "metric").replace("accuracy", "metric")
                raise ValueError(f"[gates] {name} is of the metric accuracy, not of {self.data.metric}: set {mend} instead")

    def file(self, path: str) -> Path:
        """``path`` as the settings file means it."""
        return Path(self.folder) / path

    def target(self, name: str | None = None) -> Target:
        """The target of that name, here or in ``targets.KINDS``; the only one there is, or the plain CPU, when none is named.

        Raises:
            Refused: no such target, or several and none named.
        """
        known = ", ".join(sorted(self.targets)) or "none"
        if name is None:
            if not self.targets:
                return Target()
            if len(self.targets) > 1:
                raise Refused("several targets are described and none was named", found=known, next="name one with --target")
            name = next(iter(self.targets))
        if name not in self.targets and name not in KINDS:
            raise Refused(
                f"there is no target '{name}'",
                found=f"targets: {known}",
                expected=f"one of these, or a kind: {', '.join(KINDS)}",
                next=f"add [targets.{name}] to the file",
            )
        return self.targets[name].target(name) if name in self.targets else KINDS[name]


def read(path: Path, overrides: Mapping[str, str] | None = None) -> Settings:
    """The settings in a file, or in the ``shipworthy.toml`` of a folder.

    Args:
        path: the file or folder.
        overrides: dotted key to TOML value, as ``{"gates.p99_ms": "5"}``; they win over the file.

    Raises:
        Refused: no such file, not TOML, an unknown key, a value of the wrong type or out of range.
    """
    try:
        path = path / FILE_NAME if path.is_dir() else path
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused(
            f"there is no {FILE_NAME} in {path.parent}",
            expected="a settings file that describes the model, its data and its gates",
            next=f"write one with: shipworthy init {path.parent}/MODEL",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"{path} is not TOML", found=str(error), next="correct that line") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise Refused(f"{path} cannot be read", found=str(error), expected="a readable file") from None
    return parse(plain, str(path), overrides)


def for_model(path: Path, overrides: Mapping[str, str] | None = None) -> Settings:
    """The settings of a bare model file: its name from the file's, everything else by default.

    Raises:
        Refused: as ``parse``.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:64] or "model"
    return parse({"model": {"name": name, "path": path.name}}, str(path.parent / FILE_NAME), overrides)


def parse(plain: dict[str, Any], origin: str, overrides: Mapping[str, str] | None = None) -> Settings:
    """The settings that plain dicts describe; ``origin`` is the file that messages name.

    Raises:
        Refused: as ``read``.
    """
    for key, text in (overrides or {}).items():
        _override(plain, key, text)
    _refuse_unknown(plain, Settings, origin, "")
    if "folder" in plain:
        raise _unknown("folder", [], origin, "")
    try:
        return msgspec.convert(plain | {"folder": str(Path(origin).parent)}, Settings)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at ")
        key = place.strip("`").removeprefix("$").removeprefix(".")
        given = any(key == one or key.startswith((f"{one}.", f"{one}[")) for one in overrides or ())
        raise Refused(
            f"{'the command line' if given else origin}: {key or 'the file'} is not right",
            found=what + _value(plain, key),
            next="docs/settings.md lists every key with its type, range and default",
        ) from None


def _override(plain: dict[str, Any], key: str, text: str) -> None:
    *path, last = key.split(".")
    for part in path:
        plain = plain.setdefault(part, {})
        if not isinstance(plain, dict):
            raise Refused(f"--set {key}: '{part}' is not a section")
    try:
        plain[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        plain[last] = text  # a bare word: nobody wants to quote a quote in a shell


def _refuse_unknown(plain: Any, kind: Any, origin: str, place: str) -> None:
    """Refuse keys that no field of ``kind`` takes, at every depth, with the nearest right one."""
    if not isinstance(plain, dict):
        return
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in plain.items():
        if key not in fields:
            raise _unknown(key, list(fields), origin, place)
        if key == "targets" and isinstance(value, dict):
            for name, one in value.items():
                _refuse_unknown(one, TargetSettings, origin, f"targets.{name}.")
        elif kind is CheckSettings and key == "silence" and isinstance(value, list):
            for one in value:
                _refuse_unknown(one, SilenceSettings, origin, f"{place}silence.")
        elif isinstance(fields[key], type) and issubclass(fields[key], Section):
            _refuse_unknown(value, fields[key], origin, f"{place}{key}.")


def _unknown(key: str, known: list[str], origin: str, place: str) -> Refused:
    known = [name for name in known if name != "folder"]
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    section = place.rstrip(".")
    return Refused(
        f"{origin}: unknown key '{place}{key}'" + (f"; did you mean '{place}{nearest[0]}'?" if nearest else ""),
        found=key,
        expected=f"in {f'[{section}]' if section else 'the file'}: {', '.join(sorted(known))}" if known else "",
        next="correct the key, or take it out",
    )


def _value(plain: Any, key: str) -> str:
    """`` (key = value)`` where the file holds a plain value at that key; empty elsewhere."""
    for part in key.split("."):
        if not isinstance(plain, dict) or part not in plain:
            return ""
        plain = plain[part]
    return "" if isinstance(plain, dict) else f" ({key} = {plain!r})"


__all__ = [
    "FILE_NAME",
    "CheckSettings",
    "DataSettings",
    "GateSettings",
    "MeasureSettings",
    "ModelSettings",
    "OptimizeSettings",
    "ReleaseSettings",
    "RolloutSettings",
    "Section",
    "ServeSettings",
    "Settings",
    "SilenceSettings",
    "TargetSettings",
    "WatchSettings",
    "for_model",
    "parse",
    "read",
]
