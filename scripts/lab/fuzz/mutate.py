"""Mutations: of bytes, of JSON values, of lines of text, of safetensors headers. All from a seeded generator."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    10**40,
    1.5,
    -0.0,
    "",
    "a\0b",
    "\ud800",
    "../../etc/x",
    "\x1b[31m\n",
    "x" * 10_000,
    [],
    {},
    [[]],
    [[[]]],
    [[1] * 31],
    [[1]] * 31,
    [[1], [1, 2]],
    [[10]],
    [[True]],
    {"input": [[1]]},
    {"a": {"b": {}}},
)
ODD_TEXTS = (
    "1e400",
    "NaN",
    "-Infinity",
    "1" * 5000,
    "[" * 2000,
    '{"a":' * 1200,
    "0x10",
    "'",
    '"',
    "\x00",
    "\ufeff",
    "}",
    "true",
    "1_0",
    "[x]",
)
"""Pieces of text that stand where a value should."""


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """A few flips, cuts, doublings and insertions."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        length = min(len(changed) - at, rng.choice((1, 2, 8, 64, 4096)))
        match rng.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = changed[at : at + length]
            case 3:
                changed[at:at] = rng.randbytes(rng.choice((1, 8, 100)))
            case 4:
                changed[at:at] = rng.choice(ODD_TEXTS).encode()
            case _:
                del changed[at:]
        if not changed:
            break
    return bytes(changed)


def of_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with a few parts replaced, dropped, doubled or moved."""
    changed = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        changed = _once(changed, rng)
    return changed


def _once(value: Any, rng: random.Random) -> Any:
    depth = rng.choice((0, 1, 1, 2, 2, 3, 4, 5, 6))
    parent: Any = None
    key: Any = None
    here = value
    while depth and isinstance(here, dict | list) and here:
        parent, key = here, rng.choice(list(here)) if isinstance(here, dict) else rng.randrange(len(here))
        here, depth = here[key], depth - 1
    if parent is None:
        return rng.choice(ODD)
    odd = copy.deepcopy(rng.choice(ODD))
    match rng.randrange(5):
        case 0 | 1:
            parent[key] = odd
        case 2:
            del parent[key]
        case 3 if isinstance(parent, dict):
            parent[odd if isinstance(odd, str) else str(odd)[:50]] = here
        case _:
            parent[key] = [here, here] if isinstance(parent, dict) else odd
    return value


def of_json(data: bytes, rng: random.Random) -> bytes:
    """A JSON file, by its values or by its bytes."""
    if rng.random() < 0.3:
        return of_bytes(data, rng)
    text = json.dumps(of_value(json.loads(data), rng), ensure_ascii=rng.random() < 0.8).encode(errors="surrogatepass")
    if rng.random() < 0.15 and len(text) > 2:  # a key that is there twice
        text = text[:1] + rng.choice((b'"train":[],', b'"test":5,', b'"x":1,"x":2,')) + text[1:]
    return text


def of_lines(data: bytes, rng: random.Random) -> bytes:
    """A file of lines (TOML, JSON lines): lines dropped, doubled, swapped, cut, or with another value."""
    if rng.random() < 0.25:
        return of_bytes(data, rng)
    lines = data.split(b"\n")
    for _ in range(rng.randint(1, 4)):
        k = rng.randrange(len(lines))
        head, equals, _ = lines[k].partition(b"=")
        match rng.randrange(6):
            case 0 if equals:
                lines[k] = head + b"= " + rng.choice((*ODD_TEXTS, "-1", "0", '"x"', "[]", "{}", "1e308", "9" * 30, "nan")).encode()
            case 1:
                del lines[k]
            case 2:
                lines.insert(k, lines[rng.randrange(len(lines))])
            case 3:
                lines[k] = of_bytes(lines[k], rng)
            case 4 if lines[k][:1] == b"{":
                lines[k] = of_json(lines[k], rng) if _is_json(lines[k]) else lines[k]
            case _:
                lines[k] = lines[k][: rng.randrange(len(lines[k]) + 1)] + rng.choice(lines)
        if not lines:
            break
    return b"\n".join(lines)


def of_safetensors(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file: its header's values, the metadata's, or its bytes."""
    if rng.random() < 0.25:
        return of_bytes(data, rng)
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    about = header.get("__metadata__", {})
    if rng.random() < 0.7 and about:
        key = rng.choice(list(about))
        about[key] = rng.choice((_mutated_text(about[key], rng), rng.choice(ODD_TEXTS), rng.choice(PARTS)))
        if rng.random() < 0.3:
            about[rng.choice(("part", "version", "row_ids"))] = rng.choice((*PARTS, *ODD_TEXTS))
    else:
        header = of_value(header, rng)
    text = json.dumps(header).encode(errors="surrogatepass")
    return len(text).to_bytes(8, "little") + text + rest


PARTS = ("[5,0]", "[1,1.5]", "[1,null]", "[1e400,1]", "[1,10000000000]", "[0,0]", '"99.0.0"', '{"a":1}', '[["x"]]', "-5")


def _mutated_text(text: str, rng: random.Random) -> str:
    if _is_json(text.encode(errors="surrogatepass")) and rng.random() < 0.8:
        return json.dumps(of_value(json.loads(text), rng))
    return of_bytes(text.encode(errors="surrogatepass"), rng).decode("latin-1")


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


Mutation = Callable[[bytes, random.Random], bytes]
