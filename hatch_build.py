"""Compiles the one part that is in C, where there is a compiler; without it the package works, slower (decision 20)."""

from __future__ import annotations

import sysconfig
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
        extension = Extension(NAME, [SOURCE], py_limited_api=True, extra_compile_args=["-O2"])
        command = build_ext(Distribution({"name": "shipworthy", "package_dir": {"": "src"}, "ext_modules": [extension]}))
        command.inplace = version == "editable"
        command.build_lib = command.build_temp = str(Path(self.directory) / "compiled")
        command.ensure_finalized()
        try:
            command.run()
        except Exception as error:  # noqa: BLE001  no compiler, no headers of Python: whatever it is
            self.app.display_warning(f"{SOURCE} is not compiled, the server reads JSON without it: {error}")
            return
        if version != "editable":
            path = command.get_ext_fullpath(NAME)
            build_data["force_include"][path] = f"shipworthy/serve/{Path(path).name}"
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
