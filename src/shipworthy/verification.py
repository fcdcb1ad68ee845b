"""The proof that production answers what development measured: a real server, every evaluation row, over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from shipworthy import data, measure
from shipworthy.backends.runners import load
from shipworthy.data import Dataset
from shipworthy.errors import Failed
from shipworthy.protocols import Array, Runner
from shipworthy.records import Evidence, Exchange, Figure, Gate, Release, Served
from shipworthy.serve.process import running
from shipworthy.serve.verify import Sent, rows_a_request, send_all
from shipworthy.settings import Settings

ROWS_WITHOUT_DATA = 256


def verify(
    settings: Settings,
    workspace: Path,
    model_file: Path,
    release: Release,
    evidence: Evidence,
    rows: Dataset | None,
    gates: Sequence[Gate],
) -> Served:
    """Serve the release in a process of its own and send it every row, as JSON and as binary tensors.

    Args:
        settings: prediction output and the patience with a server that starts.
        workspace: whose registry the server reads.
        model_file: the released model, for the answers that are expected.
        release: what to serve.
        evidence: what was measured of it.
        rows: evaluation rows; ``None``: rows are made up, and only the outputs are compared.
        gates: limits on the served release.

    Raises:
        Failed: the server did not start, or answered nothing at all.
    """
    runner = load(model_file, evidence.target)
    rows = rows or data.made_up(runner.signature, ROWS_WITHOUT_DATA)
    expected = _in_process(runner, rows)
    output = ""
    labels = rows.labels if settings.data.metric == "accuracy" else None
    if labels is not None:
        output = measure.accuracy.prediction_output(runner.signature, settings.data.prediction).name
    runner.close()
    command = [sys.executable, "-m", "shipworthy", "serve", f"{release.name}@{release.version}"]
    command += [
        "--workspace",
        str(workspace),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--grpc-port",
        "0",
        "--json",
        "--stop-with-parent",
    ]
    encodings: tuple[Literal["json", "binary"], ...] = ("json", "binary")
    with running(command, settings.serve.start_seconds) as url:
        sent = {encoding: send_all(url, release.name, release.version, rows, encoding) for encoding in encodings}
    for encoding, one in sent.items():
        if not one.answered:
            raise Failed(f"the released server answered none of {one.requests} {encoding} requests", found=one.failure)
    exchanges = tuple(_exchange(encoding, one, rows, expected, output) for encoding, one in sent.items())
    availability = measure.share(
        "availability_percent",
        sum(one.answered for one in exchanges),
        sum(one.requests for one in exchanges),
        "requests of the verification that were answered",
    )
    measured = evidence.figure("accuracy_percent")
    return Served(
        bundle=release.bundle,
        version=release.version,
        measured_accuracy_percent=measured.median if measured else None,
        gap_points=_gap(measured, exchanges),
        exchanges=exchanges,
        verdicts=tuple(measure.verdict(gate, availability) for gate in gates),
    )


def _in_process(runner: Runner, rows: Dataset) -> dict[str, Array]:
    """The answers without a server, in batches like the requests': a batch may shape what each of its rows gets."""
    step = rows_a_request(rows.rows)
    parts = [runner.run(rows.take(start, start + step)) for start in range(0, rows.rows, step)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _exchange(
    encoding: Literal["json", "binary"], sent: Sent, rows: Dataset, expected: dict[str, Array], output: str
) -> Exchange:
    p50, p99 = np.percentile(sent.latencies_ms, [50, 99])
    accuracy = None
    if output and rows.labels is not None:
        # A row without an answer is a wrong one: leaving it out would flatter the server.
        right = measure.accuracy.hits(sent.outputs, rows.labels[sent.answered_rows], output)
        accuracy = measure.share("accuracy_percent", right, rows.rows, "").median
    wanted = {name: array[sent.answered_rows] for name, array in expected.items()}
    return Exchange(
        encoding=encoding,
        requests=sent.requests,
        answered=sent.answered,
        rows=rows.rows,
        accuracy_percent=accuracy,
        largest_difference=max(_difference(sent.outputs[name], array) for name, array in wanted.items()),
        p50_ms=float(p50),
        p99_ms=float(p99),
    )


def _difference(answer: Array, expected: Array) -> float:
    """The largest difference, relative to values above 1 and absolute below; texts that differ count as 1."""
    if answer.dtype.kind in "OU":
        return float((answer != expected).any())
    ours, wanted = answer.astype(np.float64), expected.astype(np.float64)
    apart = (ours != wanted) & ~(np.isnan(ours) & np.isnan(wanted))
    with np.errstate(invalid="ignore"):
        difference = np.abs(ours - wanted) / np.maximum(1.0, np.abs(wanted))
    finite = np.isfinite(ours) & np.isfinite(wanted)
    # The largest number there is, for a value that is not one: records hold finite numbers only.
    return float(np.max(np.where(finite, difference, sys.float_info.max), where=apart, initial=0.0))


def _gap(measured: Figure | None, exchanges: Sequence[Exchange]) -> float | None:
    """Measured minus served accuracy, in points, of the encoding where they are furthest apart."""
    gaps = [
        measured.median - one.accuracy_percent for one in exchanges if measured is not None and one.accuracy_percent is not None
    ]
    return max(gaps, key=abs) if gaps else None
