"""TensorFlow Serving's PredictionService and ModelService."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from shipworthy.errors import Refused, ShipworthyError
from shipworthy.protocols import Array, Arrays
from shipworthy.records import TensorSpec
from shipworthy.serve import calls, fit
from shipworthy.serve.calls import Call, Unary
from shipworthy.serve.catalog import Catalog, Live
from shipworthy.serve.fleet import Fleet, Wish
from shipworthy.serve.grpc import examples, messages, tensorproto
from shipworthy.serve.grpc.edges import answered, written
from shipworthy.serve.order import Job
from shipworthy.serve.runs import Share
from shipworthy.serve.source import Policy
from shipworthy.serve.statistics import TFS_GRPC
from shipworthy.serve.tfs import DATATYPES
from shipworthy.serve.tfs_messages import SIGNATURE_NAME

_METADATA_FIELD = "signature_def"

Inputs = tuple[dict[str, Array], int]
Parse = Callable[[Any, Live], Inputs]
Answer = Callable[[Any, Live, Arrays], Any]


class Service:
    """The methods of both services over a catalog."""

    def __init__(self, catalog: Catalog, fleet: Fleet) -> None:
        self._catalog = catalog
        self._fleet = fleet

    def predict(self) -> Unary:
        """Predict: tensors in, the outputs asked for out."""
        return self._running("PredictRequest", _parse_predict, _answer_predict)

    def classify(self) -> Unary:
        """Classify: examples in, a label and a score for each class out."""
        return self._running("ClassificationRequest", _parse_classify, _answer_classify)

    def regress(self) -> Unary:
        """Regress: examples in, a number for each out."""
        return self._running("RegressionRequest", _parse_regress, _answer_regress)

    def model_metadata(self, request: Any) -> Any:
        """GetModelMetadata: the signature of a model.

        Raises:
            NotFound: there is no such model.
            Refused: another field than ``signature_def`` is asked for, or none.
        """
        live = self._find(request.model_spec)
        if list(request.metadata_field) != [_METADATA_FIELD]:
            raise Refused(
                "the metadata field does not exist",
                found=", ".join(request.metadata_field)[:200] or "none",
                expected=_METADATA_FIELD,
            )
        signatures = _new("SignatureDefMap")
        definition = signatures.signature_def[SIGNATURE_NAME]
        definition.method_name = "tensorflow/serving/predict"
        for specs, infos in ((live.signature.inputs, definition.inputs), (live.signature.outputs, definition.outputs)):
            for spec in specs:
                _describe(spec, infos[spec.name])
        answer = _new("GetModelMetadataResponse")
        _fill_spec(answer.model_spec, live, "")
        packed = answer.metadata[_METADATA_FIELD]
        packed.type_url = f"type.googleapis.com/{signatures.DESCRIPTOR.full_name}"
        packed.value = signatures.SerializeToString()
        return answer

    def model_status(self, request: Any) -> Any:
        """GetModelStatus: the version named, or all, the newest first; what is served is available, what rests not started.

        Raises:
            NotFound: there is no such model or version.
        """
        spec = request.model_spec
        named = str(spec.version.value or spec.version_label)
        state, numbers = "START", self._catalog.at_rest(spec.name, named)
        if not numbers:
            lives = [self._find(spec)] if named else self._catalog.versions(spec.name)
            state, numbers = "AVAILABLE", [live.version for live in lives]
        answer = _new("GetModelStatusResponse")
        for number in reversed(numbers):
            answer.model_version_status.add(version=number, state=state).status.SetInParent()
        return answer

    async def reload(self, request: Any) -> Any:
        """HandleReloadConfigRequest: serve the models listed, in those versions and under those labels, and no others.

        Raises:
            NotFound: a model or version is not there.
            Refused: no list of models; a path that is not where the model lies; or a model cannot be loaded.
        """
        config = request.config
        if config.WhichOneof("config") != "model_config_list":
            raise Refused("the configuration lists no models", expected="config.model_config_list")
        await self._fleet.serve([_wish(one) for one in config.model_config_list.config])
        answer = _new("ReloadConfigResponse")
        answer.status.SetInParent()
        return answer

    def _running(self, takes: str, parse: Parse, answer: Answer) -> Unary:
        """A method that runs a model: ``parse`` gives inputs and rows, ``answer`` the message out of the outputs."""
        kind = messages.load()[f"tensorflow.serving.{takes}"]

        def unary(call: Call, message: bytes) -> None:
            def refuse(error: ShipworthyError) -> None:
                calls.refuse(call, error)

            began_ns = time.monotonic_ns()
            with answered(refuse):
                request = messages.read(kind, message)
                live = self._find(request.model_spec)
                with live.statistics.until_queued(TFS_GRPC):
                    inputs, rows = parse(request, live)

                def done(outputs: Share | None, error: ShipworthyError | None) -> int | None:
                    if outputs is None:
                        refuse(error)  # type: ignore[arg-type]  # without outputs there is an error
                        return None
                    return written(lambda: call.finish(answer(request, live, outputs).SerializeToString()), refuse)

                job = Job(inputs, rows, done, call.deadline_ns, wire=TFS_GRPC, began_ns=began_ns)

                def gone() -> None:
                    job.cancelled = True

                call.on_cancel = gone
                if call.note is not None:
                    call.note.asked(live, job)
                live.submit(job)

        return unary

    def _find(self, spec: Any) -> Live:
        """The version that a ModelSpec means; version 0 is none: so clients say that they name none."""
        if spec.signature_name not in ("", SIGNATURE_NAME):
            raise Refused(f"there is no signature '{spec.signature_name[:100]}'", expected=f"'{SIGNATURE_NAME}', or none")
        return self._catalog.find(spec.name, str(spec.version.value or spec.version_label))


def _wish(config: Any) -> Wish:
    """What a ModelConfig wants; models stay where they are, so its path must end with the model's folder, if it has one."""
    if config.base_path and PurePosixPath(config.base_path).name != config.name:
        raise Refused(
            f"model '{config.name[:100]}' does not lie there",
            found=f"base_path {config.base_path[:200]}",
            expected="none, or a path that ends with the model's name",
            next="put the model into the server's repository",
        )
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice is None:
        return Wish(config.name, None, dict(config.version_labels))
    if choice == "specific" and not policy.specific.versions:
        raise Refused(f"the policy of model '{config.name[:100]}' lists no versions", expected="at least one")
    latest = policy.latest.num_versions or 1 if choice == "latest" else 0
    return Wish(config.name, Policy(latest, tuple(policy.specific.versions)), dict(config.version_labels))


def _parse_predict(request: Any, live: Live) -> Inputs:
    dtypes = {number: dtype for dtype, number in tensorproto.numbers().items()}
    shapes = {name: tensorproto.shape_of(name, proto) for name, proto in request.inputs.items()}
    entries = []
    for name, proto in request.inputs.items():
        dtype = dtypes.get(proto.dtype)
        entries.append((name, DATATYPES[dtype] if dtype else f"data type {proto.dtype}", shapes[name]))
    rows = fit.check(entries, live.signature, DATATYPES)
    fit.wanted(request.output_filter, live.signature)
    specs = live.signature.inputs
    return {s.name: tensorproto.to_array(s.name, request.inputs[s.name], s.dtype, shapes[s.name]) for s in specs}, rows


def _answer_predict(request: Any, live: Live, outputs: Arrays) -> Any:
    answer = _new("PredictResponse")
    _fill_spec(answer.model_spec, live, SIGNATURE_NAME)
    for name in fit.wanted(request.output_filter, live.signature):
        answer.outputs[name].CopyFrom(tensorproto.from_array(name, outputs[name]))
    return answer


def _parse_classify(request: Any, live: Live) -> Inputs:
    fit.scores(live.signature)
    return examples.parse(request.input, live.signature)


def _answer_classify(_request: Any, live: Live, outputs: Arrays) -> Any:
    """Labels are the texts that stand beside the scores in an output of their shape; without one they are empty."""
    scores = outputs[fit.scores(live.signature).name]
    beside = [s.name for s in live.signature.outputs if s.dtype == "str" and outputs[s.name].shape == scores.shape]
    labels = outputs[beside[0]] if beside else np.full(scores.shape, "", dtype=object)
    answer = _new("ClassificationResponse")
    _fill_spec(answer.model_spec, live, SIGNATURE_NAME)
    answer.result.SetInParent()
    for row_labels, row_scores in zip(labels.tolist(), scores.tolist(), strict=True):
        classes = answer.result.classifications.add().classes
        for label, score in zip(row_labels, row_scores, strict=True):
            classes.add(label=label, score=score)
    return answer


def _parse_regress(request: Any, live: Live) -> Inputs:
    fit.number_a_row(live.signature)
    return examples.parse(request.input, live.signature)


def _answer_regress(_request: Any, live: Live, outputs: Arrays) -> Any:
    answer = _new("RegressionResponse")
    _fill_spec(answer.model_spec, live, SIGNATURE_NAME)
    answer.result.SetInParent()
    for value in outputs[fit.number_a_row(live.signature).name].ravel().tolist():
        answer.result.regressions.add(value=value)
    return answer


def _new(name: str) -> Any:
    return messages.load()[f"tensorflow.serving.{name}"]()


def _fill_spec(spec: Any, live: Live, signature_name: str) -> None:
    spec.name, spec.version.value, spec.signature_name = live.name, live.version, signature_name


def _describe(spec: TensorSpec, info: Any) -> None:
    info.name, info.dtype = spec.name, tensorproto.numbers()[spec.dtype]
    for n in spec.shape:
        info.tensor_shape.dim.add(size=-1 if n is None else n)
