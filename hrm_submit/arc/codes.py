"""Codes of cells: what a cell of an input sees and belongs to, as small numbers beside its token.

All codes are made of the input grid alone, so demonstrations and tests have them alike, and they change with every augmentation. The
background is the most frequent colour, of several the lowest. Objects are connected components of one colour: 8-connected, those of the
background 4-connected. A kind of codes has one or more features, each of which gives a cell one code or none:

- `sight`: up, down, left and right of the cell, the first colour other than the background, or that there is none.
- `objects`: area of the cell's object (9 classes); rank of the area (6); foreground, open or enclosed background (3); edges of the object's
  bounding box that the cell lies on (16); how many objects have its shape (4, foreground only); whether it touches the grid's edge (2).
- `frequency`: how many colours are more frequent than the cell's.
- `mirror`: the colour of the cell mirrored left to right, top to bottom, and both ways, or that there is none.

A kind whose codes change their meaning gets a new name, since checkpoints name the kinds that they learnt from.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.extending import register_jitable

from hrm_submit.arc.canvas import FIRST_COLOUR, Bytes, Tokens
from hrm_submit.config.schema import CODE_SIZES, CodeKind
from hrm_submit.core.numba_cache import kernel

NO_CODE = 255

_TOKENS = FIRST_COLOUR + 10
_FEATURES = [(kind, size) for kind, sizes in CODE_SIZES.items() for size in sizes]
_STARTS = np.cumsum([0, *(size for _, size in _FEATURES)])
_SIGHT, _AREA, _RANK, _GROUND, _EDGES, _TWINS, _CONTACT, _FREQUENCY, _MIRROR = (int(_STARTS[k]) for k in (0, 4, 5, 6, 7, 8, 9, 10, 11))
_AREAS = (1, 2, 3, 4, 6, 9, 15, 30)
# Columns of the table of objects.
_CELLS, _COLOUR, _TOUCHES, _TOP, _LEFT, _BOTTOM, _RIGHT, _SHAPE, _SAME = range(9)


def draw_left_out(n: int, kinds: Sequence[CodeKind], chance: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Draw which of the columns that `with_codes` gives are left out of each of `n` examples, (n, 1 + features): whole kinds, each with
    probability `chance`, never the token."""
    drawn = rng.random((n, len(kinds))) < chance
    columns = np.repeat(drawn, [len(CODE_SIZES[kind]) for kind in kinds], axis=1)
    return np.pad(columns, ((0, 0), (1, 0)))


def with_codes(tokens: Tokens, kinds: Sequence[CodeKind]) -> Bytes:
    """Return `tokens` (B, N) of square canvases as they are if there are no `kinds`, else (B, N, 1 + features): the token, then one code of
    each feature of the kinds, numbered through from 0, or `NO_CODE`."""
    if not kinds:
        return tokens
    found = np.empty((*tokens.shape, 1 + len(_FEATURES)), np.uint8)
    found[..., 0] = tokens
    _fill_codes(np.ascontiguousarray(tokens), round(tokens.shape[1] ** 0.5), found)
    if tuple(kinds) == tuple(CODE_SIZES):
        return found
    number, chosen, first = np.full(256, NO_CODE, np.uint8), [0], 0
    for kind in kinds:
        for k, (owner, size) in enumerate(_FEATURES):
            if owner == kind:
                number[_STARTS[k] : _STARTS[k] + size] = np.arange(first, first + size)
                chosen.append(1 + k)
                first += size
    codes = found[..., chosen]
    codes[..., 1:] = number[codes[..., 1:]]
    return codes


@kernel
def _fill_codes(tokens: Any, side: int, codes: Any) -> None:
    """Write the codes of each cell of `tokens` (B, N) behind its token in `codes` (B, N, 15)."""
    label, stack = np.empty(side * side, np.int64), np.empty(side * side, np.int64)
    objects, count, bounds = np.empty((side * side, 9), np.int64), np.empty(_TOKENS, np.int64), np.empty(4, np.int64)
    for b in range(len(tokens)):
        grid = tokens[b]
        background = _survey(grid, side, bounds, count)
        found = _find_objects(grid, side, bounds, background, label, stack, objects)
        largest, smallest = _compare_objects(grid, side, label, objects[:found], background)
        for i in range(side * side):
            if grid[i] < FIRST_COLOUR:
                codes[b, i, 1:] = NO_CODE
                continue
            y, x = i // side, i % side
            for d in range(4):
                codes[b, i, 1 + d] = _SIGHT + 11 * d + _seen(grid, side, bounds, y, x, d, background)
            o = objects[label[i]]
            foreground = o[_COLOUR] != background
            area = 0
            for most in _AREAS:
                area += o[_CELLS] > most
            codes[b, i, 5] = _AREA + area
            codes[b, i, 6] = _RANK + (_rank(o[_CELLS], largest, smallest) if foreground else 0)
            codes[b, i, 7] = _GROUND + (0 if foreground else 1 if o[_TOUCHES] else 2)
            codes[b, i, 8] = _EDGES + (y == o[_TOP]) + 2 * (y == o[_BOTTOM]) + 4 * (x == o[_LEFT]) + 8 * (x == o[_RIGHT])
            codes[b, i, 9] = _TWINS + min(o[_SAME], 4) - 1 if foreground else NO_CODE
            codes[b, i, 10] = _CONTACT + o[_TOUCHES]
            frequent = 0
            for c in range(FIRST_COLOUR, _TOKENS):
                frequent += count[c] > count[grid[i]]
            codes[b, i, 11] = _FREQUENCY + frequent
            across, under = bounds[1] + bounds[3] - x, bounds[0] + bounds[2] - y
            codes[b, i, 12] = _MIRROR + _colour(grid[y * side + across])
            codes[b, i, 13] = _MIRROR + 11 + _colour(grid[under * side + x])
            codes[b, i, 14] = _MIRROR + 22 + _colour(grid[under * side + across])


@register_jitable
def _survey(grid: Any, side: int, bounds: Any, count: Any) -> int:
    """Write the box of all coloured cells (top, left, bottom, right) and the `count` of each token; return the background."""
    count[:] = 0
    bounds[0], bounds[1], bounds[2], bounds[3] = side, side, -1, -1
    for i in range(len(grid)):
        if grid[i] >= FIRST_COLOUR:
            count[grid[i]] += 1
            y, x = i // side, i % side
            bounds[0], bounds[1], bounds[2], bounds[3] = min(bounds[0], y), min(bounds[1], x), max(bounds[2], y), max(bounds[3], x)
    return FIRST_COLOUR + int(np.argmax(count[FIRST_COLOUR:]))


@register_jitable
def _find_objects(grid: Any, side: int, bounds: Any, background: int, label: Any, stack: Any, objects: Any) -> int:
    """Give each coloured cell the number of its object in `label`, and each object a row of `objects`; return their number."""
    found = 0
    label[:] = -1
    for start in range(len(grid)):
        if grid[start] < FIRST_COLOUR or label[start] >= 0:
            continue
        o = objects[found]
        o[_CELLS], o[_COLOUR], o[_TOUCHES], o[_SAME] = 0, grid[start], 0, 0
        o[_TOP], o[_LEFT], o[_BOTTOM], o[_RIGHT] = side, side, -1, -1
        stack[0], waiting, label[start] = start, 1, found
        while waiting:
            waiting -= 1
            i = stack[waiting]
            y, x = i // side, i % side
            o[_CELLS] += 1
            o[_TOP], o[_LEFT], o[_BOTTOM], o[_RIGHT] = min(o[_TOP], y), min(o[_LEFT], x), max(o[_BOTTOM], y), max(o[_RIGHT], x)
            if y == bounds[0] or y == bounds[2] or x == bounds[1] or x == bounds[3]:
                o[_TOUCHES] = 1
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    yy, xx = y + dy, x + dx
                    inside = bounds[0] <= yy <= bounds[2] and bounds[1] <= xx <= bounds[3]
                    if not inside or (dy and dx and grid[start] == background):
                        continue
                    j = yy * side + xx
                    if grid[j] == grid[start] and label[j] < 0:
                        stack[waiting], label[j] = j, found
                        waiting += 1
        found += 1
    return found


@register_jitable
def _compare_objects(grid: Any, side: int, label: Any, objects: Any, background: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Write for each object how many have its shape; return area and number of the largest ones, and of the smallest ones."""
    for o in objects:
        o[_SHAPE] = (o[_BOTTOM] - o[_TOP]) * 31 + o[_RIGHT] - o[_LEFT]
    for i in range(len(grid)):
        if label[i] >= 0:
            # A sum over the cells, so that their order does not matter.
            o = objects[label[i]]
            y, x = i // side - o[_TOP], i % side - o[_LEFT]
            o[_SHAPE] += ((y * 31 + x + 7) * 2654435761) ^ ((y * 17 + x * 5 + 3) * 40503)
    largest, smallest, n_largest, n_smallest = 0, len(grid) + 1, 0, 0
    for o in objects:
        if o[_COLOUR] == background:
            continue
        n_largest = 1 if o[_CELLS] > largest else n_largest + (o[_CELLS] == largest)
        n_smallest = 1 if o[_CELLS] < smallest else n_smallest + (o[_CELLS] == smallest)
        largest, smallest = max(largest, o[_CELLS]), min(smallest, o[_CELLS])
        for other in objects:
            o[_SAME] += other[_COLOUR] != background and other[_SHAPE] == o[_SHAPE] and other[_CELLS] == o[_CELLS]
    return (largest, n_largest), (smallest, n_smallest)


@register_jitable
def _rank(cells: int, largest: tuple[int, int], smallest: tuple[int, int]) -> int:
    """Rank of a foreground object's area: 1 the largest, 2 one of the largest, 3 the smallest, 4 one of the smallest, 5 between."""
    if cells == largest[0]:
        return 1 if largest[1] == 1 else 2
    if cells == smallest[0]:
        return 3 if smallest[1] == 1 else 4
    return 5


@register_jitable
def _seen(grid: Any, side: int, bounds: Any, y: int, x: int, direction: int, background: int) -> int:
    """Return 1 + the first colour other than the background in `direction` (up, down, left, right), 0 if there is none."""
    dy, dx = (direction == 1) - (direction == 0), (direction == 3) - (direction == 2)
    y, x = y + dy, x + dx
    while bounds[0] <= y <= bounds[2] and bounds[1] <= x <= bounds[3]:
        token = grid[y * side + x]
        if token >= FIRST_COLOUR and token != background:
            return _colour(token)
        y, x = y + dy, x + dx
    return 0


@register_jitable
def _colour(token: int) -> int:
    """Return 1 + the colour of `token`, 0 for a token that is none."""
    return token - FIRST_COLOUR + 1 if token >= FIRST_COLOUR else 0
