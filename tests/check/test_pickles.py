"""What pickles call is listed as the loaders would call it, without loading: of real models, and of those that hide it."""

from __future__ import annotations

import collections
import copyreg
import functools
import io
import os
import pickle
import warnings

import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators

from shipworthy.check import unpacked
from shipworthy.check.callables import judge
from shipworthy.check.pickles import Opaque, names

WRITERS = {
    "joblib": joblib.dump,
    "joblib, protocol 2": lambda model, path: joblib.dump(model, path, protocol=2),
    **{
        packed: lambda model, path, packed=packed: joblib.dump(model, path, compress=(packed, 1))
        for packed in ("zlib", "gzip", "bz2", "xz", "lzma")
    },
    **{
        f"pickle {protocol}": lambda model, path, protocol=protocol: path.write_bytes(pickle.dumps(model, protocol))
        for protocol in range(6)
    },
}
ROWS = np.random.default_rng(0).normal(size=(40, 4))


def models():
    labels = np.arange(40) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, np.array(["a", "b", "c"])[labels])
        yield RandomForestClassifier(3, random_state=np.random.RandomState(0)).fit(ROWS, labels)
        yield MLPClassifier((3,), max_iter=2).fit(ROWS, labels)
        yield CountVectorizer().fit(["one two", "two three"])


@pytest.mark.parametrize("write", WRITERS)
def test_real_models_are_followed_to_their_end_and_call_what_is_known(tmp_path, write):
    for model in models():
        WRITERS[write](model, tmp_path / "m.joblib")
        found = unpacked.of_scikit_learn(tmp_path / "m.joblib")
        assert found.opaque == []
        assert found.names
        assert {judge(*name) for name in found.names} == {"known"}


@pytest.mark.long
@pytest.mark.slow
def test_every_estimator_of_scikit_learn(tmp_path):
    path, count = tmp_path / "m.joblib", 0
    for _, kind in all_estimators():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = kind().fit(np.abs(ROWS), np.arange(40) % 3)
            joblib.dump(model, path)
        except Exception:  # noqa: BLE001, S112  it wants other rows, or is made of others
            continue
        found = unpacked.of_scikit_learn(path)
        assert (found.opaque, [name for name in found.names if judge(*name) == "dangerous"]) == ([], []), kind
        count += 1
    assert count > 120


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
def test_what_is_called_is_listed_in_every_protocol(protocol):
    found = set()
    names(io.BytesIO(pickle.dumps([1, {"a": Call(os.system, "true")}], protocol)), found, 10**6)
    assert found == {("posix", "system")}
    assert judge("posix", "system") == "dangerous"


def listed(content: bytes, pickles: int = 1):
    found: set[tuple[str, str]] = set()
    names(io.BytesIO(content), found, 10**7, pickles)
    return found


def opaque(content: bytes, says: str):
    with pytest.raises(Opaque) as caught:
        listed(content)
    assert says in str(caught.value)


GLOBAL = b"\x80\x04\x8c\x02os\x8c\x06system\x93"


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93.",
        b"\x80\x04\x8c\x06system\x8c\x02os\x9400h\x00\x8c\x06system\x93.",
        GLOBAL + b".",
        b"(ios\nsystem\n.",
        b"(cos\nsystem\no.",
    ],
    ids=["memo", "popped", "direct", "INST", "OBJ"],
)
def test_names_are_followed_over_stack_and_memo(content):
    (found,) = listed(content)
    assert found[0] == "os"


def test_names_that_cannot_be_told_are_said():
    opaque(b"\x80\x04cbuiltins\nstr\n\x8c\x02os\x85R\x8c\x06system\x93.", "a text that it makes while it is loaded")
    opaque(b"\x80\x02\x82\x01.", "extension registry")
    opaque(GLOBAL, "breaks off at byte")
    opaque(b"\x80\x04h\x07.", "damaged")
    opaque(b"\x80\x04\xff.", "no opcode")
    opaque(b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f", "are said to be one text")
    opaque(b"\x80\x04\x8e" + b"\x00" * 4 + b"\x01" + b"\x00" * 3 + b"x", "breaks off")
    opaque(b"\x80\x02ctorch.storage\n_load_from_bytes\n.", "loads a second pickle")
    opaque(b"\x80\x02ccollections\nCounter\n}b.", "changes collections.Counter itself")


def test_calls_of_what_a_call_gave_are_not_followed():
    """By them a pickle reaches a class that the reader takes for nothing, as the wrapper of joblib's arrays."""
    opaque(b"\x80\x02coperator\nitemgetter\nK\x00\x85R(cbuiltins\nint\nl\x85R.", "made by another call")
    opaque(pickle.dumps(Call(functools.partial, int))[:-1] + b")R.", "made by another call")


WRAPPER = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n"
DTYPE = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R"
STATE = b"}(X\x05\x00\x00\x00shapeK\x05\x85X\x05\x00\x00\x00dtype" + DTYPE + b"ub"


def test_bytes_of_arrays_are_skipped_however_the_wrapper_is_made():
    hidden = b"cos\nsy"[:5]
    for made in (
        WRAPPER + b")\x81",
        WRAPPER + b")R",
        b"(" + WRAPPER + b"o",
        b"(ijoblib.numpy_pickle\nNumpyArrayWrapper\n",
        b"ccopyreg\n_reconstructor\n" + WRAPPER + b"cbuiltins\nobject\nN\x87R",
        b"ccopy_reg\n__newobj__\n" + WRAPPER + b"\x85R",
    ):
        found = listed(b"\x80\x02" + made + STATE + hidden + GLOBAL[2:] + b".")
        assert ("os", "system") in found, made


def test_sizes_of_arrays_that_cannot_be_told_are_said():
    begin = b"\x80\x02" + WRAPPER + b")\x81"
    opaque(begin + b"}b", "size of an array")
    opaque(begin + b"}(X\x05\x00\x00\x00shapeK\x05\x85ub", "type of an array")
    many = b"".join(b"X\x04\x00\x00\x00" + f"{n:04}".encode() + b"N" for n in range(100))
    opaque(begin + b"}(" + many + STATE[2:] + b"abcde.", "size of an array")
    text = b"cbuiltins\nstr\nX\x05\x00\x00\x00shape\x85RK\x05\x85"
    opaque(begin + b"}(" + text + STATE[2:] + b"abcde.", "size of an array")
    negative = STATE.replace(b"K\x05\x85", b"J\xff\xff\xff\xff\x85")
    opaque(begin + negative + b".", "below zero")
    opaque(b"\x80\x04\x95\xff\x00\x00\x00\x00\x00\x00\x00" + begin[2:] + STATE + b"abcde.", "within a frame")


def test_arrays_of_records_and_of_objects(tmp_path):
    records = np.zeros(7, dtype=[("a", "i4"), ("b", [("c", "f8", (2,)), ("d", "S3")])])
    objects = np.array([{"x": collections.OrderedDict(a=1)}, None, np.ones(3)], dtype=object)
    joblib.dump([records, objects, np.array("2026-01-01", "M8[D]"), np.ones((3, 0))], tmp_path / "m.joblib")
    found = unpacked.of_scikit_learn(tmp_path / "m.joblib")
    assert found.opaque == []
    assert ("collections", "OrderedDict") in found.names


def test_what_unpacks_without_end_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked, "MOST_BYTES", 10_000_000)
    for packed in ("zlib", "gzip", "xz"):
        joblib.dump(bytes(20_000_000), tmp_path / "m.joblib", compress=(packed, 9))
        (said,) = unpacked.of_scikit_learn(tmp_path / "m.joblib").opaque
        assert "unpacks to more than" in said


@pytest.mark.parametrize(
    ("module", "name", "verdict"),
    [
        ("sklearn.pipeline", "Pipeline", "known"),
        ("numpy._core.multiarray", "_reconstruct", "known"),
        ("numpy", "float32", "known"),
        ("torch._utils", "_rebuild_tensor_v2", "known"),
        ("torch", "FloatStorage", "known"),
        ("collections", "OrderedDict", "known"),
        ("builtins", "set", "known"),
        ("__builtin__", "set", "known"),
        ("copy_reg", "_reconstructor", "known"),
        ("my_project.models", "Net", "unknown"),
        ("__main__", "Net", "unknown"),
        ("numpy", "log1p", "unknown"),
        ("os", "system", "dangerous"),
        ("posix", "system", "dangerous"),
        ("nt", "system", "dangerous"),
        ("commands", "getoutput", "dangerous"),
        ("__builtin__", "execfile", "dangerous"),
        ("subprocess", "Popen", "dangerous"),
        ("builtins", "exec", "dangerous"),
        ("builtins", "eval", "dangerous"),
        ("builtins", "getattr", "dangerous"),
        ("builtins", "__import__", "dangerous"),
        ("builtins", "open", "dangerous"),
        ("socket", "create_connection", "dangerous"),
        ("shutil", "rmtree", "dangerous"),
        ("runpy", "run_path", "dangerous"),
        ("pty", "spawn", "dangerous"),
        ("importlib", "import_module", "dangerous"),
        ("timeit", "timeit", "dangerous"),
        ("pydoc", "pipepager", "dangerous"),
        ("operator", "attrgetter", "dangerous"),
        ("pathlib", "Path.touch", "dangerous"),
        ("collections", "abc.sys.modules", "dangerous"),
        ("types", "CodeType", "dangerous"),
        ("marshal", "loads", "dangerous"),
        ("pickle", "loads", "dangerous"),
        ("cloudpickle.cloudpickle", "_make_function", "dangerous"),
        ("joblib", "load", "dangerous"),
        ("joblib.parallel", "os.system", "dangerous"),
        ("my_project", "os.system", "dangerous"),
        ("my_project", "x.__globals__", "dangerous"),
        ("torch", "load", "dangerous"),
        ("torch.hub", "load", "dangerous"),
        ("torch.utils.collect_env", "run", "dangerous"),
        ("torch.fx.graph_module", "reduce_graph_module", "dangerous"),
        ("numpy.testing._private.utils", "runstring", "dangerous"),
        ("numpy.f2py.crackfortran", "_eval_length", "dangerous"),
        ("numpy", "load", "dangerous"),
        ("numpy", "memmap", "dangerous"),
        ("pandas.io.pickle", "read_pickle", "dangerous"),
        ("sklearn.utils.fixes", "os.system", "dangerous"),
        ("joblib.memory", "Memory", "dangerous"),
    ],
)
def test_verdicts(module, name, verdict):
    assert judge(module, name) == verdict


def test_reconstructors_of_old_objects_are_known():
    assert copyreg._reconstructor.__module__ == "copyreg"
    assert judge("copyreg", "_reconstructor") == "known"
