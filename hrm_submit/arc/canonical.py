"""One name for all pairs that are the same up to a dihedral transform and a change of colours.

Notable: for a fixed transform the least form over all 10! colour permutations is had without trying any: name the colours
in the order in which they first appear. Augmentation moves a pair only within its class, so that two pairs of different
canonical forms stay different whatever training makes of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.augment import N_DIHEDRAL, dihedral
from hrm_submit.arc.task import N_COLOURS, Task


def canonical_form(given: npt.NDArray[np.uint8], wanted: npt.NDArray[np.uint8]) -> bytes:
    """Return the least bytes over the 8 dihedral transforms and all colour permutations, both done to input and output alike.

    The bytes are the input's rows and columns, the output's rows and columns, the input's cells and the output's cells,
    row by row; so the form tells everything of the pair but its orientation and its colours.
    """
    return min(_relabelled(dihedral(given, transform), dihedral(wanted, transform)) for transform in range(N_DIHEDRAL))


def pair_hash(given: npt.NDArray[np.uint8], wanted: npt.NDArray[np.uint8]) -> str:
    """Hash (SHA-256) the canonical form of a pair of input (R, C) and output (R', C'), 64 hexadecimal digits."""
    return hashlib.sha256(canonical_form(given, wanted)).hexdigest()


def tasks_with_pairs_of(hashes: Collection[str], tasks: Mapping[str, Task]) -> list[str]:
    """List the ids of tasks that have a demonstration whose `pair_hash` is among `hashes`."""
    known = frozenset(hashes)
    return [name for name, task in tasks.items() if any(pair_hash(pair.input, pair.output) in known for pair in task.train)]


def _relabelled(given: npt.NDArray[np.uint8], wanted: npt.NDArray[np.uint8]) -> bytes:
    cells = given.tobytes() + wanted.tobytes()
    # bytes.find and bytes.translate scan at memory speed, which makes them faster here than any call into numpy
    order = sorted((at, colour) for colour in range(N_COLOURS) if (at := cells.find(colour)) >= 0)
    names = bytearray(256)
    for name, (_, colour) in enumerate(order):
        names[colour] = name
    return bytes((*given.shape, *wanted.shape)) + cells.translate(names)
