"""Codes of cells: worked by hand, under the transforms of a grid, and numbered by kind."""

import numpy as np
import pytest

from hrm_submit.arc.augment import dihedral
from hrm_submit.arc.codes import NO_CODE, draw_left_out, with_codes
from hrm_submit.arc.task import make_grid
from hrm_submit.config.schema import CODE_SIZES
from tests.arc.strategies import plain_canvas

ALL = tuple(CODE_SIZES)
FEATURES = [size for sizes in CODE_SIZES.values() for size in sizes]
STARTS = np.cumsum([0, *FEATURES[:-1]])
RING = [[0, 0, 0, 0, 0], [0, 3, 3, 3, 0], [0, 3, 0, 3, 0], [0, 3, 3, 3, 0], [0, 0, 0, 0, 5]]
BY_HAND = {
    # up, down, left, right; area class, rank, ground, edges, twins, contact; more frequent colours; mirrored three ways (1 + colour).
    (2, 2): (4, 4, 4, 4, 0, 0, 2, 15, None, 0, 0, 1, 1, 1),
    (1, 1): (0, 4, 0, 4, 5, 1, 0, 5, 0, 0, 1, 4, 4, 4),
    (3, 2): (4, 0, 4, 4, 5, 1, 0, 2, 0, 0, 1, 4, 4, 4),
    (4, 4): (0, 0, 0, 0, 0, 3, 0, 15, 0, 1, 2, 1, 1, 1),
    (0, 0): (0, 0, 0, 0, 6, 0, 1, 5, None, 1, 0, 1, 1, 6),
}


def codes(grid: list[list[int]] | np.ndarray, side: int, offset: tuple[int, int] = (0, 0), kinds: tuple[str, ...] = ALL) -> np.ndarray:
    """Codes (side, side, features) without the token."""
    tokens = plain_canvas(make_grid(np.array(grid)), offset, side).reshape(1, -1)
    found = with_codes(tokens, kinds)  # type: ignore[arg-type]
    assert (found[..., 0] == tokens).all()
    return found[0, :, 1:].reshape(side, side, -1)


@pytest.mark.parametrize(("side", "offset"), [(5, (0, 0)), (9, (2, 3))])
def test_codes_worked_by_hand_wherever_the_grid_lies(side: int, offset: tuple[int, int]) -> None:
    found = codes(RING, side, offset)
    for (y, x), expected in BY_HAND.items():
        absolute = [NO_CODE if e is None else s + e for s, e in zip(STARTS, expected, strict=True)]
        assert found[y + offset[0], x + offset[1]].tolist() == absolute, (y, x)
    assert (found[plain_canvas(make_grid(np.array(RING)), offset, side).reshape(side, side) < 2] == NO_CODE).all(), "no colour, no code"


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_grid_has_the_turned_codes(turn: int) -> None:
    rng = np.random.default_rng(turn)
    invariant = [4, 5, 6, 8, 9, 10, 13]  # all but sight, edges and the two mirrors along an axis
    for _ in range(20):
        grid = make_grid(rng.choice(rng.choice(10, 3), rng.integers(1, 9, 2), p=[0.6, 0.3, 0.1]))
        rows, columns = grid.shape
        plain, turned = codes(grid, 9)[:rows, :columns], codes(dihedral(grid, turn), 9)
        places = dihedral(np.arange(grid.size).reshape(grid.shape), turn)
        sheet = turned[: places.shape[0], : places.shape[1]]
        assert (sheet[..., invariant] == plain.reshape(-1, len(FEATURES))[places][..., invariant]).all()
        seen, seen_turned = (np.sort(s[..., :4] - STARTS[:4], axis=-1) for s in (plain, sheet))
        assert (seen_turned == seen.reshape(-1, 4)[places]).all(), "a cell sees the same four colours, whichever way they lie"


def test_chosen_kinds_are_numbered_through() -> None:
    every, some = codes(RING, 6), codes(RING, 6, kinds=("mirror", "objects"))
    for column, (k, first) in enumerate([(11, 0), (12, 11), (13, 22), (4, 33), (5, 42), (6, 48), (7, 51), (8, 67), (9, 71)]):
        given = every[..., k]
        assert (some[..., column] == np.where(given == NO_CODE, NO_CODE, given - STARTS[k] + first)).all()
    tokens = plain_canvas(make_grid(np.array(RING)), (0, 0), 6).reshape(1, -1)
    assert with_codes(tokens, ()) is tokens


def test_kinds_are_left_out_whole_and_as_often_as_asked() -> None:
    drawn = draw_left_out(4000, ALL, 0.25, np.random.default_rng(0))
    assert not drawn[:, 0].any(), "the token stays"
    kinds = np.split(drawn[:, 1:], np.cumsum([len(sizes) for sizes in CODE_SIZES.values()])[:-1], axis=1)
    assert all((kind == kind[:, :1]).all() for kind in kinds)
    assert all(abs(kind.mean() - 0.25) < 0.03 for kind in kinds) and len(np.unique(drawn, axis=0)) == 16
