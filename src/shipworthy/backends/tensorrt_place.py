"""The GPU that TensorRT builds for, asked of the driver's own library: no package is needed for four questions."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from shipworthy.backends.tensorrt_plan import Place
from shipworthy.errors import Refused

LIBRARY = "libcuda.so.1"
DRIVER = Path("/sys/module/nvidia/version")
NAME_BYTES = 256
# CUdevice_attribute: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
CAPABILITY = (75, 76)


def place(tensorrt: str) -> Place:
    """The first GPU that this process may use, beside the version of TensorRT.

    Raises:
        Refused: there is no driver, or no GPU.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise _none(str(error)) from None
    version, device, major, minor = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(NAME_BYTES)
    _ask(library, "cuInit", 0)
    _ask(library, "cuDriverGetVersion", ctypes.byref(version))
    _ask(library, "cuDeviceGet", ctypes.byref(device), 0)
    _ask(library, "cuDeviceGetName", name, NAME_BYTES, device)
    for number, attribute in zip((major, minor), CAPABILITY, strict=True):
        _ask(library, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
    return Place(
        tensorrt=tensorrt,
        cuda=version.value,
        driver=_driver(),
        gpu=name.value.decode(errors="replace"),
        capability=f"{major.value}.{minor.value}",
    )


def _ask(library: Any, function: str, *arguments: Any) -> None:
    code = getattr(library, function)(*arguments)
    if code:
        raise _none(f"{function} answers with error {code}")


def _driver() -> str:
    """The kernel module's version; a Jetson has none there."""
    try:
        return DRIVER.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _none(found: str) -> Refused:
    return Refused(
        "there is no NVIDIA GPU that TensorRT could build for",
        found=found,
        expected="a GPU and its driver: an engine is built on the kind of GPU that it runs on",
        next="build on the target; the plan and the ONNX file are all that it takes",
    )
