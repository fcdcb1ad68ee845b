"""The laws of the seams in ``shipworthy.protocols``: small named functions, collected in one tuple a seam.

Each raises ``AssertionError`` with one sentence that says what was broken. ``REGISTRY`` laws take a fresh, empty
registry; ``RUNNER`` laws a fresh runner (they may close it); ``PASS`` laws the pass and a ``Bench`` to try it on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shipworthy import data, files
from shipworthy.errors import Conflict, Failed, NotFound, Refused, ShipworthyError
from shipworthy.protocols import Array, Arrays, Pass, Registry, Runner
from shipworthy.records import Target

_BUNDLES = tuple(str(digit) * 64 for digit in range(3))


@dataclass(frozen=True)
class Bench:
    """What a pass is tried on: a model that it applies to, an empty folder, rows to calibrate with, a target."""

    model: Path
    folder: Path
    calibration: Arrays | None = None
    target: Target = field(default_factory=Target)


# ---------------------------------------------------------------- registry


def versions_count_up_by_name(registry: Registry) -> None:
    """Version numbers are 1, 2, 3…, each name its own."""
    first = [registry.add("a", bundle, "me").version for bundle in _BUNDLES]
    _hold(first == [1, 2, 3], f"three bundles of one name must be versions 1, 2, 3, not {first}")
    other = registry.add("b", _BUNDLES[0], "me").version
    _hold(other == 1, f"the first release of another name must be version 1, not {other}")


def the_same_bundle_is_the_same_release(registry: Registry) -> None:
    """Adding a bundle twice gives the release it already has, unchanged."""
    first = registry.add("a", _BUNDLES[0], "me")
    registry.add("a", _BUNDLES[1], "me")
    again = registry.add("a", _BUNDLES[0], "somebody else")
    _hold(again == first, f"adding the same bundle again must give {first}, not {again}")
    _hold([one.version for one in registry.releases("a")] == [1, 2], "adding the same bundle again must not make a release")


def a_release_is_found_by_number_and_alias(registry: Registry) -> None:
    """``get`` takes a number, a number as text, and an alias, and gives what ``add`` gave."""
    first, second = (registry.add("a", bundle, "me") for bundle in _BUNDLES[:2])
    registry.swap("a", "champion", expected=None, version=1, by="me", reason="")
    for which, wanted in ((1, first), ("2", second), ("champion", first)):
        found = registry.get("a", which)
        _hold(found == wanted, f"get({which!r}) must give {wanted}, not {found}")


def what_is_unknown_names_what_is_known(registry: Registry) -> None:
    """An unknown name, version or alias is ``NotFound``, and the message names those there are."""
    _raises(NotFound, partial(registry.get, "a", 1), "get on an empty registry")
    registry.add("digits", _BUNDLES[0], "me")
    registry.swap("digits", "champion", expected=None, version=1, by="me", reason="")
    _names(_raises(NotFound, partial(registry.get, "digit", 1), "get of an unknown name"), "digits")
    for which in (2, "2", 0, -1, "challenger", ""):
        error = _raises(NotFound, partial(registry.get, "digits", which), f"get of unknown {which!r}")
        _names(error, "champion")


def a_swap_is_logged_and_seen(registry: Registry) -> None:
    """A swap moves the alias and adds one line with before, after, who and why; the oldest line comes first."""
    for bundle in _BUNDLES:
        registry.add("a", bundle, "me")
    moves = [(None, 1), (1, 3), (3, 2)]
    made = [registry.swap("a", "champion", expected=b, version=v, by="me", reason=f"to {v}") for b, v in moves]
    log = registry.log("a")
    _hold(log == tuple(made), f"the log must hold what the swaps gave, oldest first: {made}, not {log}")
    said = [(line.name, line.alias, line.before, line.after, line.by, line.reason) for line in log]
    wanted = [("a", "champion", before, after, "me", f"to {after}") for before, after in moves]
    _hold(said == wanted, f"the lines must say {wanted}, not {said}")
    _hold(registry.get("a", "champion").version == moves[-1][1], "the alias must be where the last swap put it")


def a_late_swap_changes_nothing(registry: Registry) -> None:
    """Who expects the alias elsewhere gets ``Conflict``; alias and log stay."""
    for bundle in _BUNDLES[:2]:
        registry.add("a", bundle, "me")
    registry.swap("a", "champion", expected=None, version=1, by="me", reason="")
    before = registry.log("a")
    for expected, version in ((None, 2), (2, 1), (2, None)):
        _raises(
            Conflict,
            partial(registry.swap, "a", "champion", expected=expected, version=version, by="me", reason=""),
            f"swap of an alias at 1 that expects {expected}",
        )
    _hold(registry.log("a") == before, "a refused swap must not be logged")
    _hold(registry.get("a", "champion").version == 1, "a refused swap must not move the alias")


def a_swap_needs_a_version_that_exists(registry: Registry) -> None:
    """An alias never points at nothing: an unknown version is ``NotFound``; alias and log stay."""
    registry.add("a", _BUNDLES[0], "me")
    for name, version in (("a", 2), ("b", 1), ("a", None)):
        _raises(
            NotFound,
            partial(registry.swap, name, "champion", expected=None, version=version, by="me", reason=""),
            f"swap of '{name}' to version {version}",
        )
    _hold(registry.log("a") == () and registry.log("b") == (), "a refused swap must not be logged")


def an_alias_can_be_removed_and_made_again(registry: Registry) -> None:
    """Version ``None`` takes the alias away; afterwards it is not found, and ``expected=None`` holds."""
    registry.add("a", _BUNDLES[0], "me")
    registry.swap("a", "champion", expected=None, version=1, by="me", reason="")
    gone = registry.swap("a", "champion", expected=1, version=None, by="me", reason="")
    _hold((gone.before, gone.after) == (1, None), f"the line of a removal must say 1 to None, not {gone}")
    _raises(NotFound, partial(registry.get, "a", "champion"), "get of a removed alias")
    registry.swap("a", "champion", expected=None, version=1, by="me", reason="")
    _hold(registry.get("a", "champion").version == 1, "a removed alias must be usable again")


def an_alias_is_never_a_number(registry: Registry) -> None:
    """A number always means a version, so no alias may look like one."""
    registry.add("a", _BUNDLES[0], "me")
    _raises(Refused, partial(registry.swap, "a", "1", expected=None, version=1, by="me", reason=""), "swap of alias '1'")


def releases_are_listed_oldest_first(registry: Registry) -> None:
    """``releases`` gives all, or those of one name, in the order they were added; nothing of an empty registry."""
    _hold(registry.releases() == () and registry.log("a") == (), "an empty registry must list nothing")
    added = [registry.add(name, bundle, "me") for bundle in _BUNDLES for name in ("b", "a")]
    _hold(registry.releases() == tuple(added), "releases() must list all releases, oldest first")
    of_a = tuple(release for release in added if release.name == "a")
    _hold(registry.releases("a") == of_a, "releases(name) must list those of that name, oldest first")
    _hold(registry.releases("c") == (), "releases of an unknown name must be none")


def one_of_many_swaps_wins(registry: Registry) -> None:
    """Of threads that swap at once from the same place, exactly one succeeds."""
    registry.add("a", _BUNDLES[0], "me")

    def swap() -> str:
        try:
            registry.swap("a", "champion", expected=None, version=1, by="me", reason="")
        except Conflict:
            return "conflict"
        return "won"

    outcomes = sorted(map(str, _together(swap, 8)))
    _hold(outcomes == ["conflict"] * 7 + ["won"], f"one swap must win and seven meet Conflict, not {outcomes}")
    _hold(len(registry.log("a")) == 1, "only the swap that won may be logged")


REGISTRY: tuple[Callable[[Registry], None], ...] = (
    versions_count_up_by_name,
    the_same_bundle_is_the_same_release,
    a_release_is_found_by_number_and_alias,
    what_is_unknown_names_what_is_known,
    a_swap_is_logged_and_seen,
    a_late_swap_changes_nothing,
    a_swap_needs_a_version_that_exists,
    an_alias_can_be_removed_and_made_again,
    an_alias_is_never_a_number,
    releases_are_listed_oldest_first,
    one_of_many_swaps_wins,
)

# ---------------------------------------------------------------- runner


def every_output_is_answered_as_signed(runner: Runner) -> None:
    """``run`` gives every output by name, in the dtype and shape that the signature says, rows alike."""
    rows = _rows(runner)
    answers = runner.run(rows)
    asked = next(iter(rows.values())).shape[0]
    _hold(set(answers) == {s.name for s in runner.signature.outputs}, f"the answers must be all outputs, not {sorted(answers)}")
    for spec in runner.signature.outputs:
        answer = answers[spec.name]
        right = answer.dtype.kind in "OU" if spec.dtype == "str" else answer.dtype == spec.dtype
        _hold(right, f"output '{spec.name}' must be {spec.dtype}, not {answer.dtype}")
        fits = len(answer.shape) == len(spec.shape) and all(
            n in (None, m) for n, m in zip(spec.shape, answer.shape, strict=True)
        )
        _hold(fits, f"output '{spec.name}' must have the shape of '{spec}', not {list(answer.shape)}")
        if spec.shape and spec.shape[0] is None:
            _hold(answer.shape[0] == asked, f"output '{spec.name}' must have {asked} rows, not {answer.shape[0]}")


def the_same_batch_gives_the_same_answer(runner: Runner) -> None:
    """Two runs of one batch agree to the last bit, and leave the inputs as they were."""
    rows = _rows(runner)
    before = {name: array.copy() for name, array in rows.items()}
    first, second = runner.run(rows), runner.run(rows)
    _hold(_equal(first, second), "the same batch must give the same answer")
    _hold(_equal(before, rows), "run must not write into its inputs")


def what_does_not_fit_is_refused(runner: Runner) -> None:
    """A missing or unknown input, or one of another dtype or rank, is ``Refused``; the runner goes on answering."""
    rows = _rows(runner)
    name, array = next(iter(rows.items()))
    other = np.zeros(array.shape, "complex64")
    wrong: dict[str, dict[str, Array]] = {
        "a missing input": {key: value for key, value in rows.items() if key != name},
        "an unknown input": rows | {"no such input": array},
        "another dtype": rows | {name: other},
        "another rank": rows | {name: array[..., np.newaxis]},
    }
    for what, inputs in wrong.items():
        _raises(Refused, partial(runner.run, inputs), what)
    runner.run(rows)


def threads_may_run_together(runner: Runner) -> None:
    """Answers given to several threads at once are those given to one."""
    rows = _rows(runner)
    wanted = runner.run(rows)
    for answer in _together(lambda: runner.run(rows), 4):
        _hold(isinstance(answer, dict) and _equal(answer, wanted), f"a thread must get the answer of a lone call, not {answer}")


def closing_twice_is_fine(runner: Runner) -> None:
    """``close`` may be called twice; a closed runner answers ``Failed``, not something else."""
    rows = _rows(runner)
    runner.close()
    try:
        runner.close()
    except Exception as error:
        raise AssertionError(f"closing a closed runner must do nothing, not raise {type(error).__name__}: {error}") from error
    _raises(Failed, partial(runner.run, rows), "run of a closed runner")


RUNNER: tuple[Callable[[Runner], None], ...] = (
    every_output_is_answered_as_signed,
    the_same_batch_gives_the_same_answer,
    what_does_not_fit_is_refused,
    threads_may_run_together,
    closing_twice_is_fine,
)

# ---------------------------------------------------------------- pass


def a_pass_describes_itself(one: Pass, bench: Bench) -> None:
    """Name, options and devices are plain values, and the pass applies to the model of the bench."""
    _hold(bool(one.name) and bool(one.devices), "a pass must have a name and name its devices")
    try:
        msgspec.json.encode(one.options)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"the options of a pass are written as JSON: {error}") from None
    reason = one.requires(bench.model, bench.target, bench.calibration)
    _hold(reason == "", f"the pass must apply to the model of the bench, but says: {reason}")


def a_pass_keeps_the_signature(one: Pass, bench: Bench) -> None:
    """The result loads, and takes and gives what the model does."""
    from shipworthy.backends.onnxruntime import OnnxRuntimeRunner  # noqa: PLC0415 - only these laws need a runtime

    result = _apply(one, bench, "result.onnx")
    before, after = (OnnxRuntimeRunner(path, bench.target) for path in (bench.model, result))
    _hold(before.signature == after.signature, f"a pass must keep {before.signature}, not make it {after.signature}")


def a_pass_writes_only_its_result(one: Pass, bench: Bench) -> None:
    """The model is not touched, and nothing is left in the folder but the result."""
    before = files.file_digest(bench.model)
    _apply(one, bench, "result.onnx")
    _hold(files.file_digest(bench.model) == before, "a pass must not touch the model it reads")
    left = sorted(path.name for path in bench.folder.iterdir())
    _hold(left == ["result.onnx"], f"a pass must leave its result and nothing else, not {left}")


def a_pass_repeats(one: Pass, bench: Bench) -> None:
    """The same model, options and rows give the same bytes: the identity of a variant rests on that."""
    first, second = (files.file_digest(_apply(one, bench, name)) for name in ("first.onnx", "second.onnx"))
    _hold(first == second, "a pass applied twice must give the same bytes")


PASS: tuple[Callable[[Pass, Bench], None], ...] = (
    a_pass_describes_itself,
    a_pass_keeps_the_signature,
    a_pass_writes_only_its_result,
    a_pass_repeats,
)

# ---------------------------------------------------------------- helpers


def _hold(condition: bool, reason: str) -> None:  # noqa: FBT001 - the condition is what it is about
    if not condition:
        raise AssertionError(reason)


def _raises(kind: type[ShipworthyError], call: Callable[[], Any], what: str) -> ShipworthyError:
    try:
        given = call()
    except kind as error:
        return error
    except Exception as error:
        raise AssertionError(f"{what} must raise {kind.__name__}, not {type(error).__name__}: {error}") from error
    raise AssertionError(f"{what} must raise {kind.__name__}, not give {given!r}")


def _names(error: ShipworthyError, word: str) -> None:
    _hold(word in str(error), f"the message must name '{word}', which exists: {error}")


def _together(call: Callable[[], Any], threads: int) -> list[Any]:
    """What each thread got of the call, started at one moment: its result, or what it raised."""
    barrier = threading.Barrier(threads)
    results: list[Any] = []

    def work() -> None:
        barrier.wait()
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001 - handed to the law, which judges it
            results.append(error)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results


def _rows(runner: Runner) -> dict[str, Array]:
    """Rows for the runner: three, or as many as a fixed first dimension says."""
    first = runner.signature.inputs[0].shape
    return data.made_up(runner.signature, first[0] if first and first[0] else 3).inputs


def _equal(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def _apply(one: Pass, bench: Bench, name: str) -> Path:
    result = bench.folder / name
    one.apply(bench.model, result, bench.calibration)
    _hold(result.is_file(), "apply must write its result")
    return result
