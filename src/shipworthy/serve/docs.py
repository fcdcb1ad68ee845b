"""The page at ``/docs``: the models that are served, their signatures, and calls to copy for each protocol. Pure.

One HTML text with its style inside and no script; nothing is fetched from outside. A click on an example selects all
of it. ``POLICY`` is the Content-Security-Policy that holds the page to that.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from html import escape
from string import Template
from urllib.parse import quote, urlsplit

from shipworthy.records import Signature, TensorSpec
from shipworthy.serve import openapi
from shipworthy.serve.catalog import Live
from shipworthy.serve.tensors import DATATYPES

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def page(lives: Iterable[Live], url: str, grpc: str, version: str) -> str:
    """The page.

    Args:
        lives: every version that is served, of each model last the one that answers when none is named.
        url: of this server, as the reader reached it: scheme, host and port.
        grpc: host and port of the gRPC listener; empty: there is none, and its examples are left out.
        version: of this server.
    """
    by_name: dict[str, list[Live]] = {}
    for live in lives:
        by_name.setdefault(live.name, []).append(live)
    index = "".join(f'<li><a href="#{_anchor(name)}">{escape(name)}</a></li>' for name in by_name)
    return _PAGE.substitute(
        style=_STYLE,
        version=escape(version),
        index=index,
        models="".join(_model(versions, url, grpc) for versions in by_name.values()),
    )


def _model(versions: list[Live], url: str, grpc: str) -> str:
    live = versions[-1]
    numbers = ", ".join(map(str, sorted(one.version for one in versions)))
    calls = "".join(
        f"<h3>{escape(title)}</h3>{note}<pre tabindex=0><code>{escape(code)}</code></pre>"
        for title, note, code in _calls(live, url.rstrip("/"), grpc)
    )
    bundle = f"<p class=quiet>bundle <code>{escape(live.bundle)}</code></p>" if live.bundle else ""
    return (
        f'<section id="{_anchor(live.name)}"><h2>{escape(live.name)}</h2>'
        f"<p>versions: {numbers}; a request that names none is answered by version {live.version}, shown here.</p>{bundle}"
        f"{_table(live.signature)}{calls}</section>"
    )


def _table(signature: Signature) -> str:
    rows = [("input", spec) for spec in signature.inputs] + [("output", spec) for spec in signature.outputs]
    body = "".join(
        f"<tr><td>{side}</td><td><code>{escape(spec.name)}</code></td><td>{DATATYPES[spec.dtype]}</td>"
        f"<td>{spec.dtype}</td><td><code>{_shape(spec)}</code></td></tr>"
        for side, spec in rows
    )
    return (
        "<div class=wide><table><thead><tr><th></th><th>name</th><th>datatype</th><th>numpy</th><th>shape</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div><p class=quiet>? is a free dimension; rows lie along the first axis.</p>"
    )


def _calls(live: Live, url: str, grpc: str) -> list[tuple[str, str, str]]:
    """Each call as title, a remark in HTML, and the code."""
    host = urlsplit(url).netloc
    calls = []
    if openapi.short(live.signature):
        quoted = quote(live.name, safe="")
        infer = _curl(f"{url}/v2/models/{quoted}/infer", json.dumps(openapi.oip_example(live.signature)))
        predict = _curl(f"{url}/v1/models/{quoted}:predict", json.dumps(openapi.tfs_example(live.signature)))
        calls = [("Open Inference Protocol, curl", "", infer), ("TensorFlow Serving, curl", "", predict)]
    calls.append(("Open Inference Protocol, Python, binary tensors", _pip("tritonclient[http]"), _triton(live, host, "http")))
    if grpc:
        calls.append(("Open Inference Protocol, Python, gRPC", _pip("tritonclient[grpc]"), _triton(live, grpc, "grpc")))
        calls.append(("TensorFlow Serving, Python, gRPC", _pip("ovmsclient"), _ovms(live, grpc)))
    return calls


def _curl(url: str, body: str) -> str:
    return f"curl {shlex.quote(url)} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"


def _triton(live: Live, address: str, kind: str) -> str:
    """A call with Triton's client; over HTTP and gRPC it looks the same."""
    inputs = [f'    client.InferInput({_py(spec.name)}, {_sizes(spec)}, "{DATATYPES[spec.dtype]}"),' for spec in _inputs(live)]
    filled = [f"inputs[{index}].set_data_from_numpy({_rows(spec, 'b')})" for index, spec in enumerate(_inputs(live))]
    lines = [
        "import numpy as np",
        f"import tritonclient.{kind} as client",
        "",
        f"server = client.InferenceServerClient({_py(address)})",
        "inputs = [",
        *inputs,
        "]",
        *filled,
        f"answer = server.infer({_py(live.name)}, inputs)",
        *(f"print(answer.as_numpy({_py(spec.name)}))" for spec in live.signature.outputs),
    ]
    return "\n".join(lines)


def _ovms(live: Live, address: str) -> str:
    lines = [
        "import numpy as np",
        "from ovmsclient import make_grpc_client",
        "",
        f"client = make_grpc_client({_py(address)})",
        "inputs = {",
        *(f"    {_py(spec.name)}: {_rows(spec)}," for spec in _inputs(live)),
        "}",
        f"print(client.predict(inputs, {_py(live.name)}))",
    ]
    return "\n".join(lines)


def _inputs(live: Live) -> tuple[TensorSpec, ...]:
    return live.signature.inputs


def _rows(spec: TensorSpec, prefix: str = "") -> str:
    """Python that makes one row; texts are bytes where a client wants ``prefix`` b."""
    if spec.dtype != "str":
        return f"np.zeros({_sizes(spec)}, np.{'bool_' if spec.dtype == 'bool' else spec.dtype})"
    return f'np.full({_sizes(spec)}, {prefix}"a"' + (", object)" if prefix else ")")


def _sizes(spec: TensorSpec) -> str:
    return str([1 if n is None else n for n in spec.shape])


def _shape(spec: TensorSpec) -> str:
    return "[" + ", ".join("?" if n is None else str(n) for n in spec.shape) + "]"


def _py(text: str) -> str:
    """A Python literal of the text."""
    return json.dumps(text, ensure_ascii=False)


def _pip(package: str) -> str:
    return f"<p class=quiet>needs <code>pip install '{package}'</code></p>"


def _anchor(name: str) -> str:
    return "model-" + quote(name, safe="")


_STYLE = """
:root { color-scheme: light dark; --line: #d5d9e0; --soft: #f4f6f9; --quiet: #5a6472; --link: #0b57c2; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a414d; --soft: #1e232b; --quiet: #9aa5b4; --link: #7db4ff; }
  body { background: #14181e; color: #e4e8ee; }
}
body { font: 16px/1.55 system-ui, sans-serif; max-width: 56rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1, h2 { line-height: 1.2; }
h2 { border-top: 1px solid var(--line); margin-top: 3rem; padding-top: 1.5rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.75rem 0 .4rem; }
a { color: var(--link); }
code, pre { font: 14px/1.5 ui-monospace, monospace; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .75rem 1rem; overflow-x: auto; }
pre code { user-select: all; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem 1.25rem .3rem 0; text-align: left; }
.quiet { color: var(--quiet); margin: .4rem 0; overflow-wrap: anywhere; }
"""

_PAGE = Template("""<!doctype html>
<html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width, initial-scale=1">
<title>shipworthy: models served</title><style>$style</style></head><body><main>
<h1>Models served</h1>
<p>shipworthy $version. Every route with its schemas: <a href="/openapi.json">/openapi.json</a>.
A click on an example selects all of it. The values in the examples are zeros: put your own in.</p>
<ul>$index</ul>
$models
</main></body></html>
""")
