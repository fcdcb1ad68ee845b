"""What a pickle names, judged: what belongs to frameworks, what no model needs, and what only its maker knows. Pure.

A pickle is a program that may call whatever it names. So of Python's standard library only plain data passes; frameworks pass
with their classes and with the functions that rebuild their objects, but not with those that load, run or open something,
nor by a path through one of their modules to another. Known ways around lists of bad names (the reports on picklescan and
ModelScan) are why the standard library is judged by a list of good ones.
"""

from __future__ import annotations

import re
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import Literal

Verdict = Literal["known", "unknown", "dangerous"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The standard library's plain data, by module; None: all of it.
PLAIN: dict[str, frozenset[str] | None] = {
    "builtins": _words("""
        bool bytearray bytes complex dict float frozenset int list object range set slice str tuple
        Ellipsis NotImplemented NoneType
    """),
    "collections": None,
    "copyreg": frozenset({"_reconstructor", "__newobj__"}),
    "datetime": None,
    "decimal": None,
    "enum": None,
    "fractions": None,
    "numbers": None,
    "uuid": None,
    "zoneinfo": None,
    "array": frozenset({"array", "_array_reconstructor"}),
    "functools": frozenset({"partial"}),
    "operator": frozenset({"itemgetter"}),
    "pathlib": _words("Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath"),
    "random": frozenset({"Random"}),
    "re": frozenset({"_compile"}),
    "types": frozenset({"SimpleNamespace"}),
    "_codecs": frozenset({"encode"}),
}
STANDARD = sys.stdlib_module_names | {"nt", "distutils", "imp"}
# Not the standard library's, and made to run, fetch or open something.
TOOLS = _words("""
    IPython aiohttp cffi cloudpickle dill fabric fsspec httpx invoke numba paramiko pexpect pip pkg_resources psutil ptyprocess
    requests setuptools sh urllib3 win32api
""")
FRAMEWORKS = _words("""
    sklearn numpy scipy pandas joblib xgboost lightgbm torch torchvision skl2onnx onnxmltools catboost
    imblearn category_encoders
""")
# What the classes of a TorchScript archive are under; they are its code members, which nothing unpickles.
TORCHSCRIPT = "__torch__"
# Parts of frameworks, and names in them, that load, compile, run or fetch.
RUNS = re.compile(
    r"(^|\.)(_?testing|tests?|conftest|f2py|distutils|ctypeslib|hub|jit|package|cpp_extension|_dynamo|_inductor|_functorch|fx"
    r"|bottleneck|collect_env|externals|memory|datasets|npyio|_npyio_impl|weave|io|numpy_pickle_compat|utils\.data"
    r"|distributed|multiprocessing)(\.|$)"
)
CALLS = re.compile(
    r"^(_?load\w*|loads|read_\w+|_?open\w*|_?exec\w*|_?eval\w*|_?run\w*|system|popen|spawn\w*|import\w*|__import__|_import\w*|fromfile"
    r"|memmap|genfromtxt|fetch\w*|download\w*|get_file|compile\w*|save\w*|dump\w*|delayed|Memory|Parallel|DataSource|Excel\w+|HDFStore)$"
)
# The functions that frameworks write into pickles to rebuild their objects; types of theirs in small letters.
REBUILDS = re.compile(
    r"numpy(\._?core)?\.multiarray\.(_reconstruct|scalar)|numpy\._?core\.(multiarray|numeric|_multiarray_umath)"
    r"\.(_reconstruct|scalar|_frombuffer)|numpy\._?core\._?ufunc_reconstruct|numpy\.(ndarray|dtype|bool_?|matrix|recarray|generic|"
    r"(u?int|float|complex|str|bytes|object|void|datetime|timedelta)\d*_?)|numpy\.ma\.core\._mareconstruct"
    r"|numpy\.random\.\w+\.__\w+_ctor|scipy\.sparse\.\w+\.\w+_(matrix|array)|sklearn\.[\w.]+\.newObj"
    r"|[\w.]+\.__pyx_unpickle_\w+|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_\w+"
    r"|torch\.(device|dtype|float\d+|bfloat16|u?int\d+|bool|qint\w+|quint\w+|complex\d+|float8_\w+|strided|\w+Storage|Size)"
    r"|torch\.serialization\._get_layout|torch\.jit\._pickle\.(build_\w+list|restore_type_tag)"
    r"|torch\.storage\.(Untyped|Typed)Storage|pandas\._libs\.[\w.]+|pandas\.core\.indexes\.base\._new_Index"
)


def judge(module: str, name: str) -> Verdict:
    """What a pickle's global is: ``dangerous`` where no model needs it, ``known`` where a framework or plain data is it."""
    # Python's own table of what things were called in Python 2: its loader follows it for old pickles.
    module, name = NAME_MAPPING.get((module, name), (module, name))
    module = IMPORT_MAPPING.get(module, module)
    top, parts = module.partition(".")[0], name.split(".")
    if top in STANDARD:
        allowed = PLAIN.get(module, frozenset())
        return "known" if (allowed is None and len(parts) == 1) or (allowed and name in allowed) else "dangerous"
    # By a path of names, a pickle reaches what a module has only imported, os among it.
    if top in TOOLS or (len(parts) > 1 and any(one in STANDARD or one.startswith("__") for one in parts)):
        return "dangerous"
    if top == TORCHSCRIPT:
        return "known"
    if top not in FRAMEWORKS:
        return "unknown"
    if len(parts) == 1 and REBUILDS.fullmatch(f"{module}.{name}"):
        return "known"
    if RUNS.search(module) or any(CALLS.fullmatch(one) for one in parts):
        return "dangerous"
    if len(parts) > 1:
        return "known" if all(one[:1].isupper() for one in parts) else "dangerous"
    return "known" if name.lstrip("_")[:1].isupper() else "unknown"
