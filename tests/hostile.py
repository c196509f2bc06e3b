"""Hypothesis strategies for damaged files: bytes, JSON, lines of text, headers of safetensors."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**63, 10**40, 1.5, -0.0, "", "a\0b", "\ud800", "../../etc/x", "\x1b[31m\n", "x" * 10_000),
    *([], {}, [[]], [[[]]], [[1] * 31], [[1]] * 31, [[1], [1, 2]], [[10]], [[True]], {"input": [[1]]}, {"a": {"b": {}}}),
)
TEXTS = (
    *("1e400", "NaN", "-Infinity", "1" * 5000, "[" * 2000, '{"a":' * 1200, "0x10", "'", '"', "\x00", "\ufeff", "}", "true", "1_0", "[x]"),
    *("[5,0]", "[1,1.5]", "[1,null]", "[1e400,1]", "[1,10000000000]", '"99.0.0"', '{"a":1}', '[["x"]]', "-5", "nan", "9" * 30),
)
"""Pieces of text that stand where a value should."""


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Flip, drop, double, insert or cut off a few bytes of `data`."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(changed)))
        end = min(len(changed), at + draw(st.sampled_from((1, 2, 8, 64, 4096))))
        match draw(st.sampled_from(("flip", "drop", "double", "insert", "text", "cut"))):
            case "flip" if at < len(changed):
                changed[at] ^= 1 << draw(st.integers(0, 7))
            case "drop":
                del changed[at:end]
            case "double":
                changed[at:at] = changed[at:end]
            case "insert":
                changed[at:at] = draw(st.binary(min_size=1, max_size=100))
            case "text":
                changed[at:at] = draw(st.sampled_from(TEXTS)).encode()
            case _:
                del changed[at:]
    return bytes(changed)


@st.composite
def damaged_value(draw: st.DrawFn, value: Any) -> Any:
    """Replace, drop, rename or double a few parts of a JSON value."""
    changed = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        parent, key, here = None, None, changed
        for _ in range(draw(st.integers(0, 6))):
            if not isinstance(here, dict | list) or not here:
                break
            parent, key = here, draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
            here = parent[key]
        odd = copy.deepcopy(draw(st.sampled_from(VALUES)))
        if parent is None:
            changed = odd if draw(st.integers(0, 9)) == 0 else changed
            continue
        match draw(st.sampled_from(("put", "drop", "rename", "double"))):
            case "drop":
                del parent[key]
            case "rename" if isinstance(parent, dict):
                parent[odd if isinstance(odd, str) else str(odd)[:50]] = here
            case "double":
                parent[key] = [here, here]
            case _:
                parent[key] = odd
    return changed


def damaged_json(data: bytes) -> st.SearchStrategy[bytes]:
    """Damage a JSON file by its values, by its bytes, or by a key that is there twice."""
    values = damaged_value(json.loads(data)).map(lambda value: json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))
    twice = st.sampled_from((b'"train":[],', b'"test":5,', b'"x":1,"x":2,')).map(lambda key: data[:1] + key + data[1:])
    return values | damaged(data) | twice


@st.composite
def damaged_lines(draw: st.DrawFn, data: bytes) -> bytes:
    """Drop, double, cut or damage a few lines of TOML or JSON lines, or give a key another value."""
    lines, whole = data.split(b"\n"), set(data.split(b"\n"))
    for _ in range(draw(st.integers(1, 4))):
        k = draw(st.integers(0, len(lines) - 1))
        head, equals, _ = lines[k].partition(b"=")
        match draw(st.sampled_from(("value", "drop", "double", "bytes", "json", "join"))):
            case "value" if equals:
                lines[k] = head + b"= " + draw(st.sampled_from(TEXTS)).encode()
            case "drop" if len(lines) > 1:
                del lines[k]
            case "double":
                lines.insert(k, draw(st.sampled_from(lines)))
            case "json" if lines[k][:1] == b"{" and lines[k] in whole:
                lines[k] = json.dumps(draw(damaged_value(json.loads(lines[k])))).encode()
            case "join":
                lines[k] = lines[k][: draw(st.integers(0, len(lines[k])))] + draw(st.sampled_from(lines))
            case _:
                lines[k] = draw(damaged(lines[k]))
    return b"\n".join(lines)


def damaged_safetensors(data: bytes) -> st.SearchStrategy[bytes]:
    """Damage a safetensors file: a value of its header or of its metadata, or its bytes."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])

    def with_header(changed: Any) -> bytes:
        text = json.dumps(changed).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + length :]

    def with_metadata(change: tuple[str, Any]) -> bytes:
        return with_header({**header, "__metadata__": {**header["__metadata__"], change[0]: change[1]}})

    texts = {key: json.loads(text) for key, text in header["__metadata__"].items() if text[:1] in '[{"'}
    odd = st.tuples(st.sampled_from((*header["__metadata__"], "part", "row_ids")), st.sampled_from(TEXTS))
    inside = st.sampled_from(sorted(texts)).flatmap(lambda key: damaged_value(texts[key]).map(lambda value: (key, json.dumps(value))))
    return damaged(data) | damaged_value(header).map(with_header) | (odd | inside).map(with_metadata)
