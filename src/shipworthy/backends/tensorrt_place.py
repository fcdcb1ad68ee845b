"""The GPU that TensorRT builds for, as the driver tells of it."""

from __future__ import annotations

import ctypes
from pathlib import Path

from shipworthy.backends import cuda
from shipworthy.backends.tensorrt_plan import Place
from shipworthy.errors import Refused

DRIVER = Path("/sys/module/nvidia/version")
NAME_BYTES = 256
# CUdevice_attribute: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
CAPABILITY = (75, 76)


def place(tensorrt: str) -> Place:
    """The first GPU that this process may use, beside the version of TensorRT.

    Raises:
        Refused: there is no driver, or no GPU.
    """
    version, major, minor = (ctypes.c_int() for _ in range(3))
    name = ctypes.create_string_buffer(NAME_BYTES)
    try:
        driver = cuda.driver()
        driver.ask("cuDriverGetVersion", ctypes.byref(version))
        device = driver.first()
        driver.ask("cuDeviceGetName", name, NAME_BYTES, device)
        for number, attribute in zip((major, minor), CAPABILITY, strict=True):
            driver.ask("cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
    except cuda.NoGpu as error:
        raise _none(str(error)) from None
    return Place(
        tensorrt=tensorrt,
        cuda=version.value,
        driver=_driver(),
        gpu=name.value.decode(errors="replace"),
        capability=f"{major.value}.{minor.value}",
    )


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
