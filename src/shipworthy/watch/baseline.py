"""The drift baseline: the training rows and the model's answers to the evaluation rows, as histograms and a sample.

Histogram edges are quantiles, so that every bin of a continuous feature holds the same share: the choice under which a
chi-square test on bins has power everywhere. Edges that coincide (discrete features) leave empty bins, which is harmless.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shipworthy.protocols import Array
from shipworthy.settings import WatchSettings

# Above this many numbers a row (an image), rows are summarised: a histogram a pixel would be larger than the model.
MOST_FEATURES = 1024
# Free text is no category: its rarer values would only make the bundle large.
MOST_TEXTS = 1000
# The sample is float32; NaN is not below it either.
LARGEST = float(np.finfo(np.float32).max)


def run(inputs: Mapping[str, Array], outputs: Mapping[str, Array], settings: WatchSettings) -> bytes:
    """The baseline as the bytes of an .npz file; the same rows always give the same bytes.

    For every input and output ``NAME`` of numbers: ``input/NAME/edges`` float64 [features, bins + 1],
    ``input/NAME/counts`` int64 [features, bins] and ``input/NAME/sample`` float32 [rows, features], each column sorted
    (what a Kolmogorov-Smirnov test needs). For texts: ``…/values``, the 1,000 most frequent, and ``…/counts``. Rows
    with NaN or infinity are left out, and so is an array that has no number, or no finite row.

    Args:
        inputs: training rows by input name, rows along the first axis.
        outputs: the shipped variant's answers by output name.
        settings: bins, and rows of the sample.
    """
    parts: dict[str, Array] = {}
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for name, array in arrays.items():
            prefix = f"{kind}/{name}"
            if array.dtype.kind in "OUS":
                parts |= {f"{prefix}/{part}": a for part, a in _texts(array).items()}
            else:
                rows = features(array)
                rows = rows[(np.abs(rows) <= LARGEST).all(axis=1)]
                if rows.size:
                    parts |= {f"{prefix}/{part}": a for part, a in _numbers(rows, settings).items()}
    target = io.BytesIO()
    np.savez_compressed(target, **parts)  # type: ignore[arg-type]
    return target.getvalue()


def features(array: Array) -> npt.NDArray[np.float64]:
    """The rows as columns of numbers, [rows, features]; of a wide row its mean, deviation, least and largest value."""
    rows = array.reshape(len(array), -1).astype(np.float64)
    if rows.shape[1] <= MOST_FEATURES:
        return rows
    return np.stack([rows.mean(axis=1), rows.std(axis=1), rows.min(axis=1), rows.max(axis=1)], axis=1)


def _texts(array: Array) -> dict[str, Array]:
    values, counts = np.unique(array.astype(str), return_counts=True)
    frequent = np.sort(np.argsort(-counts, kind="stable")[:MOST_TEXTS])
    return {"values": values[frequent], "counts": counts[frequent]}


def _numbers(rows: npt.NDArray[np.float64], settings: WatchSettings) -> dict[str, Array]:
    edges = np.quantile(rows, np.linspace(0, 1, settings.bins + 1), axis=0).T
    counts = np.stack([np.histogram(column, bins=edge)[0] for column, edge in zip(rows.T, edges, strict=True)])
    step = max(1, len(rows) // settings.reference_rows)
    sample = np.sort(rows[::step][: settings.reference_rows], axis=0).astype(np.float32)
    return {"edges": edges, "counts": counts, "sample": sample}
