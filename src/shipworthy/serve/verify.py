"""A whole data set sent to a live server, as callers would send it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from shipworthy.data import Dataset
from shipworthy.errors import ShipworthyError
from shipworthy.protocols import Array
from shipworthy.serve.client import Client

MOST_REQUESTS = 1000


@dataclass(frozen=True)
class Sent:
    """What came back.

    ``outputs`` holds the answers by output, rows of answered requests only, in the order of the data; ``answered_rows``
    says for every row of the data whether it is among them. ``latencies_ms`` has one entry an answered request, from
    its arrays to the answer's arrays. ``failure`` is the first thing that went wrong, or empty.
    """

    outputs: dict[str, Array]
    answered_rows: npt.NDArray[np.bool_]
    requests: int
    answered: int
    latencies_ms: npt.NDArray[np.float64]
    failure: str


def rows_a_request(rows: int) -> int:
    """How many rows go into one request, so that no data set takes more than 1,000."""
    return math.ceil(rows / MOST_REQUESTS)


def send_all(url: str, name: str, version: int, data: Dataset, encoding: Literal["json", "binary"]) -> Sent:
    """Send every row, one request after another, at most 1,000 requests; what fails is counted, never raised.

    Args:
        url: the server.
        name: the model.
        version: its version.
        data: the rows.
        encoding: how tensors travel, both ways.

    Raises:
        Refused: ``url`` is not one.
    """
    step = rows_a_request(data.rows)
    answers: list[dict[str, Array]] = []
    latencies: list[float] = []
    answered_rows = np.zeros(data.rows, bool)
    failure = ""
    starts = range(0, data.rows, step)
    with Client(url) as client:
        for start in starts:
            stop = min(start + step, data.rows)
            began = time.perf_counter()
            try:
                answer = client.infer(name, version, data.take(start, stop), binary=encoding == "binary")
            except ShipworthyError as error:
                failure = failure or str(error)
                continue
            took_ms = (time.perf_counter() - began) * 1e3
            wrong = _misfit(answer, stop - start, answers[0] if answers else answer)
            if wrong:
                failure = failure or wrong
                continue
            answers.append(answer)
            latencies.append(took_ms)
            answered_rows[start:stop] = True
    outputs = {key: np.concatenate([answer[key] for answer in answers]) for key in (answers[0] if answers else ())}
    return Sent(outputs, answered_rows, len(starts), len(answers), np.array(latencies), failure)


def _misfit(answer: dict[str, Array], rows: int, first: dict[str, Array]) -> str:
    """Why the answer cannot stand beside the first one; empty when it can."""
    if answer.keys() != first.keys():
        return f"an answer has the outputs {sorted(answer)}, the first one {sorted(first)}"
    for name, array in answer.items():
        if array.shape[:1] != (rows,) or array.shape[1:] != first[name].shape[1:]:
            return f"output '{name}' has the shape {list(array.shape)} for {rows} rows"
    return ""
