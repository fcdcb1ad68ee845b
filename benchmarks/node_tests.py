"""Does ``shipworthy check`` accuse models that are right? Every node test that comes with the package ``onnx``, by operator.

Each model goes through all laws. An error that a law finds has to be proved by onnxruntime itself: it refuses the model or
the batch, or answers, as the law says. One that cannot be proved is a false error. ``--output`` writes the page
docs/check_operators.md.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime as ort

from shipworthy import check, machine
from shipworthy.backends.onnxruntime import DTYPES
from shipworthy.check.graph import cost
from shipworthy.errors import Refused
from shipworthy.protocols import Array
from shipworthy.records import Finding

# What a refusal of the whole model proves, by law: the words that it has then, and ours for it. The types of a model that is
# not loaded cannot be asked, and nobody could serve them.
REFUSALS = {
    "format.loads": ("", "onnxruntime does not load it"),
    "format.operators": ("is not a registered function/op", "onnxruntime says that it does not know the operator"),
    "graph.kernel": ("NOT_IMPLEMENTED", "onnxruntime says that it lacks a kernel"),
    "signature.dtype": ("", "onnxruntime does not load it"),
}


@dataclass(frozen=True)
class Outcome:
    """What the laws said of one model: the errors that are true with what proves them, those that are not, what was skipped."""

    operator: str
    name: str
    proved: dict[str, str] = field(default_factory=dict)
    false: tuple[str, ...] = ()
    unsaid: str = ""


def main() -> int:
    """Look at all, write the page, and fail where there is a false error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="the page to write (default: standard output)")
    options = parser.parse_args()
    outcomes = list(look(cases()))
    text = page(outcomes)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text)
    wrong = [one for one in outcomes if one.false]
    for one in wrong:
        print(f"{one.name}: {'; '.join(one.false)}", file=sys.stderr)
    return bool(wrong)


def cases(modules: Iterable[str] = ()) -> list[tuple[str, Any]]:
    """The operator and the test of each node test, which the package itself makes; only those of its modules that are named."""
    from onnx.backend.test.case import node  # noqa: PLC0415  (all take ten seconds)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for name in modules:
            importlib.import_module(f"{node.__name__}.{name}")
        found = [*node._NodeTestCases] if modules else node.collect_testcases(None)  # noqa: SLF001
    plain = {case.name: next(one.op_type for one in case.model.graph.node) for case in found}
    return [(plain.get(case.name.partition("_expanded")[0], plain[case.name]), case) for case in found]


def look(these: Iterable[tuple[str, Any]]) -> Iterator[Outcome]:
    """Every law on each, and a proof of each error."""
    # What folding gains is not asked here, 1,900 times.
    quick = mock.patch.multiple(cost, SECONDS=0.0, SAMPLE_SECONDS=0.0)
    with quick, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for operator, case in these:
            path = folder / "model.onnx"
            path.write_bytes(case.model.SerializeToString())
            yield judge(operator, case, path, folder / "models")


def judge(operator: str, case: Any, path: Path, models: Path) -> Outcome:
    """One model: inspected as a file, and looked at as a model where that is possible."""
    findings = list(check.inspect(check.Origin(path, Path(f"{case.name}.onnx"))).errors)
    unsaid = ""
    if not findings:
        try:
            model = check.take_in(path, "node", models)
            findings += check.run(model).errors
            Path(model.path).unlink()
        except Refused as error:
            unsaid = error.found or error.what
    proved, false = dict[str, str](), list[str]()
    for one in findings:
        if proof := prove(one, case, path):
            proved[one.law] = proof
        else:
            false.append(f"{one.law}: {one.place}: {one.evidence}")
    return Outcome(operator, case.name, proved, tuple(false), unsaid)


def prove(finding: Finding, case: Any, path: Path) -> str:
    """What onnxruntime does that makes the finding true; empty where it does nothing of the kind."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # it raises what it would print
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  the runtime has no common base for its errors
        words, proof = REFUSALS.get(finding.law, ("", ""))
        return proof if words in str(error) else ""
    values = (*session.get_inputs(), *session.get_outputs())
    if finding.law == "signature.dtype" and any(one.type not in DTYPES for one in values):
        return "what onnxruntime takes or gives is no such tensor"
    if finding.law == "signature.ends" and not (session.get_inputs() and session.get_outputs()):
        return "there is none"
    if finding.law == "signature.batch":
        return _fixed(finding, case, session)
    if finding.law == "graph.training" and _mixes(case, session):
        return "another last row changes the answer for the first"
    if finding.law == "numbers.repeats" and _by_chance(finding, case, session):
        return "five runs of one call do not answer alike"
    return ""


def _by_chance(finding: Finding, case: Any, session: ort.InferenceSession) -> bool:
    """With 0.5 for every float: the numbers of a test may switch chance off, as a ratio of 0 does."""
    inputs = _given(case, session)
    inputs = {name: np.full_like(array, 0.5) if array.dtype.kind == "f" else array for name, array in inputs.items()}
    name = finding.place.removeprefix("output ")
    # The first two runs of a Dropout with a seed are alike.
    first, *others = (session.run([name], inputs)[0] for _ in range(5))
    return not all(np.array_equal(first, one, equal_nan=first.dtype.kind == "f") for one in others)


def _fixed(finding: Finding, case: Any, session: ort.InferenceSession) -> str:
    """A tensor without dimensions, or one that onnxruntime refuses with one row more."""
    kind, _, rest = finding.place.partition(" ")
    name = rest.rpartition(": ")[0]
    values = {one.name: one for one in (session.get_inputs() if kind == "input" else session.get_outputs())}
    if not values[name].shape:
        return "it has no dimension"
    inputs = {one.name: _zeros(one, 0) for one in session.get_inputs()} | _given(case, session)
    inputs[name] = _zeros(values[name], 1)
    try:
        session.run(None, inputs)
    except Exception as error:  # noqa: BLE001  the runtime has no common base for its errors
        return "onnxruntime refuses one row more" if "Got invalid dimensions" in str(error) else ""
    return ""


def _mixes(case: Any, session: ort.InferenceSession) -> bool:
    inputs = _given(case, session)
    name = session.get_inputs()[0].name
    changed = inputs[name].copy()
    changed[-1] += 1
    first, other = (session.run(None, given)[0][0] for given in (inputs, inputs | {name: changed}))
    return not np.array_equal(first, other)


def _given(case: Any, session: ort.InferenceSession) -> dict[str, Array]:
    rows = case.data_sets[0][0] if case.data_sets else []
    arrays = [onnx.numpy_helper.to_array(one) if isinstance(one, onnx.TensorProto) else np.asarray(one) for one in rows]
    return {one.name: given for one, given in zip(session.get_inputs(), arrays, strict=False)}


def _zeros(value: ort.NodeArg, more: int) -> Array:
    shape = [size if isinstance(size, int) else 1 for size in value.shape]
    dtype = DTYPES[value.type]
    return np.zeros([shape[0] + more, *shape[1:]] if shape else [], object if dtype == "str" else dtype)


def page(outcomes: list[Outcome]) -> str:
    """The page: a table by operator, and how it was taken."""
    by: dict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        by[one.operator].append(one)
    here = machine.describe()
    laws = Counter(
        (law, proof.partition(" tensor(")[0].partition(" seq(")[0]) for one in outcomes for law, proof in one.proved.items()
    )
    false = sum(bool(one.false) for one in outcomes)
    unsaid = sum(bool(one.unsaid) for one in outcomes)
    made = f"Made by `python benchmarks/node_tests.py --output docs/check_operators.md`, {datetime.now(UTC):%Y-%m-%d}"
    counts = (
        f"{len(outcomes)} models of {len(by)} operators: **{false} with a false error**, {unsaid} refused and no law says why."
    )
    lines = [
        "# The node tests of ONNX before `shipworthy check`",
        "",
        f"{made}: onnx {onnx.__version__}, onnxruntime {ort.__version__}, {here.cpu}.",
        "",
        counts,
        "A node test is one node with fixed shapes, so most have a fixed batch, which is an error. Each error was proved:",
        "",
        "| law | proved by | models |",
        "|---|---|---:|",
        *(f"| `{law}` | {proof} | {count} |" for (law, proof), count in sorted(laws.items())),
        "",
        "A model may have several errors; one that does not travel or does not load is not looked at further.",
        "",
        "| operator | models | without error | true errors | false errors | refused, and no law says why |",
        "|---|---:|---:|---|---:|---|",
    ]
    for operator, some in sorted(by.items()):
        true = Counter(law for one in some for law in one.proved)
        clean = sum(not (one.proved or one.false or one.unsaid) for one in some)
        refused = Counter(_short(one.unsaid) for one in some if one.unsaid)
        cells = [
            operator,
            str(len(some)),
            str(clean),
            _counted(true),
            str(sum(bool(one.false) for one in some)),
            _counted(refused),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _counted(what: Counter[str]) -> str:
    return ", ".join(f"{text} {count}" for text, count in sorted(what.items()))


def _short(text: str) -> str:
    return re.sub(r"^.*failed:|/\\S+ ", "", text.rpartition(" : ")[2]).replace("|", " ")[:90]


if __name__ == "__main__":
    sys.exit(main())
