"""Compiles the one part that is in C, where there is a compiler; without it the package works, slower (decision 20)."""

from __future__ import annotations

import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

NAME = "shipworthy.serve._numbers"
SOURCE = "src/shipworthy/serve/_numbers.c"


class Compiles(BuildHookInterface):
    """Puts the compiled part into a wheel, or beside its source where the package is installed in place."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, or say why not and go on."""
        if self.target_name != "wheel":
            return
        self._made = tempfile.TemporaryDirectory()  # until the wheel is written
        try:
            path = self._compile(in_place=version == "editable")
        except Exception as error:  # noqa: BLE001  no compiler, no headers of Python: whatever it is
            self.app.display_warning(f"{SOURCE} is not compiled, the server reads JSON without it: {error}")
            return
        if version != "editable":
            build_data["force_include"][str(path)] = f"shipworthy/serve/{path.name}"
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002  hatchling's
        """Leave nothing behind."""
        if self.target_name == "wheel":
            self._made.cleanup()

    def _compile(self, *, in_place: bool) -> Path:
        source = str(Path(self.root, SOURCE))
        extension = Extension(NAME, [source], py_limited_api=True, extra_compile_args=["-O2"])
        package = {"": str(Path(self.root, "src"))}
        command = build_ext(Distribution({"name": "shipworthy", "package_dir": package, "ext_modules": [extension]}))
        command.inplace = in_place
        command.build_lib = command.build_temp = self._made.name
        command.force = True
        command.ensure_finalized()
        command.run()
        return Path(command.get_ext_fullpath(NAME))
