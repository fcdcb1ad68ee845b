"""The laws hold for what we ship, and each of them is broken by an implementation that breaks it."""

# ruff: noqa: ARG002 - a double takes what the seam gives it
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from shipworthy.backends.onnxruntime import OnnxRuntimeRunner
from shipworthy.errors import Conflict, NotFound, Refused
from shipworthy.records import Promotion, Release, Target
from shipworthy.testing import laws


class DictRegistry:
    """The seam in plain lists: what the SQLite one is compared with."""

    def __init__(self):
        self.rows, self.lines, self.lock = [], [], threading.Lock()

    def add(self, name, bundle, by):
        with self.lock:
            mine = self.releases(name)
            for release in mine:
                if release.bundle == bundle:
                    return release
            self.rows.append(Release(name=name, version=len(mine) + 1, bundle=bundle, created_at="", created_by=by))
            return self.rows[-1]

    def alias(self, name, alias):
        return next((line.after for line in reversed(self.log(name)) if line.alias == alias), None)

    def get(self, name, which):
        version = int(which) if str(which).lstrip("-").isdigit() else self.alias(name, which)
        for release in self.releases(name):
            if release.version == version:
                return release
        known = {row.name for row in self.rows} | {line.alias for line in self.lines}
        raise NotFound("none", found=str(known))

    def swap(self, name, alias, *, expected, version, by, reason):
        if alias.isdigit():
            raise Refused("a number")
        with self.lock:
            before = self.alias(name, alias)
            if before != expected:
                raise Conflict("moved")
            if (version is None and before is None) or (version is not None and version > len(self.releases(name))):
                raise NotFound("none")
            line = Promotion(name=name, alias=alias, before=before, after=version, at="", by=by, reason=reason)
            self.lines.append(line)
            return line

    def log(self, name):
        return tuple(line for line in self.lines if line.name == name)

    def releases(self, name=None):
        return tuple(row for row in self.rows if name in (None, row.name))


class Numbered(DictRegistry):
    def add(self, name, bundle, by):
        release = super().add(name, bundle, by)
        return Release(name=name, version=len(self.rows), bundle=bundle, created_at="", created_by=release.created_by)


class Forgetful(DictRegistry):
    def add(self, name, bundle, by):
        self.rows.append(Release(name=name, version=len(self.releases(name)) + 1, bundle=bundle, created_at="", created_by=by))
        return self.rows[-1]


class NumbersOnly(DictRegistry):
    def get(self, name, which):
        return super().get(name, which if isinstance(which, int) else 1)


class Terse(DictRegistry):
    def get(self, name, which):
        try:
            return super().get(name, which)
        except NotFound:
            raise NotFound("none") from None


class NewestFirst(DictRegistry):
    def log(self, name):
        return super().log(name)[::-1]

    def alias(self, name, alias):
        return next((line.after for line in self.log(name) if line.alias == alias), None)

    def releases(self, name=None):
        return super().releases(name)[::-1]


class LastWriterWins(DictRegistry):
    def swap(self, name, alias, *, expected, version, by, reason):
        return super().swap(name, alias, expected=self.alias(name, alias), version=version, by=by, reason=reason)


class Dangling(DictRegistry):
    def swap(self, name, alias, *, expected, version, by, reason):
        try:
            return super().swap(name, alias, expected=expected, version=version, by=by, reason=reason)
        except NotFound:
            self.lines.append(Promotion(name=name, alias=alias, before=expected, after=version, at="", by=by, reason=reason))
            return self.lines[-1]


class KeepsAliases(DictRegistry):
    def alias(self, name, alias):
        return next((line.after for line in reversed(self.log(name)) if line.alias == alias and line.after), None)


class NumberedAliases(DictRegistry):
    def swap(self, name, alias, **rest):
        return super().swap(name, f"n{alias}", **rest)


BROKEN_REGISTRIES = [
    (laws.versions_count_up_by_name, Numbered),
    (laws.the_same_bundle_is_the_same_release, Forgetful),
    (laws.a_release_is_found_by_number_and_alias, NumbersOnly),
    (laws.what_is_unknown_names_what_is_known, Terse),
    (laws.a_swap_is_logged_and_seen, NewestFirst),
    (laws.a_late_swap_changes_nothing, LastWriterWins),
    (laws.a_swap_needs_a_version_that_exists, Dangling),
    (laws.an_alias_can_be_removed_and_made_again, KeepsAliases),
    (laws.an_alias_is_never_a_number, NumberedAliases),
    (laws.releases_are_listed_oldest_first, NewestFirst),
    (laws.one_of_many_swaps_wins, LastWriterWins),
]


@pytest.mark.parametrize("law", laws.REGISTRY, ids=lambda law: law.__name__)
def test_a_plain_registry_keeps_every_law(law):
    law(DictRegistry())


@pytest.mark.parametrize(("law", "kind"), BROKEN_REGISTRIES, ids=lambda one: one.__name__)
def test_a_registry_that_breaks_a_law_is_told(law, kind):
    with pytest.raises(AssertionError, match=r".+ "):
        law(kind())


def test_every_registry_law_has_its_breaker():
    assert [law for law, _ in BROKEN_REGISTRIES] == list(laws.REGISTRY)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two inputs, two outputs, small: doubled = 2 * x, total = x + y."""
    nodes = [helper.make_node("Add", ["x", "x"], ["doubled"]), helper.make_node("Add", ["x", "y"], ["total"])]
    tensor = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in ("x", "y", "doubled", "total")]
    graph = helper.make_graph(nodes, "sums", tensor[:2], tensor[2:])
    path = tmp_path_factory.mktemp("model") / "sums.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize("law", laws.RUNNER, ids=lambda law: law.__name__)
def test_onnxruntime_keeps_every_law(law, model):
    law(OnnxRuntimeRunner(model, Target()))


class DropsAnOutput(OnnxRuntimeRunner):
    def run(self, inputs):
        return {"total": super().run(inputs)["total"]}


class DropsARow(OnnxRuntimeRunner):
    def run(self, inputs):
        return {name: array[1:] for name, array in super().run(inputs).items()}


class Widens(OnnxRuntimeRunner):
    def run(self, inputs):
        return {name: array.astype("float64") for name, array in super().run(inputs).items()}


class Noisy(OnnxRuntimeRunner):
    calls = 0

    def run(self, inputs):
        self.calls += 1
        return {name: array + np.float32(self.calls) for name, array in super().run(inputs).items()}


class WritesIntoInputs(OnnxRuntimeRunner):
    def run(self, inputs):
        for array in inputs.values():
            array[:] = 0
        return super().run(inputs)


class FillsIn(OnnxRuntimeRunner):
    def run(self, inputs):
        return super().run({"y": inputs["x"]} | inputs if "x" in inputs else {"x": inputs["y"]} | inputs)


class OneAtATime(OnnxRuntimeRunner):
    busy = False

    def run(self, inputs):
        if self.busy:
            raise RuntimeError
        self.busy = True
        try:
            threading.Event().wait(0.05)
            return super().run(inputs)
        finally:
            self.busy = False


class NeverCloses(OnnxRuntimeRunner):
    def close(self):
        pass


class ClosesOnce(OnnxRuntimeRunner):
    def close(self):
        del self._session


BROKEN_RUNNERS = [
    (laws.every_output_is_answered_as_signed, DropsAnOutput),
    (laws.every_output_is_answered_as_signed, DropsARow),
    (laws.every_output_is_answered_as_signed, Widens),
    (laws.the_same_batch_gives_the_same_answer, Noisy),
    (laws.the_same_batch_gives_the_same_answer, WritesIntoInputs),
    (laws.what_does_not_fit_is_refused, FillsIn),
    (laws.threads_may_run_together, OneAtATime),
    (laws.closing_twice_is_fine, ClosesOnce),
    (laws.closing_twice_is_fine, NeverCloses),
]


@pytest.mark.parametrize(("law", "kind"), BROKEN_RUNNERS, ids=lambda one: one.__name__)
def test_a_runner_that_breaks_a_law_is_told(law, kind, model):
    with pytest.raises(AssertionError):
        law(kind(model, Target()))


def test_every_runner_law_has_its_breaker():
    assert {law for law, _ in BROKEN_RUNNERS} == set(laws.RUNNER)


class Copy:
    """The smallest pass there is."""

    name, options, devices = "copy", {}, ("cpu",)

    def requires(self, model, target, calibration):
        return ""

    def apply(self, model, result, calibration):
        shutil.copyfile(model, result)


class Secretive(Copy):
    options = {"made by": object()}


class Unwilling(Copy):
    def requires(self, model, target, calibration):
        return "the weather is bad"


class Renames(Copy):
    def apply(self, model, result, calibration):
        result.write_bytes(model.read_bytes().replace(b"total", b"sumup"))


class Litters(Copy):
    def apply(self, model, result, calibration):
        super().apply(model, result, calibration)
        result.with_suffix(".tmp").touch()


class Overwrites(Copy):
    def apply(self, model, result, calibration):
        super().apply(model, result, calibration)
        model.write_bytes(model.read_bytes() + b"x")


class Stamps(Copy):
    def apply(self, model, result, calibration):
        result.write_bytes(model.read_bytes() + result.name.encode())


class Lazy(Copy):
    def apply(self, model, result, calibration):
        pass


BROKEN_PASSES = [
    (laws.a_pass_describes_itself, Secretive),
    (laws.a_pass_describes_itself, Unwilling),
    (laws.a_pass_keeps_the_signature, Renames),
    (laws.a_pass_writes_only_its_result, Litters),
    (laws.a_pass_writes_only_its_result, Overwrites),
    (laws.a_pass_repeats, Stamps),
    (laws.a_pass_repeats, Lazy),
]


@pytest.fixture
def bench(model, tmp_path):
    own = tmp_path / "own.onnx"
    shutil.copyfile(model, own)
    folder = tmp_path / "folder"
    folder.mkdir()
    return laws.Bench(model=own, folder=folder)


@pytest.mark.parametrize("law", laws.PASS, ids=lambda law: law.__name__)
def test_a_plain_pass_keeps_every_law(law, bench):
    law(Copy(), bench)


@pytest.mark.parametrize(("law", "kind"), BROKEN_PASSES, ids=lambda one: one.__name__)
def test_a_pass_that_breaks_a_law_is_told(law, kind, bench):
    with pytest.raises(AssertionError):
        law(kind(), bench)


def test_every_pass_law_has_its_breaker():
    assert {law for law, _ in BROKEN_PASSES} == set(laws.PASS)


def test_importing_the_laws_loads_no_runtime():
    script = "import sys, shipworthy.testing.laws; print([m for m in ('onnx', 'onnxruntime', 'sklearn') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
