"""Records: round trips that lose nothing, also what a newer writer added; digests; refusals."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy import records
from shipworthy.errors import Failed, Refused

KINDS = [
    one
    for one in vars(records).values()
    if inspect.isclass(one) and issubclass(one, records.Record) and one is not records.Record
]
NAMES = st.text(min_size=1, max_size=10)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


def plain(kind: msgspec.inspect.Type, extra: bool) -> st.SearchStrategy[Any]:
    """What the JSON of a value of ``kind`` may be; with ``extra``, records hold fields that we do not know."""
    found = msgspec.inspect
    match kind:
        case found.StructType():
            fields = {f.name: plain(f.type, extra) for f in kind.fields if f.name != "unrecognised"}
            known = st.fixed_dictionaries(fields)
            if not extra:
                return known
            unknown = st.dictionaries(NAMES.filter(lambda name: name not in fields), PLAIN, max_size=2)
            return st.builds(lambda one, two: two | one, known, unknown)
        case found.UnionType():
            return st.one_of([plain(one, extra) for one in kind.types])
        case found.VarTupleType():
            return st.lists(plain(kind.item_type, extra), max_size=2)
        case found.DictType():
            return st.dictionaries(NAMES, plain(kind.value_type, extra), max_size=2)
        case found.LiteralType():
            return st.sampled_from(kind.values)
        case found.IntType():
            return st.integers(-(2**53), 2**53)
        case found.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)
        case found.BoolType():
            return st.booleans()
        case found.NoneType():
            return st.none()
        case found.StrType():
            return NAMES
        case found.AnyType():
            return PLAIN
    raise TypeError(kind)


def cases(extra: bool) -> st.SearchStrategy[tuple[type[records.Record], Any]]:
    of = {kind: plain(msgspec.inspect.type_info(kind), extra) for kind in KINDS}
    return st.sampled_from(KINDS).flatmap(lambda kind: of[kind].map(lambda data: (kind, data)))


@given(cases(extra=False))
def test_round_trip(case):
    kind, data = case
    record = records.load(kind, data)
    assert type(record) is kind
    assert records.dump(record) == data
    assert records.load(kind, records.dump(record)) == record
    assert records.decode(kind, records.encode(record)) == record


@given(cases(extra=True))
def test_fields_of_a_newer_writer_come_back_from_any_depth(case):
    kind, data = case
    before = copy.deepcopy(data)
    record = records.load(kind, data)
    assert data == before, "what was given is not changed"
    assert records.dump(record) == data
    assert records.decode(kind, records.encode(record)) == record


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (records.Step, {"name": "a", "options": {}, "unrecognised": 1}),
        (records.Step, {"name": "a", "options": {}, "unrecognised": {"b": 1}, "c": 2}),
        (records.Step, {"name": "a", "options": {"unrecognised": {"b": 1}}}),
        (records.Step, {"name": "a", "options": {}, "x": {"unrecognised": {"b": 1}}}),
        (records.Source, {"path": "", "digest": "", "framework": "", "packages": {"unrecognised": "1"}}),
    ],
)
def test_our_own_word_is_a_field_like_any_other(kind, data):
    assert records.dump(records.load(kind, data)) == data


@given(cases(extra=True))
def test_the_digest_is_of_the_content(case):
    kind, data = case
    one = records.load(kind, data)
    turned = records.load(kind, dict(reversed(data.items())))
    assert records.digest(one) == records.digest(turned) == records.digest(records.decode(kind, records.encode(one)))
    assert records.digest(records.load(kind, data | {"something else": "new"})) != records.digest(one)


def test_a_whole_number_in_a_field_of_fractions_has_the_digest_it_has_when_read_again():
    gate = records.Gate(figure="p99_ms", limit=5, unit="ms", at_least=False)
    assert records.digest(records.decode(records.Gate, records.encode(gate))) == records.digest(gate)


def test_the_text_is_canonical():
    step = records.Step(name="int8", options={"b": 1, "a": "é"})
    assert records.encode(step) == '{"name":"int8","options":{"a":"é","b":1}}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_hold_is_refused_when_written(value):
    with pytest.raises(Failed, match="finite"):
        records.encode(records.Gate(figure="p99_ms", limit=value, unit="ms", at_least=False))


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (records.Step, b"", "this is not a Step record"),
        (records.Step, b"{", "JSON"),
        (records.Step, b"\xff", "this is not a Step record"),
        (records.Step, b"[]", "got `array`"),
        (records.Step, b"null", "got `null`"),
        (records.Step, b"{}", "missing required field `name`"),
        (records.Step, b'{"name": 1}', r"got `int` - at `\$.name`"),
        (records.Step, b'{"name": "a", "options": []}', "got `array`"),
        (records.Finding, b'{"law":"a","severity":"fatal","place":"","evidence":""}', "Invalid enum value 'fatal'"),
        (records.Signature, b'{"inputs":[{"name":"a","dtype":"b","shape":["c"]}],"outputs":[]}', r"inputs\[0\].shape\[0\]"),
        (records.Step, b"[" * 100_000, "recursion"),
    ],
)
def test_what_is_no_record_is_refused(kind, text, said):
    with pytest.raises(Refused, match=said):
        records.decode(kind, text)


@given(st.sampled_from(KINDS), PLAIN)
def test_whatever_is_given_is_read_or_refused(kind, data):
    try:
        record = records.load(kind, data)
    except Refused:
        return
    assert type(record) is kind
    assert records.dump(record).items() >= data.items()


def test_records_do_not_change():
    step = records.Step(name="a")
    with pytest.raises(AttributeError, match="immutable"):
        step.name = "b"


def test_what_the_records_say_of_themselves():
    spec = records.TensorSpec(name="X", dtype="float32", shape=(None, 64))
    assert str(spec) == "X: float32 [?, 64]"
    high = records.Gate(figure="accuracy_percent", limit=99, unit="%", at_least=True)
    low = records.Gate(figure="p99_ms", limit=2.5, unit="ms", at_least=False)
    assert (str(high), str(low)) == ("accuracy_percent >= 99 %", "p99_ms <= 2.5 ms")
    yes = records.Verdict(gate=high, figure=99.5, passed=True, reason="")
    no = records.Verdict(gate=low, figure=3.0, passed=False, reason="")
    assert (bool(yes), bool(no)) == (True, False)
    assert records.Judged(variant="", variant_name="", verdicts=(yes, yes)).passed
    assert not records.Judged(variant="", variant_name="", verdicts=(yes, no)).passed


def test_the_errors_of_a_report():
    findings = tuple(
        records.Finding(law="l", severity=one, place=one, evidence="") for one in ("note", "error", "warning", "error")
    )
    report = records.Report(model="", laws=("l",), findings=findings)
    assert report.errors == (findings[1], findings[3])


@pytest.mark.parametrize(
    ("gap", "passed", "expected"),
    [(None, True, True), (0.0, True, True), (0.0, False, False), (0.01, True, False), (-0.01, True, False)],
)
def test_served_passes_only_without_a_gap(gap, passed, expected):
    gate = records.Gate(figure="f", limit=1, unit="", at_least=True)
    verdict = records.Verdict(gate=gate, figure=1.0, passed=passed, reason="")
    served = records.Served(
        bundle="", version=1, measured_accuracy_percent=None, gap_points=gap, exchanges=(), verdicts=(verdict,)
    )
    assert served.passed is expected


def test_a_figure_is_found_by_its_name():
    figure = records.Figure(name="p50_ms", unit="ms", median=1.0, low=1.0, high=1.0, samples=1, how="")
    machine = records.Machine(cpu="", isa=(), cores=1, memory_mb=1, system="", python="", packages={})
    evidence = records.Evidence(
        variant="", variant_name="", target=records.Target(), machine=machine, data="", measured_at="", figures=(figure,)
    )
    assert evidence.figure("p50_ms") is figure
    assert evidence.figure("p99_ms") is None


def test_a_report_counts_and_orders_its_findings():
    one, two, three = (
        records.Finding(law=f"{area}.x", severity=severity, place=area, evidence="")
        for area, severity in (("a", "note"), ("b", "warning"), ("a", "error"))
    )
    known, silent = (
        records.Finding(law="a.y", severity=severity, place="", evidence="", silenced="known") for severity in ("note", "error")
    )
    report = records.Report(model="m", laws=("a", "b"), findings=(known, one, silent, two, three))
    assert report.by_area == {"a": (three, one), "b": (two,)}
    assert report.silenced == (silent, known)
    assert report.errors == (three,)
    assert report.summary == "1 error, 1 warning, 1 note, 2 silenced"
    assert records.Report(model="m", laws=(), findings=(two, two)).summary == "0 errors, 2 warnings, 0 notes"
