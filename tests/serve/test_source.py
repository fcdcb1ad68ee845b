"""Which versions are picked, and the source of given models."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import NotFound, Refused
from shipworthy.records import Target
from shipworthy.serve.source import Given, Policy, ServedModel


@pytest.mark.parametrize(
    ("text", "policy", "picked"),
    [
        ("latest", Policy(latest=1), [9]),
        ("latest:2", Policy(latest=2), [3, 9]),
        ("latest:20", Policy(latest=20), [1, 3, 9]),
        ("all", Policy(), [1, 3, 9]),
        ("9,1,7", Policy(listed=(1, 7, 9)), [1, 9]),
        ("3", Policy(listed=(3,)), [3]),
        ("4", Policy(listed=(4,)), []),
    ],
)
def test_a_policy_picks(text: str, policy: Policy, picked: list[int]) -> None:
    assert Policy.read(text) == policy
    assert policy.pick([9, 1, 3]) == picked


@pytest.mark.parametrize(
    "text", ["", "latest:", "latest:0", "latest:x", "1,", ",1", "-1", "1.5", "ALL", "latest:1:2", "٣", "1" * 19]
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="latest:3"):
        Policy.read(text)


@given(st.text(max_size=12))
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    with contextlib.suppress(Refused):
        assert Policy.read(text).pick([1, 2]) in ([], [1], [2], [1, 2])


def served(name: str, version: int) -> ServedModel:
    return ServedModel(name, version, Path(f"{name}-{version}.onnx"), Target())


def test_given_models_are_offered_in_order() -> None:
    source = Given([served("m", 12), served("n", 1), served("m", 3)])
    assert source.names() == ["m", "n"]
    assert source.numbers("m") == [3, 12]
    assert source.numbers("x") == []
    offer = source.find("m")
    assert [model.version for model in offer.versions] == [3, 12]
    assert (offer.name, offer.default, dict(offer.labels), offer.notes) == ("m", 12, {}, ())
    assert source.find("m", Policy(listed=(3,))).default == 3


def test_what_is_not_there_is_said() -> None:
    source = Given([served("m", 12)])
    for name, policy in (("x", None), ("m", Policy(listed=(3,)))):
        with pytest.raises(NotFound) as error:
            source.find(name, policy)
        assert error.value.expected == "one of: m version 12"
    with pytest.raises(Refused, match="'m' version 12 is named twice"):
        Given([served("m", 12), served("m", 12)])
