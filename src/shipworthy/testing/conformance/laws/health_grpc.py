"""The standard health service of gRPC, which Kubernetes probes, and reflection, which grpcurl needs."""

from __future__ import annotations

from collections.abc import Sequence

from shipworthy.testing.conformance.case import Answer, Broken, Call, Case, Group, NotOffered
from shipworthy.testing.conformance.grpc_messages import OK, only
from shipworthy.testing.conformance.laws.oip_grpc import ABSENT, NOT_FOUND
from shipworthy.testing.conformance.subject import Subject
from shipworthy.testing.conformance.wire import Message, field

SPEC = "gRPC health checking protocol (grpc/health/v1)"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
SERVING = 1
INFERENCE = "inference.GRPCInferenceService"


def _serving(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status in ABSENT:
        raise NotOffered(str(answers[0]))
    if only(answers[0]).number(1) != SERVING:
        raise Broken("SERVING (1) in field 1", str(answers[0]))


def _unknown(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status != NOT_FOUND:
        raise Broken("status 5 (NOT_FOUND)", str(answers[0]))


def _reflected(_subject: Subject, answers: Sequence[Answer]) -> None:
    if answers[0].status in ABSENT:
        raise NotOffered(str(answers[0]))
    if answers[0].status != OK or not answers[0].messages:
        raise Broken("status 0 (OK) and an answer", str(answers[0]))
    found = [one.text(1) for one in Message(answers[0].messages[0]).message(6).messages(1)]
    if INFERENCE not in found:
        raise Broken(f"{INFERENCE} among the services", ", ".join(found))


GROUPS = (
    Group(
        "grpc.health",
        "gRPC health",
        (
            Case("grpc.health.check", "The server as a whole is SERVING.", f"{SPEC}; Kubernetes' grpc probes", "extension",
                 lambda _: [Call(CHECK)], _serving),
            Case("grpc.health.unknown", "A service that does not exist is NOT_FOUND.", SPEC, "extension",
                 lambda _: [Call(CHECK, (field(1, "no.such.Service"),))], _unknown),
            Case("grpc.health.watch", "Watch says SERVING at once.", SPEC, "extension",
                 lambda _: [Call(WATCH, answers=1)], _serving),
        ),
        grpc=True,
    ),
    Group(
        "grpc.reflection",
        "gRPC reflection",
        (
            Case("grpc.reflection.services", "Reflection lists the inference service.", "grpc.reflection.v1alpha; grpcurl",
                 "extension", lambda _: [Call(REFLECTION, (field(7, ""),), answers=1)], _reflected),
        ),
        grpc=True,
    ),
)  # fmt: skip
