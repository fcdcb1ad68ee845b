"""The sections of shipworthy.toml as frozen records: the only list of options. Every number carries its unit in its name."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shipworthy.records import RUNTIMES, Device, Runtime, Target
from shipworthy.targets import KINDS, Kind

Percent = Annotated[float, Meta(ge=0, le=100)]
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0, le=1e9)]


def about(text: str) -> Meta:
    """What an option is for: read by ``init``, the help texts and the reference page."""
    return Meta(description=text)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections."""


class ModelSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[model]: the trained file."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"), about("what releases are called")]
    path: Annotated[
        str,
        about(
            "the trained file, relative to this file: .onnx, scikit-learn's .joblib, .pkl or .skops, XGBoost's .ubj or .json, "
            "LightGBM's .txt, PyTorch's .pt2 or .safetensors, Keras' .keras or .h5, or the folder of a SavedModel"
        ),
    ]
    train: Annotated[str, about("the script that makes the trained file; run only when that is missing")] = ""
    factory: Annotated[
        str, about("FILE.py:FUNCTION that gives the torch module whose weights a .safetensors file holds; needs trust")
    ] = ""
    trust: Annotated[
        bool,
        about(
            "allow what executes code when it loads (pickle, joblib, .pt2, a factory, a SavedModel, .h5, code in a .keras "
            "file); only for files you made yourself"
        ),
    ] = False


class DataSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[data]: .npz files with one array an input (rows along the first axis) and one for the labels."""

    evaluation: Annotated[str, about("rows with labels that no training step has seen; accuracy is measured on them")] = ""
    calibration: Annotated[str, about("rows from training that set the ranges of INT8; no labels needed")] = ""
    baseline: Annotated[str, about("rows of training that live traffic is compared with, for drift")] = ""
    labels: Annotated[str, about("the array that holds the labels")] = "y"
    inputs: Annotated[dict[str, str], about("input of the model = array in the files, where the names differ")] = {}
    prediction: Annotated[str, about("the output that is compared with the labels; empty: found by its shape and dtype")] = ""
    metric: Annotated[
        str,
        Meta(pattern=r"^(accuracy|top_[1-9]\d{0,3}|f1|auc|rmse|mae|cosine|[^:]+:[A-Za-z_]\w*)\Z"),
        about(
            "how good the answers are: accuracy, top_5 (or another number), f1 (macro), auc, rmse, mae, cosine, or a function "
            "of yours as score.py:wer or package.module:wer, which needs trust = true under [model]"
        ),
    ] = "accuracy"


class SilenceSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[check.silence]]: a finding of check to live with; it is still told, with the reason, and stops nothing."""

    law: Annotated[str, about("the law that found it, as format.opset, or a whole area, as format")]
    place: Annotated[
        str, about("where: the finding's place, or a pattern of it, in which * stands for anything; left out: everywhere")
    ] = "*"
    reason: Annotated[str, Meta(min_length=1), about("why it may be so; printed with the finding wherever that is told")]

    def __post_init__(self) -> None:
        """Refuse a reason that says nothing; msgspec makes it an error with its place in the file."""
        if not self.reason.strip():
            raise ValueError("the reason is blank: say why the finding may stay")


class CheckSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[check]: what the laws are to know beside the model."""

    environment: Annotated[
        tuple[str, ...],
        about("lists of the packages of serving: requirements.txt, pip freeze, pyproject.toml, conda.yaml, an MLflow folder"),
    ] = ()
    training_environment: Annotated[
        tuple[str, ...], about("lists of the packages of training; left out: the packages that converted the model")
    ] = ()
    silence: Annotated[
        tuple[SilenceSettings, ...], about("findings to live with: tables [[check.silence]] with law, place and reason")
    ] = ()


class GateSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[gates]: limits that a variant must meet to ship. A limit left out is no limit."""

    accuracy_percent: Annotated[Percent | None, about("at least this share of the evaluation rows is right")] = None
    accuracy_kept_percent: Annotated[Percent | None, about("at least this share of the original's accuracy is kept")] = None
    metric: Annotated[
        float | None, about("at least this metric of [data], in its own unit; at most, where less is better (rmse, mae)")
    ] = None
    metric_kept_percent: Annotated[Percent | None, about("at least this share of the original's metric is kept")] = None
    agreement_percent: Annotated[
        Percent | None, about("at least this agreement with the original's answers; needs no labels")
    ] = None
    strict: Annotated[
        bool, about("a figure's whole interval must meet its limit, not only the estimate: more rows make it narrower")
    ] = False
    p50_ms: Annotated[Positive | None, about("at most this median latency of one row")] = None
    p99_ms: Annotated[Positive | None, about("at most this 99th percentile of the latency of one row")] = None
    throughput_rps: Annotated[Positive | None, about("at least this many rows a second, batched, in one process")] = None
    memory_mb: Annotated[Positive | None, about("at most this resident memory of a process that holds only the model")] = None
    gpu_memory_mb: Annotated[
        Positive | None, about("at most this memory of the GPU for a process that holds only the model; on cuda")
    ] = None
    size_mb: Annotated[Positive | None, about("at most this size of the model's file")] = None
    compressed_mb: Annotated[Positive | None, about("at most this size of the model's file after gzip -6")] = None
    availability_percent: Annotated[
        Percent | None, about("at least this share of the requests to the released server is answered")
    ] = None


class TargetSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[targets.NAME]: where the model will run."""

    like: Annotated[
        Kind | None, about("the kind of target that it is, which says all that is left out here; left out: this machine")
    ] = None
    device: Annotated[
        Device | None, about("the kind of processor; cuda: an NVIDIA GPU; left out: that of its kind, or cpu")
    ] = None
    runtime: Annotated[
        Runtime | None,
        about(
            "what runs the model: onnxruntime on either device, tensorrt (onnxruntime's provider) on cuda, openvino on cpu; "
            "left out: that of its kind, or onnxruntime"
        ),
    ] = None
    threads: Annotated[int, Meta(ge=1, le=1024), about("threads of one call of the model")] = 1
    memory_mb: Annotated[Positive | None, about("memory budget of one process; left out: none")] = None

    def __post_init__(self) -> None:
        """Refuse a runtime that does not run on the device; msgspec makes it an error with its place in the file."""
        made = self.target("")
        if made.device not in RUNTIMES[made.runtime]:
            exist = "; ".join(f"{runtime} on {' or '.join(devices)}" for runtime, devices in RUNTIMES.items())
            raise ValueError(f"runtime {made.runtime} does not run on device {made.device}: there are {exist}")

    def target(self, name: str) -> Target:
        """The target that is described."""
        base = KINDS[self.like] if self.like else Target()
        return msgspec.structs.replace(
            base,
            name=name,
            device=self.device or base.device,
            runtime=self.runtime or base.runtime,
            threads=self.threads,
            memory_mb=self.memory_mb or base.memory_mb,
        )


Word = Literal["graph", "fp16", "bf16", "int8_dynamic", "int8_static", "openvino", "prune", "structured_prune"]


class OptimizeSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[optimize]: which variants are looked for."""

    passes: Annotated[
        tuple[Word, ...], about("passes that may be used, and openvino as another runtime on a CPU; [] ships the original")
    ] = ("graph", "int8_dynamic", "int8_static")
    budget_seconds: Annotated[Positive, about("no other variant is begun after that many seconds")] = 600.0
    fine_tune: Annotated[
        str,
        about(
            "FILE.py:FUNCTION(model, steps) that trains a torch or Keras 2 model in place, yielding after each step; to prune"
        ),
    ] = ""
    fine_tune_steps: Annotated[
        int, Meta(ge=1, le=1_000_000), about("steps of fine_tune while and after weights are pruned")
    ] = 200
    prune_initial_percent: Annotated[Percent, about("zeros among all numbers in the model when prune begins")] = 30.0
    prune_final_percent: Annotated[
        float, Meta(gt=0, lt=100), about("zeros among all numbers in the model that prune ends with")
    ] = 70.0
    prune_begin_percent: Annotated[Percent, about("share of fine_tune_steps before which prune sets nothing to zero")] = 0.0
    prune_end_percent: Annotated[
        Percent, about("share of fine_tune_steps after which all is zero that will be; the rest trains on")
    ] = 50.0
    structured_prune_percent: Annotated[
        float, Meta(gt=0, lt=100), about("channels that structured_prune takes out of every layer")
    ] = 50.0
    goal: Annotated[
        Literal["latency", "throughput", "memory", "size"], about("what the best variant is best in, among those that pass")
    ] = "latency"

    def __post_init__(self) -> None:
        """Refuse a schedule that runs backwards; msgspec makes it an error with its place in the file."""
        for first, last in (("initial", "final"), ("begin", "end")):
            low, high = (getattr(self, f"prune_{word}_percent") for word in (first, last))
            if low > high:
                raise ValueError(f"prune_{first}_percent {low:g} is more than prune_{last}_percent {high:g}")


class MeasureSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[measure]: how figures are taken."""

    processes: Annotated[int, Meta(ge=1, le=100), about("fresh processes of every variant, one after the other")] = 3
    repeats: Annotated[int, Meta(ge=1, le=1000), about("repeats in each process, taken in turn with the other variants")] = 3
    repeat_seconds: Annotated[Annotated[float, Meta(gt=0, le=60)], about("length of one repeat")] = 0.2
    batch_rows: Annotated[int, Meta(ge=1, le=65536), about("rows of one call when throughput is measured")] = 32


class ReleaseSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[release]: where releases are shown."""

    mlflow: Annotated[
        Literal["auto", "on", "off"], about("log releases to MLflow; auto: when shipworthy[mlflow] is installed")
    ] = "auto"
    mlflow_experiment: Annotated[str, Meta(min_length=1), about("the experiment that runs are logged under")] = "shipworthy"


class ServeSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[serve]: the server."""

    host: Annotated[str, about("address to listen on; other machines reach the server only on a wider one than loopback")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65535), about("port to listen on; 0: a free one")] = 8000
    grpc_port: Annotated[int, Meta(ge=0, le=65535), about("port to listen on for gRPC; 0: a free one")] = 8001
    body_limit_mb: Annotated[Positive, about("largest request body")] = 64.0
    queue_mb: Annotated[Positive, about("inputs that may wait before a model in a process; more is refused at once")] = 256.0
    max_wait_ms: Annotated[
        Annotated[float, Meta(ge=0, le=1e9)] | None,
        about(
            "longest wait for a run (two runs where those are longer); who would wait longer is refused; 0: no limit; "
            "none: 500, or eight runs where those are longer"
        ),
    ] = None
    memory_mb: Annotated[
        float, Meta(ge=0, le=1e9), about("memory of all models; those that do not fit load when asked for; 0: no limit")
    ] = 0.0
    max_connections: Annotated[
        int, Meta(ge=1, le=1_000_000), about("connections that are open at a time; one more is closed at once")
    ] = 10_000
    api_key_file: Annotated[str, about("the file of the keys that callers must have; empty: none is asked for")] = ""
    tls_cert: Annotated[str, about("the server's certificate and those that vouch for it, as PEM; empty: no TLS")] = ""
    tls_key: Annotated[str, about("the certificate's key as PEM, not encrypted")] = ""
    tls_client_ca: Annotated[
        str, about("certificates of those who vouch for clients, as PEM; empty: clients need no certificate")
    ] = ""
    workers: Annotated[
        int, Meta(ge=0, le=1024), about("processes; 0: one a core for models with short runs, one for others")
    ] = 0
    tune: Annotated[bool, about("measure a run at load, in under a second, where no evidence tells its cost")] = True
    slo_ms: Annotated[
        Positive | None, about("the limit that the latency is to keep: an exact edge of the histograms of /metrics")
    ] = None
    versions: Annotated[
        str, about("which versions of a model: latest, latest:3, all, or numbers such as 1,3; empty: what its source says")
    ] = ""
    drain_delay_seconds: Annotated[
        float, Meta(ge=0, le=3600), about("how long the server says that it is not ready, and serves on, before it stops")
    ] = 0.0
    access_log: Annotated[str, about("file of a JSON line for each request; - for standard error; empty: none")] = ""
    access_log_sample: Annotated[Share, about("share of answered requests that have a line; all others have one")] = 0.01
    otlp_endpoint: Annotated[str, about("collector of spans (OTLP over HTTP), as http://127.0.0.1:4318; empty: none")] = ""
    trace_sample: Annotated[Share, about("share of requests with a span, where their callers do not say")] = 0.01
    start_seconds: Annotated[Positive, about("how long ship waits for the server it starts")] = 30.0


class WatchSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[watch]: the baseline that live traffic will be compared with."""

    bins: Annotated[int, Meta(ge=2, le=1000), about("bins of a feature's histogram")] = 20
    reference_rows: Annotated[int, Meta(ge=10, le=1_000_000), about("rows kept for tests that need the values")] = 2000


class RolloutSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[rollout]: what happens to a release whose served answers were verified."""

    alias: Annotated[
        str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}\Z"), about("the alias that a verified release gets in the registry")
    ] = "champion"
    promote: Annotated[bool, about("move the alias; false: only register the release")] = True
