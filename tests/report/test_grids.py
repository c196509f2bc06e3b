"""Pictures of grids, painted again by a reader of SVG and of terminal codes that knows nothing of how they are written."""

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hrm_submit.arc.task import Grid, make_grid
from hrm_submit.report.grids import PALETTE, Tile
from tests.arc.strategies import grids

DARK = {PALETTE[colour] for colour in (0, 1, 2, 6, 9)}


def painted(svg: str) -> list[list[str]]:
    """The colour of each cell of a picture: its background, then what each stroke of the first group covers, in order."""
    root = ElementTree.fromstring(svg)
    columns, rows = map(int, root.attrib["viewBox"].split()[2:])
    rect, strokes = root.find("rect"), root.find("g")
    assert rect is not None and strokes is not None
    assert (rect.attrib["width"], rect.attrib["height"]) == (str(columns), str(rows))
    assert strokes.attrib["transform"] == "translate(0 .5)", "a stroke of width 1 along y covers y - .5 to y + .5"
    cells = [[rect.attrib["fill"]] * columns for _ in range(rows)]
    for path in strokes:
        for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)", path.attrib["d"]):
            for column in range(int(x), int(x) + int(length)):
                cells[int(y)][column] = path.attrib["stroke"]
        assert re.fullmatch(r"(M\d+ \d+h\d+)+", path.attrib["d"])
    return cells


def crossed(svg: str) -> set[tuple[int, int]]:
    """Row and column of each cell that has a cross."""
    groups = [g for g in ElementTree.fromstring(svg) if g.attrib.get("class") == "wrong"]
    return {(int(row), int(column)) for g in groups for column, row in re.findall(r"M(\d+)\.2 (\d+)\.2l", g[0].attrib["d"])}


def shown(blocks: list[str]) -> tuple[list[list[str]], set[tuple[int, int]]]:
    """The background of each pair of columns, as a terminal that knows the codes shows it, and the places of those with a mark."""
    cells: list[list[str]] = []
    marks = set()
    for y, line in enumerate(blocks):
        row: list[str] = []
        assert line.endswith("\x1b[0m"), "no colour runs on to what is printed next"
        for ink, red, green, blue, text in re.findall(r"\x1b\[(30|97);48;2;(\d+);(\d+);(\d+)m([ ><]+)", line):
            colour = f"#{int(red):02X}{int(green):02X}{int(blue):02X}"
            assert (ink == "97") == (colour in DARK), "marks stand out from what they are on"
            for pair in re.findall("..", text):
                assert pair in ("  ", "><")
                if pair == "><":
                    marks.add((y, len(row)))
                row.append(colour)
        cells.append(row)
    return cells, marks


@given(grids(), st.data())
def test_every_cell_has_its_colour_and_wrong_cells_and_no_others_their_mark(grid: Grid, data: Any) -> None:
    wrong = np.array(data.draw(st.lists(st.booleans(), min_size=grid.size, max_size=grid.size))).reshape(grid.shape)
    places = {(int(r), int(c)) for r, c in np.argwhere(wrong)}
    wanted = [[PALETTE[value] for value in row] for row in grid.tolist()]
    for tile, marked in ((Tile("x", grid), set[Any]()), (Tile("x", grid, wrong=wrong), places)):
        assert painted(tile.svg()) == wanted and crossed(tile.svg()) == marked
        assert shown(tile.blocks(colour=True)) == (wanted, marked)
        digits = [re.findall(r"(\d)([! ])", line) for line in tile.blocks(colour=False)]
        assert [[int(value) for value, _ in row] for row in digits] == grid.tolist()
        assert {(y, x) for y, row in enumerate(digits) for x, (_, mark) in enumerate(row) if mark == "!"} == marked


def name(svg: str) -> str:
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    return root.attrib["aria-label"]


def test_a_small_grid_is_told_cell_by_cell_a_large_one_by_its_size_and_no_label_leaves_its_attribute() -> None:
    grid, truth = make_grid([[0, 1, 1], [2, 9, 5]]), make_grid([[0, 3, 1], [2, 9, 4]])
    assert name(Tile("attempt 1", grid).judged(truth).svg()) == "attempt 1, 2 cells wrong, 2x3, 011/295"
    large = make_grid([[0] * 10] * 9)
    assert name(Tile("x", large).judged(grid).svg()) == "x, wrong size: 9x10, not 2x3, 9x10"
    label = "\"><script>alert(1)</script>&'"
    svg = Tile(label, make_grid(np.random.default_rng(0).integers(0, 10, (30, 30)))).svg(210)
    assert name(svg).startswith(label + ", ") and ElementTree.fromstring(svg).find(".//{*}script") is None
    assert "width:210px;max-width:100%;height:auto" in svg, "never more than the page has"
    assert len(svg) < 9_000 and len(Tile("x", make_grid([[1] * 30] * 30)).svg()) < 700, "small, even of noise"
