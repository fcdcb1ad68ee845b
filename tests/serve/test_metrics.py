"""/metrics: as Prometheus reads it, true over all workers, and never falling."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import signal
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.records import Target
from shipworthy.serve import metrics
from shipworthy.serve.batcher import Batcher, Plan
from shipworthy.serve.catalog import Live
from shipworthy.serve.letters import Tally
from shipworthy.serve.statistics import OUTCOMES, PROTOCOLS, REJECTED, Statistics, edges
from shipworthy.serve.usage import Usage

Start = Callable[..., AbstractContextManager[str]]
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]
INFER, PREDICT = "/v2/models/m/infer", "/v1/models/m:predict"
V2 = json.dumps({"inputs": [{"name": name, "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]} for name in "ab"]}).encode()
TFS = json.dumps({"instances": [{"a": [1, 2, 3], "b": [1, 1, 1]}]}).encode()
BAD = b'{"inputs": []}'
GAUGES = ("in_flight_requests", "waiting_rows", "pending_request_count", "workers", "resident_memory_bytes", "load_seconds")


def series(text: str) -> Series:
    """All samples; whatever Prometheus would refuse, or read otherwise than meant, fails."""
    kinds = Counter(line.split()[2] for line in text.splitlines() if line.startswith("# TYPE"))
    helps = Counter(line.split()[2] for line in text.splitlines() if line.startswith("# HELP"))
    assert kinds == helps
    assert set(kinds.values()) == {1}
    found: Series = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            # The parser gives counters the ending that Triton's names lack.
            name = sample.name if family.type != "counter" or sample.name in kinds else sample.name.removesuffix("_total")
            key = (name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    assert len(found) == sum(not line.startswith("#") for line in text.splitlines())
    return found


def of(found: Series, name: str, **labels: str) -> float:
    """The sum of the samples of that name with those labels; there is one."""
    matching = [number for (one, has), number in found.items() if one == name and labels.items() <= dict(has).items()]
    assert matching, (name, labels)
    return sum(matching)


def hold_together(found: Series, **which: str) -> None:
    """What must be true of the samples of a version at any time."""
    succeeded = of(found, "shipworthy_requests_total", outcome="success", **which)
    for name in ("request_duration_seconds", "queue_duration_seconds", "compute_duration_seconds", "batch_rows"):
        buckets = {
            float(dict(labels)["le"]): number
            for (one, labels), number in found.items()
            if one == f"shipworthy_{name}_bucket" and which.items() <= dict(labels).items()
        }
        counts = [number for _, number in sorted(buckets.items())]
        assert counts == sorted(counts)
        assert max(buckets) == float("inf")
        assert counts[-1] == of(found, f"shipworthy_{name}_count", **which)
        if name != "batch_rows":
            assert counts[-1] == succeeded
    assert of(found, "shipworthy_batch_rows_sum", **which) == of(found, "shipworthy_rows_total", **which)
    assert of(found, "shipworthy_batch_rows_count", **which) == of(found, "nv_inference_exec_count", **which)
    assert of(found, "nv_inference_request_success", **which) == succeeded
    ended = of(found, "shipworthy_requests_total", **which)
    assert of(found, "nv_inference_request_failure", **which) == ended - succeeded


# ---------------------------------------------------------------- the text


@pytest.fixture(scope="module")
def live(models: dict[str, Path]) -> Live:
    runner, done = OnnxRuntimeRunner(models["two"], Target()), Statistics()
    return Live('a "b"\\c\nd', 7, "sha256:1", runner, Batcher(runner, Plan(), done), done)


def exposed(live: Live, *done: Statistics, tally: Tally = Tally({})) -> Series:  # noqa: B008
    return series(metrics.exposition([(live, one) for one in done], tally, "1.2"))


def test_every_series_of_a_version_is_there_at_zero(live: Live) -> None:
    found = exposed(live, Statistics())
    requests = {labels: number for (name, labels), number in found.items() if name == "shipworthy_requests_total"}
    assert set(requests.values()) == {0}
    pairs = {(dict(labels)["protocol"], dict(labels)["outcome"]) for labels in requests}
    assert pairs == set(itertools.product(PROTOCOLS, OUTCOMES))
    assert {dict(labels)["model"] for labels in requests} == {live.name}, "whatever stands in a name comes back as it was"
    assert of(found, "shipworthy_model_info", bundle="sha256:1", runtime="onnxruntime", device="cpu", version="7") == 1
    names = {name for name, _ in found}
    for family in metrics.FAMILIES:
        has = {f"{family.name}{end}" for end in ("_bucket", "_sum", "_count")} if family.kind == "histogram" else {family.name}
        assert has <= names or family.labels == ("process",) or family in metrics.GPU_FAMILIES
    hold_together(found)


def test_nothing_served_is_a_valid_answer(live: Live) -> None:
    tally = Tally({}, 2, 5, {"workers": Usage(1.5, 4096), "supervisor": Usage(0.25, 1024)}, loaded=4, evicted=3)
    found = exposed(live, tally=tally)
    assert found == {
        ("shipworthy_info", (("release", "1.2"),)): 1,
        ("shipworthy_workers", ()): 2,
        ("shipworthy_worker_restarts_total", ()): 5,
        ("shipworthy_models_loaded_on_demand_total", ()): 4,
        ("shipworthy_models_evicted_total", ()): 3,
        ("shipworthy_cpu_seconds_total", (("process", "workers"),)): 1.5,
        ("shipworthy_cpu_seconds_total", (("process", "supervisor"),)): 0.25,
        ("shipworthy_resident_memory_bytes", (("process", "workers"),)): 4096,
        ("shipworthy_resident_memory_bytes", (("process", "supervisor"),)): 1024,
    }


def test_cpu_time_does_not_fall_by_the_order_of_a_sum(live: Live) -> None:
    found = [
        of(exposed(live, tally=Tally({}, usage={"workers": Usage(seconds, 0)})), "shipworthy_cpu_seconds_total")
        for seconds in (0.14, 0.02 + 0.12)
    ]
    assert 0.02 + 0.12 < 0.14
    assert found == [0.14, 0.14]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20_000_000_000), st.integers(1, 3000)), max_size=60))
@settings(deadline=None, max_examples=40)
def test_histograms_hold_what_was_counted(live: Live, asked: list[tuple[int, int, int]]) -> None:
    done = Statistics(0, edges(33.3))
    for wire, ns, rows in asked:
        done.batch(rows, ns // 4)
        done.succeeded([ns], [ns // 2], ns // 4, [wire])
        done.turned_away(REJECTED, wire)
    found = exposed(live, done)
    hold_together(found)
    for edge in (0.001, 0.0333, 0.1, 10.0):
        within = sum(ns <= edge * 1e9 for _, ns, _ in asked)
        assert of(found, "shipworthy_request_duration_seconds_bucket", le=repr(edge)) == within
        within = sum(ns // 4 <= edge * 1e9 for _, ns, _ in asked)
        assert of(found, "shipworthy_compute_duration_seconds_bucket", le=repr(edge)) == within
    for size in metrics.SIZES:
        within = sum(rows <= size for _, _, rows in asked)
        assert of(found, "shipworthy_batch_rows_bucket", le=repr(float(size))) == within
    assert of(found, "shipworthy_request_duration_seconds_sum") == pytest.approx(sum(ns for _, ns, _ in asked) / 1e9)
    assert of(found, "shipworthy_queue_duration_seconds_sum") == pytest.approx(sum(ns // 2 for _, ns, _ in asked) / 1e9)
    assert of(found, "nv_inference_request_duration_us") == sum(ns for _, ns, _ in asked) // 1000
    assert of(found, "shipworthy_rejected_total", reason="queue_full") == len(asked)
    assert of(found, "shipworthy_rejected_total") == of(found, "nv_inference_request_failure", reason="REJECTED")


# ---------------------------------------------------------------- a server


def ask(connection: http.client.HTTPConnection, path: str, body: bytes | None = None, **more: Any) -> tuple[int, bytes]:
    connection.request("GET" if body is None else "POST", path, body if not more else iter([body]), **more)
    answer = connection.getresponse()
    return answer.status, answer.read()


@contextmanager
def connected(url: str, count: int = 1) -> Iterator[list[http.client.HTTPConnection]]:
    parts = urllib.parse.urlsplit(url)
    made = [http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20) for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            one.close()


def scrape(url: str, path: str = "/metrics") -> Series:
    with connected(url) as (one,):
        status, text = ask(one, path)
    assert status == 200
    return series(text.decode())


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers() -> list[int]:
    """Those of the only server that this process has started."""
    *_, server = (one for one in children(os.getpid()) if b"serve_script" in Path(f"/proc/{one}/cmdline").read_bytes())
    return children(server)


def wait_for(what: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def never_fell(before: Series, after: Series) -> None:
    for (name, labels), number in before.items():
        if not name.endswith(GAUGES):
            assert after[name, labels] >= number, (name, labels)


def test_requests_by_every_lane_are_counted_once_over_two_workers(models: dict[str, Path], start: Start) -> None:
    with start(("m", 1, models["two"]), workers=2, slo_ms=4.2) as url:
        wait_for(lambda: len(workers()) == 2)
        stop, seen = threading.Event(), [scrape(url)]
        assert of(seen[0], "shipworthy_requests_total") == 0
        assert of(seen[0], "shipworthy_load_seconds", model="m", version="1") > 0
        assert of(seen[0], "shipworthy_model_info", bundle="digest-of-m") == 1

        def send() -> None:
            with connected(url) as (one,):
                for _ in range(40):
                    chunked = {"encode_chunked": True, "headers": {"transfer-encoding": "chunked"}}
                    assert ask(one, INFER, V2)[0] == 200
                    assert ask(one, INFER, V2, **chunked)[0] == 200
                    assert ask(one, PREDICT, TFS)[0] == 200
                    assert ask(one, PREDICT, TFS, **chunked)[0] == 200
                    assert ask(one, INFER, BAD)[0] == 400
                    assert ask(one, INFER, BAD, **chunked)[0] == 400
                    assert ask(one, PREDICT, b"{", **chunked)[0] == 400
                    assert ask(one, "/v2/models/nobody/infer", V2)[0] == 404
                    assert ask(one, "/v2/models/m/versions/9/infer", V2)[0] == 404

        def watch() -> None:
            while not stop.is_set():
                seen.append(scrape(url))

        threads = [threading.Thread(target=send) for _ in range(4)]
        watcher = threading.Thread(target=watch)
        for one in (watcher, *threads):
            one.start()
        for one in threads:
            one.join()
        stop.set()
        watcher.join()
        seen.append(scrape(url))
        assert scrape(url, "/monitoring/prometheus/metrics").keys() == seen[-1].keys()
    for before, after in itertools.pairwise(seen):
        assert before.keys() == after.keys()
        never_fell(before, after)
        hold_together(after)
    counted = {
        (dict(labels)["protocol"], dict(labels)["outcome"]): number
        for (name, labels), number in seen[-1].items()
        if name == "shipworthy_requests_total" and number
    }
    assert counted == {
        ("v2_rest", "success"): 320,
        ("tfs_rest", "success"): 320,
        ("v2_rest", "refused"): 320,
        ("tfs_rest", "refused"): 160,
    }
    assert {dict(labels).get("model", "m") for _, labels in seen[-1]} == {"m"}
    assert {dict(labels).get("version", "1") for _, labels in seen[-1]} == {"1"}
    assert of(seen[-1], "shipworthy_request_duration_seconds_bucket", le="0.0042") > 0
    assert of(seen[-1], "shipworthy_rows_total") == 640
    assert of(seen[-1], "nv_inference_request_failure", reason="OTHER") == 480
    assert of(seen[-1], "shipworthy_in_flight_requests") == of(seen[-1], "shipworthy_waiting_rows") == 0
    assert of(seen[-1], "shipworthy_workers") == 2
    assert of(seen[-1], "shipworthy_cpu_seconds_total", process="workers") > 0.05
    for kind in ("workers", "supervisor"):
        assert of(seen[-1], "shipworthy_resident_memory_bytes", process=kind) > 1e6


def test_counts_do_not_fall_when_workers_are_killed_or_replaced(models: dict[str, Path], start: Start) -> None:
    with start(("m", 1, models["two"]), workers=2) as url:
        wait_for(lambda: len(workers()) == 2)
        time.sleep(0.3)
        before = scrape(url)
        for turn, number in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL), 1):
            with connected(url, 8) as connections:
                for one in connections * 5:
                    assert ask(one, INFER, V2)[0] == 200
            counted = scrape(url)  # what was shown once is not forgotten, however soon a worker dies
            assert of(counted, "shipworthy_requests_total") == of(before, "shipworthy_requests_total") + 40
            old = workers()
            os.kill(old[0], number)
            wait_for(lambda old=old: old[0] not in workers() and len(workers()) == 2)
            after = scrape(url)
            never_fell(before, counted)
            never_fell(counted, after)
            hold_together(after)
            assert of(after, "shipworthy_requests_total") == 40 * turn
            before = after
        assert of(before, "shipworthy_worker_restarts_total") == 2, "one was asked to end"
        assert of(before, "shipworthy_in_flight_requests") == 0


def test_an_answer_that_json_cannot_hold_is_refused_and_no_success(models: dict[str, Path], start: Start) -> None:
    def body(value: int) -> bytes:
        return json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [value, 1, 1]}]}).encode()

    with start(("log", 1, models["log"]), workers=1) as url, connected(url) as (one,):
        for value, status in ((1, 200), (-1, 400), (0, 400)):
            assert ask(one, "/v2/models/log/infer", body(value))[0] == status
            assert ask(one, "/v2/models/log/infer", body(value), encode_chunked=True)[0] == status
        found = scrape(url)
        assert of(found, "shipworthy_requests_total", outcome="success") == 2
        assert of(found, "shipworthy_requests_total", outcome="refused") == 4
        assert of(found, "shipworthy_requests_total") == of(found, "shipworthy_rows_total") == 6
        assert of(found, "shipworthy_in_flight_requests") == 0
        hold_together(found)


def test_what_is_under_way_is_seen_from_beside_the_queue(models: dict[str, Path], start: Start) -> None:
    slow = json.dumps({"inputs": [{"name": "n", "shape": [1], "datatype": "INT64", "data": [150]}]}).encode()
    threads = len(os.sched_getaffinity(0))
    with start(("slow", 1, models["slow"]), workers=1, max_wait_ms=0) as url, connected(url, threads + 2) as connections:
        for one in connections:
            one.request("POST", "/v2/models/slow/infer", slow)
        time.sleep(0.3)
        began = time.monotonic()
        found = scrape(url)
        took = time.monotonic() - began
        assert of(found, "shipworthy_in_flight_requests") == threads + 2
        assert of(found, "shipworthy_waiting_rows") == of(found, "nv_inference_pending_request_count") == 2
        assert {one.getresponse().status for one in connections} == {200}
        assert took < (time.monotonic() - began) / 2
        found = scrape(url)
        assert of(found, "shipworthy_in_flight_requests") == of(found, "shipworthy_waiting_rows") == 0
        assert of(found, "shipworthy_compute_duration_seconds_sum") > took
        for one in connections:
            one.request("POST", "/v2/models/slow/infer", slow)
        wait_for(lambda: of(scrape(url), "shipworthy_in_flight_requests") == threads + 2)
        (old,) = workers()
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: workers() not in ([], [old]))
        found = scrape(url)
        assert of(found, "shipworthy_in_flight_requests") == of(found, "shipworthy_waiting_rows") == 0, "they died with it"
        assert of(found, "shipworthy_requests_total", outcome="success") == threads + 2


def test_series_end_with_their_version_and_begin_anew_with_other_files(
    tmp_path: Path, models: dict[str, Path], start: Start
) -> None:
    path = Path(shutil.copy(models["two"], tmp_path / "m.onnx"))
    with start(("m", 1, path), ("n", 1, models["two"]), workers=2) as url, connected(url) as (operator,):
        wait_for(lambda: len(workers()) == 2)
        time.sleep(0.3)

        def send() -> None:
            with connected(url, 8) as connections:
                for one in connections:
                    assert ask(one, INFER, V2)[0] == 200

        def succeeded() -> float:
            return of(scrape(url), "shipworthy_requests_total", model="m")

        send()
        assert succeeded() == 8
        old = workers()
        os.kill(old[1], signal.SIGKILL)  # what the dead have counted goes, too
        wait_for(lambda: len(workers()) == 2 and workers() != old)
        time.sleep(0.3)
        assert succeeded() == 8
        operator.close()
        assert ask(operator, "/v2/repository/models/m/load", b"")[0] == 200
        assert succeeded() == 8, "its files have not changed"
        model = onnx.load(path)
        model.graph.node[0].op_type = "Mul"
        onnx.save(model, path)
        assert ask(operator, "/v2/repository/models/m/load", b"")[0] == 200
        assert succeeded() == 0
        send()
        assert succeeded() == 8
        assert ask(operator, "/v2/repository/models/n/unload", b"")[0] == 200
        assert {dict(labels).get("model", "m") for _, labels in scrape(url)} == {"m"}
        assert ask(operator, "/v2/repository/models/m/unload", b"")[0] == 200
        assert not any(dict(labels).get("model") for _, labels in scrape(url))


def test_the_answer_says_what_it_is_and_may_be_compressed(url: str) -> None:
    with connected(url) as (one,), closing(one):
        one.request("GET", "/metrics", headers={"accept-encoding": "gzip"})
        answer = one.getresponse()
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["content-encoding"] == "gzip"
        answer.read()
        assert ask(one, "/metrics", b"x")[0] == 405
        paths = json.loads(ask(one, "/openapi.json")[1])["paths"]
        assert {"/metrics", "/monitoring/prometheus/metrics"} <= paths.keys()
