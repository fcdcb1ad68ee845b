"""What the server has done and is doing, in Prometheus' text format. Pure.

``FAMILIES`` is the only list of metrics: the answer and docs/metrics.md are written from it. A series exists for every
version that is served, from the moment it is, at zero: a rate over one that is missing says nothing. No label takes a word
out of a request. Triton's names are kept beside ours, so that its dashboards and autoscalers work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from shipworthy.backends.nvml import Gpu
from shipworthy.serve.catalog import Live
from shipworthy.serve.letters import Tally
from shipworthy.serve.statistics import CANCELLED, EXPIRED, FAILED, LATE, OUTCOMES, PROTOCOLS, REFUSED, REJECTED, Statistics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Upper edges of the buckets of batches, in rows."""

Sample = tuple[str, tuple[str, ...], float]
"""What follows the family's name, the values of its own labels (of a bucket its edge, too), and the number."""


class Family(NamedTuple):
    """One metric: its type, the labels beside ``model`` and ``version`` (where it has those), and what it means."""

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str
    samples: Callable[[Any], Iterable[Sample]]


class Done(NamedTuple):
    """A version that is served, and what all workers have done with it."""

    live: Live
    statistics: Statistics


def exposition(done: Iterable[tuple[Live, Statistics]], tally: Tally, version: str, gpus: Sequence[Gpu] = ()) -> str:
    """The text.

    Args:
        done: every version that is served, and what all workers have done with it.
        tally: the processes.
        version: of this server.
        gpus: those of the machine; without one their families are left out.
    """
    each = [Done(*one) for one in done]
    ours = [((str(one.live.name), str(one.live.version)), one) for one in each]
    lines: list[str] = []
    for family in MODEL_FAMILIES:
        _write(lines, family, ("model", "version", *family.labels), ours)
    for family in SERVER_FAMILIES:
        _write(lines, family, family.labels, [((), (tally, version))])
    for family in GPU_FAMILIES if gpus else ():
        _write(lines, family, ("gpu_uuid",), [((one.uuid,), one) for one in gpus])
    return "\n".join(lines) + "\n"


def _write(lines: list[str], family: Family, labels: Sequence[str], subjects: Iterable[tuple[tuple[str, ...], Any]]) -> None:
    lines.append(f"# HELP {family.name} {family.about}")
    lines.append(f"# TYPE {family.name} {family.kind}")
    for which, subject in subjects:
        for suffix, values, number in family.samples(subject):
            names = (*labels, "le") if suffix == "_bucket" else labels
            pairs = [f'{name}="{_escaped(value)}"' for name, value in zip(names, (*which, *values), strict=True)]
            braces = "{" + ",".join(pairs) + "}" if pairs else ""
            lines.append(f"{family.name}{suffix}{braces} {number!r}")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _one(value: Callable[[Statistics], float]) -> Callable[[Done], Iterable[Sample]]:
    """The only sample of a version."""
    return lambda done: [("", (), value(done.statistics))]


def _reasons(**outcomes: tuple[int, ...]) -> Callable[[Done], Iterable[Sample]]:
    """A sample for each reason: requests that ended in one of its outcomes."""
    return lambda done: [("", (why,), sum(map(done.statistics.count, of))) for why, of in outcomes.items()]


def _requests(done: Done) -> Iterator[Sample]:
    for at, number in enumerate(done.statistics.requests):
        outcome, protocol = divmod(at, len(PROTOCOLS))
        yield "", (PROTOCOLS[protocol], OUTCOMES[outcome]), number


def _times(counts: str, total_ns: str) -> Callable[[Done], Iterable[Sample]]:
    """A histogram of times, in seconds."""

    def samples(done: Done) -> Iterable[Sample]:
        of = done.statistics
        return _histogram([edge / 1e9 for edge in of.edges_ns], getattr(of, counts), getattr(of, total_ns) / 1e9)

    return samples


def _batches(done: Done) -> Iterable[Sample]:
    counts = [0] * (len(SIZES) + 1)
    for rows, (runs, _) in done.statistics.batches.items():
        counts[sum(size < rows for size in SIZES)] += runs
    return _histogram(SIZES, counts, done.statistics.rows)


def _histogram(edges: Sequence[float], counts: Sequence[int], total: float) -> Iterator[Sample]:
    """A histogram; ``counts`` has one more than there are edges, for what lies above."""
    seen = 0
    for edge, count in zip(edges, counts, strict=False):
        seen += count
        yield "_bucket", (repr(float(edge)),), seen
    seen += counts[-1]
    yield "_bucket", ("+Inf",), seen
    yield "_sum", (), total
    yield "_count", (), seen


def _info(done: Done) -> Iterable[Sample]:
    target = done.live.target
    return [("", (done.live.bundle, target.runtime, target.device), 1)]


_ANSWERED = "of the requests that were answered."

MODEL_FAMILIES = (
    Family(
        "shipworthy_requests_total",
        "counter",
        ("protocol", "outcome"),
        "Requests that have ended. refused: the caller's mistake; failed: ours; rejected: too much waited; late: its answer "
        "would have come too late; expired: its time passed while it waited; cancelled: its caller had gone.",
        _requests,
    ),
    Family(
        "shipworthy_request_duration_seconds",
        "histogram",
        (),
        f"From the whole request to its answer, {_ANSWERED}",
        _times("whole_counts", "successes_ns"),
    ),
    Family(
        "shipworthy_queue_duration_seconds",
        "histogram",
        (),
        f"From the queue to the run, {_ANSWERED}",
        _times("queue_counts", "queue_ns"),
    ),
    Family(
        "shipworthy_compute_duration_seconds",
        "histogram",
        (),
        f"Time of the run that answered, {_ANSWERED}",
        _times("compute_counts", "compute_ns"),
    ),
    Family("shipworthy_batch_rows", "histogram", (), "Rows of each run of the model.", _batches),
    Family("shipworthy_rows_total", "counter", (), "Rows that the model was run over.", _one(lambda of: of.rows)),
    Family(
        "shipworthy_rejected_total",
        "counter",
        ("reason",),
        "Requests that were not run because of load: the queue was full, the answer would have come too late, the time passed "
        "while they waited, the caller had gone.",
        _reasons(queue_full=(REJECTED,), late=(LATE,), timeout=(EXPIRED,), cancelled=(CANCELLED,)),
    ),
    Family("shipworthy_in_flight_requests", "gauge", (), "Requests that wait or are run.", _one(lambda of: of.in_flight)),
    Family("shipworthy_waiting_rows", "gauge", (), "Rows that no run has taken yet.", _one(lambda of: of.waiting_rows)),
    Family(
        "shipworthy_load_seconds",
        "gauge",
        (),
        "What loading, warming up and measuring took, in the slowest worker.",
        _one(lambda of: of.load_ns / 1e9),
    ),
    Family(
        "shipworthy_model_memory_bytes",
        "gauge",
        (),
        "What a worker grew by when it loaded the model, at least its files; 0 where memory_mb sets no limit.",
        lambda of: [("", (), of.live.memory_bytes)],
    ),
    Family("shipworthy_model_info", "gauge", ("bundle", "runtime", "device"), "1; what is served, and where it runs.", _info),
    Family("nv_inference_request_success", "counter", (), "Requests that were answered.", _one(lambda of: of.successes)),
    Family(
        "nv_inference_request_failure",
        "counter",
        ("reason",),
        "Requests that were not answered.",
        _reasons(REJECTED=(REJECTED, LATE, EXPIRED), CANCELED=(CANCELLED,), BACKEND=(FAILED,), OTHER=(REFUSED,)),
    ),
    Family("nv_inference_count", "counter", (), "Rows that the model was run over.", _one(lambda of: of.rows)),
    Family(
        "nv_inference_exec_count",
        "counter",
        (),
        "Runs of the model.",
        _one(lambda of: sum(runs for runs, _ in of.batches.values())),
    ),
    Family(
        "nv_inference_request_duration_us",
        "counter",
        (),
        f"Sum of the whole times {_ANSWERED}",
        _one(lambda of: of.successes_ns // 1000),
    ),
    Family(
        "nv_inference_queue_duration_us", "counter", (), f"Sum of the waits {_ANSWERED}", _one(lambda of: of.queue_ns // 1000)
    ),
    Family("nv_inference_compute_input_duration_us", "counter", (), "0: it is not timed apart.", _one(lambda _: 0)),
    Family(
        "nv_inference_compute_infer_duration_us",
        "counter",
        (),
        f"Sum of the runs' times {_ANSWERED}",
        _one(lambda of: of.compute_ns // 1000),
    ),
    Family("nv_inference_compute_output_duration_us", "counter", (), "0: it is not timed apart.", _one(lambda _: 0)),
    Family(
        "nv_inference_pending_request_count", "gauge", (), "Requests that no run has taken yet.", _one(lambda of: of.waiting)
    ),
)
"""Metrics of each version that is served; their subject is a ``Done``."""

SERVER_FAMILIES = (
    Family("shipworthy_info", "gauge", ("release",), "1; the release of the server.", lambda of: [("", (of[1],), 1)]),
    Family("shipworthy_workers", "gauge", (), "Workers that answer requests.", lambda of: [("", (), of[0].workers)]),
    Family(
        "shipworthy_worker_restarts_total",
        "counter",
        (),
        "Workers that ended unasked and were replaced.",
        lambda of: [("", (), of[0].restarts)],
    ),
    Family(
        "shipworthy_models_loaded_on_demand_total",
        "counter",
        (),
        "Models that were loaded because somebody asked for them.",
        lambda of: [("", (), of[0].loaded)],
    ),
    Family(
        "shipworthy_models_evicted_total",
        "counter",
        (),
        "Models that were put to rest because others needed the memory.",
        lambda of: [("", (), of[0].evicted)],
    ),
    Family(
        "shipworthy_cpu_seconds_total",
        "counter",
        ("process",),
        "CPU time of the supervisor and of all workers, those included that have ended.",
        # A sum in another order may be less in its last bit, and a counter that falls has begun anew.
        lambda of: [("", (kind,), round(used.cpu_seconds, 3)) for kind, used in of[0].usage.items()],
    ),
    Family(
        "shipworthy_resident_memory_bytes",
        "gauge",
        ("process",),
        "Resident memory of the supervisor and of all workers; what processes share counts for each.",
        lambda of: [("", (kind,), used.resident_bytes) for kind, used in of[0].usage.items()],
    ),
)
"""Metrics of the server; their subject is the tally and the server's version."""


def _gpu(name: str, triton: str, about: str, field: str) -> tuple[Family, ...]:
    """A gauge of each GPU that tells it, under our name and, where there is one, under Triton's."""

    def samples(one: Gpu) -> Iterable[Sample]:
        value = getattr(one, field)
        return [] if value is None else [("", (), value)]

    return tuple(Family(each, "gauge", (), about, samples) for each in (name, triton) if each)


GPU_FAMILIES = (
    *_gpu(
        "shipworthy_gpu_utilization_ratio",
        "nv_gpu_utilization",
        "Share of the last moments in which the GPU was busy, 0 to 1.",
        "utilization",
    ),
    *_gpu("shipworthy_gpu_memory_used_bytes", "nv_gpu_memory_used_bytes", "Memory of the GPU in use.", "memory_used_bytes"),
    *_gpu("shipworthy_gpu_memory_total_bytes", "nv_gpu_memory_total_bytes", "Memory of the GPU.", "memory_total_bytes"),
    *_gpu("shipworthy_gpu_power_watts", "nv_gpu_power_usage", "Power that the GPU takes, in watts.", "power_watts"),
    *_gpu(
        "shipworthy_gpu_power_limit_watts", "nv_gpu_power_limit", "Power that the GPU may take, in watts.", "power_limit_watts"
    ),
    *_gpu("shipworthy_gpu_temperature_celsius", "", "Temperature of the GPU's chip.", "temperature_celsius"),
)
"""Metrics of each GPU of the machine; their subject is a ``Gpu``."""

FAMILIES = (*MODEL_FAMILIES, *SERVER_FAMILIES, *GPU_FAMILIES)
