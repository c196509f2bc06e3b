"""One name for all pairs that are the same up to a dihedral transform and a change of colours.

For a fixed transform, naming colours in the order in which they appear gives the least form over all 10! permutations. Pairs of
different forms stay different under every augmentation.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.augment import N_DIHEDRAL, dihedral
from hrm_submit.arc.task import N_COLOURS, Pair, Task


def pair_hash(given: npt.NDArray[np.uint8], wanted: npt.NDArray[np.uint8]) -> str:
    """Hash (SHA-256, hexadecimal) the canonical form of a pair of input (R, C) and output (R', C').

    It is the least bytes over the 8 dihedral transforms and all colour permutations of input and output alike: rows and columns of the
    input, then of the output, then the cells of both, row by row.
    """
    form = min(_relabelled(dihedral(given, transform), dihedral(wanted, transform)) for transform in range(N_DIHEDRAL))
    return hashlib.sha256(form).hexdigest()


def pair_hashes(pairs: Iterable[Pair]) -> tuple[str, ...]:
    """Hash each pair."""
    return tuple(pair_hash(pair.input, pair.output) for pair in pairs)


def tasks_with_pairs_of(hashes: Collection[str], tasks: Mapping[str, Task]) -> list[str]:
    """List the ids of tasks that have a demonstration whose `pair_hash` is among `hashes`."""
    known = frozenset(hashes)
    return [name for name, task in tasks.items() if not known.isdisjoint(pair_hashes(task.train))]


def _relabelled(given: npt.NDArray[np.uint8], wanted: npt.NDArray[np.uint8]) -> bytes:
    cells = given.tobytes() + wanted.tobytes()
    # bytes.find and bytes.translate scan at memory speed, which makes them faster here than any call into numpy
    order = sorted((at, colour) for colour in range(N_COLOURS) if (at := cells.find(colour)) >= 0)
    names = bytearray(256)
    for name, (_, colour) in enumerate(order):
        names[colour] = name
    return bytes((*given.shape, *wanted.shape)) + cells.translate(names)
