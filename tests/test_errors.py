"""The two families: exit codes, statuses, the text, and the way through a pickle."""

from __future__ import annotations

import json
import pickle

import pytest

from shipworthy import errors
from shipworthy.errors import Conflict, Failed, NotFound, Refused, ShipworthyError

KINDS = [
    one
    for one in vars(errors).values()
    if isinstance(one, type) and issubclass(one, ShipworthyError) and one is not ShipworthyError
]


@pytest.mark.parametrize(
    ("kind", "exit_code", "status"), [(Refused, 2, 400), (NotFound, 2, 404), (Conflict, 2, 409), (Failed, 3, 500)]
)
def test_who_must_act_is_on_the_class(kind, exit_code, status):
    assert (kind.exit_code, kind.http_status) == (exit_code, status)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_of_one_family(kind):
    assert issubclass(kind, Refused) != issubclass(kind, Failed)
    assert kind.exit_code == (2 if issubclass(kind, Refused) else 3)
    assert kind.http_status // 100 == (4 if issubclass(kind, Refused) else 5)


def test_the_text_has_only_the_parts_that_are_filled():
    assert str(Refused("no")) == "no"
    assert str(Refused("no", found="1", next="go")) == "no\n  found:    1\n  do next:  go"
    assert str(Failed("no", expected="2")) == "no\n  expected: 2"


def test_plain_parts():
    assert Refused("no", expected="2").as_dict() == {"error": "no", "expected": "2"}
    assert Refused("no", found="1", expected="2", next="go").as_dict() == {
        "error": "no",
        "found": "1",
        "expected": "2",
        "next": "go",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_errors_pass_between_processes(kind):
    error = kind("no", found="1", next="go")
    twin = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(twin) is kind
    assert (str(twin), twin.as_dict()) == (str(error), error.as_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_errors_pass_between_processes_as_data_too_as_one_of_their_family(kind):
    error = kind("no", found="1", next="go")
    twin = errors.from_plain(json.loads(json.dumps(errors.to_plain(error))))
    assert type(twin) is (Failed if issubclass(kind, Failed) else Refused)
    assert twin.as_dict() == error.as_dict()
