"""Write the pages of docs/ that are made from the code, or say which are out of date.

``python docs/generate.py`` writes them; ``--check`` writes nothing, names the stale ones and exits with 1.
A new page is a function that gives its text, and a line in ``PAGES``; one that is partly written by hand reads that part.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from shipworthy import check, initialize
from shipworthy.check import environment
from shipworthy.check.environment.table import Row, table
from shipworthy.files import write_bytes
from shipworthy.serve import metrics, statistics
from shipworthy.settings import FILE_NAME

DOCS = Path(__file__).parent


def settings_page() -> str:
    """The reference of shipworthy.toml, from the settings records."""
    lines = [
        f"# {FILE_NAME}",
        "",
        "Written by `make docs` from `src/shipworthy/settings.py`; do not edit.",
        "",
        "An unknown key is an error that names the nearest right one. Precedence: a flag (`--set gates.p99_ms=5`), then the",
        "file, then the default. Paths are relative to the file. MB is 10**6 bytes. `shipworthy init MODEL` writes a commented",
        "file to start from. A section in double brackets may stand there any number of times.",
    ]
    for group in initialize.groups():
        about = group.about[:1].upper() + group.about[1:]
        lines += ["", f"## {group.head}", "", about, "", "| key | type | unit | range | default | what it is for |"]
        lines.append("|---|---|---|---|---|---|")
        lines += [row(option) for option in group.options]
    return "\n".join(lines) + "\n"


def row(option: initialize.Option) -> str:
    """One option as a line of a table."""
    default = (
        "**required**" if option.required else "none" if option.default is None else f"`{initialize.toml(option.default)}`"
    )
    return cells(f"`{option.key}`", option.kind, option.unit, option.limits, default, option.about)


def metrics_page() -> str:
    """The reference of what /metrics answers, from its families."""
    lines = [
        "# Metrics",
        "",
        "Written by `make docs` from `src/shipworthy/serve/metrics.py`; do not edit.",
        "",
        "`GET /metrics`, or `GET /monitoring/prometheus/metrics` as TensorFlow Serving has it, answers in Prometheus' text",
        "format for the whole server: any worker answers for all, those included that have ended (of one that was killed all",
        "but its last second). It waits in no queue of a model. Why it is so: [decision 9](decisions/0009-metrics.md).",
        "",
        f"`protocol` is one of {words(statistics.PROTOCOLS)}; `outcome` one of {words(statistics.OUTCOMES)}. Every series of a",
        "version begins at zero when it is served and ends when it is not; counters begin anew when its files have changed.",
        "A request that names no model or version that is served is counted nowhere. Histograms of times have the edges",
        ", ".join(f"{edge / 1e9:g}" for edge in statistics.EDGES_NS) + " s, and `slo_ms` of `[serve]`.",
        "The time of a request runs from when its body was there to when its answer was handed on to the connection.",
        "",
        "GPUs are shown where there is an NVIDIA driver and `shipworthy[gpu]` is installed: every GPU of the machine, whoever",
        "uses it, asked of the driver once a second at most and apart from the event loop. A driver that does not answer",
        "within a second holds up no scrape: its GPUs are missing meanwhile. **It has not run on a GPU yet**: it is tested",
        "with a driver that only pretends, whose functions are those of nvidia-ml-py.",
    ]
    for title, families, every in (
        ("Each version", metrics.MODEL_FAMILIES, ("model", "version")),
        ("The server", metrics.SERVER_FAMILIES, ()),
        ("Each GPU", metrics.GPU_FAMILIES, ("gpu_uuid",)),
    ):
        lines += ["", f"## {title}", "", "| name | type | labels | meaning |", "|---|---|---|---|"]
        lines += [f"| `{one.name}` | {one.kind} | {words((*every, *one.labels))} | {one.about} |" for one in families]
    return "\n".join(lines) + "\n"


# A page whose beginning is written by hand says so in this line, after which the rest is made.
MADE = "<!-- Written by `make docs` from the laws in src/shipworthy/check/ from here on; do not edit below. -->\n"


def check_page() -> str:
    """How check is used, as it stands there by hand, and below it all laws with their mends."""
    by_hand = (DOCS / "check.md").read_text(encoding="utf-8").partition(MADE)[0]
    lines = ["", "## Laws", "", "Each has the severity of its findings where they say no other."]
    heads = cells("law", "severity", "what must hold", "where it does not", "mend")
    for area in dict.fromkeys(law.name.partition(".")[0] for law in check.LAWS):
        lines += ["", f"### {area}", "", heads, "|---" * 5 + "|"]
        laws = (law for law in check.LAWS if law.name.startswith(f"{area}."))
        lines += [cells(f"`{law.name}`", law.severity, law.holds, law.breaks, law.mend) for law in laws]
    return by_hand + MADE + "\n".join(lines) + "\n"


def cells(*texts: str) -> str:
    """One line of a table."""
    return "| " + " | ".join(text.replace("|", "\\|").replace("<", "&lt;") for text in texts) + " |"


def words(names: Iterable[str]) -> str:
    """Names as code, in a row."""
    return ", ".join(f"`{name}`" for name in names)


# Which columns of the table of environment.* stand under which title; the last of all is the source.
TABLES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "onnxruntime": ("What onnxruntime loads at most", {"release": "release", "opset": "opset", "ir": "IR version"}),
    "onnx": ("What onnx writes by default", {"release": "release", "opset": "opset", "ir": "IR version"}),
    "exporter": (
        "What exporters write by default",
        {"package": "package", "since": "since", "until": "known until", "how": "call", "opset": "opset"},
    ),
    "gpu": (
        "Which CUDA, cuDNN and TensorRT builds are for",
        {
            "package": "package",
            "since": "since",
            "until": "known until",
            "cuda": "CUDA",
            "usual": "CUDA that pip takes",
            "cudnn": "cuDNN",
            "tensorrt": "TensorRT",
        },
    ),
    "jetpack": (
        "What JetPack has",
        {"release": "JetPack", "kinds": "targets", "cuda": "CUDA", "tensorrt": "TensorRT", "python": "Python"},
    ),
    "numpy2": ("Built for numpy 2", {"package": "package", "since": "since"}),
    "pair": (
        "What breaks beside what",
        {"package": "package", "range": "range", "other": "beside", "other_range": "range (none: missing)", "says": "because"},
    ),
    "metadata": (
        "What releases require",
        {"package": "package", "release": "release", "python": "Python", "newest": "newest Python", "needs": "packages"},
    ),
}


def environment_page() -> str:
    """The dated table that the laws of environment.* go by."""
    known = table()
    lines = [
        "# What goes with what",
        "",
        "Written by `make docs` from `src/shipworthy/check/environment/`; do not edit.",
        "",
        "`shipworthy check MODEL --environment requirements.txt` compares the packages of serving with those of training, with",
        "the model and with the target. It reads requirements.txt with what that includes, what `pip freeze` prints,",
        "pyproject.toml (Poetry's table, too), conda.yaml, and the folder of a model that MLflow has logged; of YAML as much",
        "as such files have. A list is at most 1 MB and 10,000 lines. Extras of a pyproject.toml count for training only.",
        "",
        "A row speaks of all versions of a release, or of all from one on up to the next row of its package. What is not here",
        "is not known to the tool, and no law speaks of it.",
        "",
        "## The laws",
        "",
        "| law | severity | holds | else |",
        "|---|---|---|---|",
        *(f"| `{law.name}` | {law.severity} | {law.holds} | {law.breaks} |" for law in environment.LAWS),
    ]
    for name, (title, columns) in TABLES.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| " + " | ".join([*columns.values(), "source"]) + " |",
            "|---" * (len(columns) + 1) + "|",
        ]
        lines += [facts(one, columns) for one in getattr(known, name)]
    lines += ["", "## Training only", "", "Our own judgement, no measured fact.", "", "| package | is |", "|---|---|"]
    lines += [f"| `{name}` | {why} |" for name, why in known.training_only.items()]
    lines += ["", "## Sources", "", "| name | what | read |", "|---|---|---|"]
    for name, one in known.sources.items():
        what = f"[{one.title}]({one.address})" if one.address else one.title
        lines.append(f"| `{name}` | {what} | {one.date} |")
    return "\n".join(lines) + "\n"


def facts(one: Row, columns: Iterable[str]) -> str:
    """One fact as a line of a table."""
    cells = []
    for column in columns:
        value = getattr(one, column)
        cells.append(", ".join(map(str, value)) if isinstance(value, tuple) else str(value or ""))
    sources = ", ".join(f"`{name}`" for name in one.source.split(", "))
    return "| " + " | ".join([*cells, sources]) + " |"


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "check.md": check_page,
    "environment.md": environment_page,
}


def stale(folder: Path, pages: Mapping[str, Callable[[], str]]) -> dict[str, str]:
    """Name to new text of the pages whose file in ``folder`` is missing or says something else."""
    made = {name: make() for name, make in pages.items()}
    paths = {name: folder / name for name in made}
    return {name: text for name, text in made.items() if not paths[name].is_file() or paths[name].read_bytes() != text.encode()}


def main() -> int:
    """Write or check all pages; the exit code."""
    parser = argparse.ArgumentParser(description="Write the pages that are made from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a page is out of date")
    only = parser.parse_args().check
    found = stale(DOCS, PAGES)
    for name, text in found.items():
        if only:
            print(f"docs/{name} is out of date: write it with make docs", file=sys.stderr)
        else:
            write_bytes(DOCS / name, text.encode())
            print(f"docs/{name}")
    return 1 if only and found else 0


if __name__ == "__main__":
    sys.exit(main())
