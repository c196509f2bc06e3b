"""Pictures of grids, painted again by a reader of SVG and of terminal codes that knows nothing of how they are written."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from xml.etree import ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hrm_submit.arc.task import Grid, make_grid
from hrm_submit.report.grids import NAMES, PALETTE, grid_blocks, grid_svg, text_alternative
from tests.arc.strategies import grids

DARK = {PALETTE[NAMES.index(name)] for name in ("black", "blue", "red", "magenta", "maroon")}


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


def shown(blocks: str) -> tuple[list[list[str]], set[tuple[int, int]]]:
    """The background of each pair of columns, as a terminal that knows the codes shows it, and the places of those with a mark."""
    cells: list[list[str]] = []
    marks = set()
    for y, line in enumerate(blocks.split("\n")):
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


@given(grids())
def test_every_cell_has_its_colour_as_picture_and_as_blocks(grid: Grid) -> None:
    wanted = [[PALETTE[value] for value in row] for row in grid.tolist()]
    assert painted(grid_svg(grid, label="x")) == wanted
    assert shown(grid_blocks(grid, colour=True)) == (wanted, set())
    assert [line.split() for line in grid_blocks(grid, colour=False).split("\n")] == [[str(v) for v in row] for row in grid.tolist()]


@given(st.data())
def test_wrong_cells_and_no_others_are_crossed(data: Any) -> None:
    grid = data.draw(grids())
    wrong = np.array(data.draw(st.lists(st.booleans(), min_size=grid.size, max_size=grid.size))).reshape(grid.shape)
    places = {(int(r), int(c)) for r, c in np.argwhere(wrong)}
    assert crossed(grid_svg(grid, label="x", wrong=wrong)) == places
    assert shown(grid_blocks(grid, colour=True, wrong=wrong))[1] == places
    digits = [re.findall(r"(\d)([! ]|$)", line) for line in grid_blocks(grid, colour=False, wrong=wrong).split("\n")]
    assert [[int(value) for value, _ in row] for row in digits] == grid.tolist()
    assert {(y, x) for y, row in enumerate(digits) for x, (_, mark) in enumerate(row) if mark == "!"} == places


def name(svg: str) -> str:
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    return root.attrib["aria-label"]


def test_a_small_grid_is_told_cell_by_cell_and_a_large_one_by_its_counts() -> None:
    grid = make_grid([[0, 1, 1], [2, 9, 5]])
    assert text_alternative(grid) == "2 rows by 3 columns: black blue blue / red maroon grey"
    wrong = np.array([[False, True, False], [False, False, True]])
    told = "answer: 2 rows by 3 columns: black blue blue / red maroon grey; 2 cells wrong: row 1 column 2, row 2 column 3"
    assert name(grid_svg(grid, label="answer", wrong=wrong)) == told
    assert text_alternative(make_grid([[3]])) == "1 row by 1 column: green"
    large = make_grid([[0] * 10] * 9 + [[7] * 6 + [4] * 4])
    assert text_alternative(large) == "10 rows by 10 columns: 90 black, 6 orange, 4 yellow"
    told = name(grid_svg(large, label="x", wrong=np.ones((10, 10), dtype=bool)))
    assert told.endswith("; 100 cells wrong: " + ", ".join(f"row 1 column {c}" for c in range(1, 7)) + ", ...")


def test_a_picture_stays_small_and_its_label_cannot_leave_its_attribute() -> None:
    label = "\"><script>alert(1)</script>&'"
    svg = grid_svg(make_grid(np.random.default_rng(0).integers(0, 10, (30, 30))), label=label, cell=7)
    assert name(svg).startswith(label + ": ")
    assert Counter(element.tag for element in ElementTree.fromstring(svg).iter())["script"] == 0
    assert "width:210px;max-width:100%;height:auto" in svg, "never more than the page has"
    assert len(svg) < 9_000, "even of noise"
    assert len(grid_svg(make_grid([[1] * 30] * 30), label="x")) < 700
