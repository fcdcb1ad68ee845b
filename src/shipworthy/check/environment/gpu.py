"""Which CUDA, cuDNN and TensorRT a package needs, by its name, its version or the table. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shipworthy.check.environment import table
from shipworthy.check.environment.listing import Listing, Package

# torch==2.3.1+cu121 says it in its version, nvidia-cublas-cu12 and cupy-cuda12x in their names.
LOCAL = re.compile(r"^cu(\d{2})\d$")
SUFFIX = re.compile(r"-cu(?:da)?(\d{2})x?(?:$|-)")
# Conda's names, and NVIDIA's since CUDA 13, whose version is that of CUDA.
VERSIONED = frozenset({"cudatoolkit", "cuda-toolkit", "cuda-version", "pytorch-cuda", "nvidia-cuda-runtime"})
CUDNN = re.compile(r"^(?:nvidia-)?cudnn(?:-cu\d{2})?$")
TENSORRT = re.compile(r"^tensorrt(?:-cu\d{2})?(?:-libs|-bindings)?$")


@dataclass(frozen=True)
class Need:
    """The major versions of which a package needs one; ``usual`` is the CUDA of the build that pip takes, 0: not known."""

    package: Package
    majors: frozenset[int]
    usual: int = 0

    def __str__(self) -> str:
        return f"{' or '.join(map(str, sorted(self.majors)))}: {self.package}"


def cuda(listing: Listing) -> list[Need]:
    """What needs CUDA, and which."""
    return [need for one in listing.packages if (need := _cuda(one))]


def cudnn(listing: Listing) -> list[Need]:
    """What needs cuDNN, and which."""
    found = []
    for one in listing.packages:
        row = _row(one)
        if one.near and CUDNN.match(one.name):
            found.append(Need(one, frozenset({one.near.major})))
        elif row and row.cudnn and not _without(one):
            found.append(Need(one, frozenset(row.cudnn)))
    return found


def tensorrt(listing: Listing) -> list[Need]:
    """The packages of TensorRT itself."""
    return [Need(one, frozenset({one.near.major})) for one in listing.packages if one.near and TENSORRT.match(one.name)]


def links_tensorrt(package: Package) -> frozenset[int]:
    """The major versions of TensorRT that the build of onnxruntime links; empty: not known."""
    row = _row(package)
    return frozenset(row.tensorrt) if row else frozenset()


def apart(needs: list[Need]) -> bool:
    """Whether no major version suits all."""
    return bool(needs) and not frozenset.intersection(*(one.majors for one in needs))


def _cuda(package: Package) -> Need | None:
    if _without(package):
        return None
    local = LOCAL.match(package.pinned.local or "") if package.pinned else None
    if local:
        return Need(package, frozenset({int(local[1])}))
    suffix = SUFFIX.search(package.name)
    if suffix:
        return Need(package, frozenset({int(suffix[1])}))
    if package.near and package.name in VERSIONED:
        return Need(package, frozenset({package.near.major}))
    row = _row(package)
    return Need(package, frozenset(row.cuda), row.usual) if row and row.cuda else None


def _without(package: Package) -> bool:
    """Whether it is a build without CUDA, as torch==2.13.0+cpu."""
    return bool(package.pinned and package.pinned.local and not LOCAL.match(package.pinned.local))


def _row(package: Package) -> table.Gpu | None:
    return table.at(table.table().gpu, package.name, package.near) if package.near else None
