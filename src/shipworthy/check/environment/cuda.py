"""Law ``environment.cuda``: cuDNN, TensorRT and the builds for CUDA fit each other and the target. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.version import Version

from shipworthy.check.environment import gpu, table
from shipworthy.check.environment.case import Case
from shipworthy.check.environment.listing import PYTHON
from shipworthy.check.law import Law
from shipworthy.records import Finding
from shipworthy.targets import BOARDS

CUDA = Law(
    name="environment.cuda",
    severity="error",
    holds="the builds for CUDA, cuDNN and TensorRT are for one another, and for what the target has",
    breaks="a library is not found, and onnxruntime goes on without a word on the CPU, many times slower",
    mend="pin builds for one CUDA, one cuDNN and one TensorRT: the table in docs/environment.md",
)
_NVIDIA = "take the packages that NVIDIA builds for the JetPack of the board"


def judge(case: Case) -> Iterator[Finding]:
    """Among each other, then against the target."""
    yield from _cudnn(case)
    yield from _usual(case)
    yield from _tensorrt(case)
    yield from _device(case)
    yield from _board(case)


def _cudnn(case: Case) -> Iterator[Finding]:
    needs = gpu.cudnn(case.serving)
    if gpu.apart(needs):
        yield CUDA.found(
            "cuDNN",
            "each needs another cuDNN: " + "; ".join(map(str, needs)),
            "upgrade the older one: onnxruntime-gpu has cuDNN 9 from 1.19 on, torch from 2.4 on",
        )


def _usual(case: Case) -> Iterator[Finding]:
    """A package has a build that would fit, but pip takes another."""
    needs = gpu.cuda(case.serving)
    if gpu.apart(needs):
        return  # no build fits: environment.together says it
    common = frozenset.intersection(*(one.majors for one in needs)) if needs else frozenset()
    for need in needs:
        if need.usual and need.usual not in common and len(need.majors) > 1:
            wanted = max(common)
            yield CUDA.found(
                f"package {need.package.name}",
                f"the rest needs CUDA {wanted}; of {need.package} pip takes the build for CUDA {need.usual}",
                f"install the build for CUDA {wanted} of {need.package.name}, and pin it with its +cu{wanted}… in the version",
                "warning",
            )


def _tensorrt(case: Case) -> Iterator[Finding]:
    """The packages of TensorRT, the provider of onnxruntime-gpu and the target: all of one major version."""
    kind = case.target.kind
    wanted = int(kind.removeprefix("tensorrt-")) if kind.startswith("tensorrt-") else 0
    needs = gpu.tensorrt(case.serving)
    for need in needs if wanted else ():
        if wanted not in need.majors:
            yield CUDA.found(
                "TensorRT",
                f"the target is {kind}; listed is {need.package}",
                f"pip install '{need.package.name}>={wanted},<{wanted + 1}', or name a target of the kind of that TensorRT",
            )
    for runtime in case.serving.find("onnxruntime-gpu"):
        links = gpu.links_tensorrt(runtime)
        major = max(links, default=0)
        if wanted and links and wanted not in links:
            yield CUDA.found(
                f"package {runtime.name}",
                f"the target is {kind}; {runtime} links TensorRT {major}, so its TensorRT provider does not load",
                f"serve engines of TensorRT's own, or name the target of the kind tensorrt-{major}",
                "warning",
            )
        for need in needs if links and not wanted else ():
            if not links & need.majors:
                yield CUDA.found(
                    "TensorRT",
                    f"{runtime} links TensorRT {major}; listed is {need.package}",
                    f"pip install '{need.package.name}>={major},<{major + 1}'",
                    "error" if case.target.runtime == "tensorrt" else "warning",
                )


def _device(case: Case) -> Iterator[Finding]:
    """The build for CPUs where there is a GPU, and the other way round."""
    if case.target.device == "cuda":
        for one in case.serving.find("onnxruntime"):
            if not case.serving.has("onnxruntime-gpu"):
                yield CUDA.found(
                    f"package {one.name}",
                    f"the target {case.target.name} has a GPU; {one} is the build for CPUs",
                    _NVIDIA if case.target.kind in BOARDS else "pip uninstall onnxruntime; pip install onnxruntime-gpu",
                )
    else:
        for one in case.serving.find("onnxruntime-gpu"):
            yield CUDA.found(
                f"package {one.name}",
                f"the target {case.target.name} has no GPU; {one} is the build for CUDA, some 250 MB",
                "pip uninstall onnxruntime-gpu; pip install onnxruntime",
                "warning",
            )


def _board(case: Case) -> Iterator[Finding]:
    """A Jetson has the CUDA, the TensorRT and the Python of its JetPack, and no other."""
    rows = [row for row in table.table().jetpack if case.target.kind in row.kinds]
    if not rows:
        return
    wrongs = {row.release: _wrongs(case, row) for row in rows}
    if all(wrongs.values()):
        nearest = min(wrongs, key=lambda release: (len(wrongs[release]), [-part for part in Version(release).release]))
        also = ", ".join(release for release in wrongs if release != nearest)
        yield CUDA.found(
            case.target.kind,
            f"JetPack {nearest}: {'; '.join(wrongs[nearest])}" + (f"; JetPack {also}: no better" if also else ""),
            _NVIDIA,
        )
    for runtime in case.serving.find("onnxruntime-gpu"):
        if case.target.runtime == "tensorrt":
            yield CUDA.found(
                f"package {runtime.name}",
                f"the wheel for ARM of {runtime} has no TensorRT provider, only that of CUDA",
                f"{_NVIDIA}, or serve engines of TensorRT's own",
                "warning",
            )


def _wrongs(case: Case, row: table.Jetpack) -> list[str]:
    """What does not fit one JetPack."""
    major = int(row.cuda.split(".")[0])
    found = [f"it has CUDA {row.cuda}, needed is {need}" for need in gpu.cuda(case.serving) if major not in need.majors]
    has = " or ".join(map(str, row.tensorrt))
    found += [
        f"it has TensorRT {has}, listed is {need.package}"
        for need in gpu.tensorrt(case.serving)
        if not need.majors & set(row.tensorrt)
    ]
    pythons = case.serving.find(PYTHON)
    return found + [f"it has Python {row.python}, listed is {one}" for one in pythons if not one.may_be(f"=={row.python}.*")]
