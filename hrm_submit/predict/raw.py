"""Raw predictions on disk: the last vote of one training of a task, in one file, for comparing voting rules later.

`TASK.npz` in the folder `raw` of a run folder, or `TASK.restartK.npz` of the K-th training after that, by the next member or anew; a
task id that makes no good file name is replaced by its hash. A compressed numpy archive without pickled objects; n views (of all
test outputs), N = side * side canvas cells, row by row:

    format, restart, side           integers: 2; 0 or K; of the canvas
    task                            uint8: its id in UTF-8 (numpy's own strings lose a NUL at their end)
    output                          (n,) uint16: number of the test output
    dihedral, colours               (n,), (n, 10) uint8: the view, as `arc.augment.Augmentation` has it
    log_probs                       (n, N, vocabulary) float16, nats: PAD, EOS, the ten colours as the view shows them; three digits
"""

import hashlib
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrm_submit.arc.augment import Augmentation, augmentation_arrays
from hrm_submit.core.errors import DataError, one_line
from hrm_submit.core.files import write_atomic
from hrm_submit.predict.scores import ViewScores

RAW = "raw"
"""Name of the folder within a run folder."""
FORMAT = 2
LEAST = -6e4
"""A log-probability below is stored as this: float16 has no lower ones."""


@dataclass(frozen=True, eq=False)
class RawVote:
    """The last vote of one training of a task. `output` (n,) says which test output each view is of."""

    task: str
    restart: int
    output: npt.NDArray[np.integer]
    scores: ViewScores

    def of_output(self, k: int) -> ViewScores:
        """Select the views of test output `k`."""
        return self.scores.some(np.flatnonzero(self.output == k))


def save_raw(folder: Path, raw: RawVote) -> Path:
    """Write the file of `raw` in `folder`, which is created, in one piece; returns its path. Raises OSError."""
    task = raw.task.encode(errors="surrogatepass")
    name = raw.task if re.fullmatch(r"\w[\w-]{0,99}", raw.task, re.ASCII) else hashlib.sha256(task).hexdigest()[:32]
    path = folder / (f"{name}.restart{raw.restart}.npz" if raw.restart else f"{name}.npz")
    transforms, colours = augmentation_arrays(raw.scores.views)
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        format=FORMAT,
        task=np.frombuffer(task, dtype=np.uint8),
        restart=raw.restart,
        side=raw.scores.side,
        output=raw.output,
        dihedral=transforms,
        colours=colours,
        log_probs=np.maximum(raw.scores.log_probs, LEAST).astype(np.float16),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
    return path


def load_raw(path: Path) -> RawVote:
    """Read a file of `save_raw`. Raises DataError where it is missing, damaged or of another format."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return _parse({name: archive[name] for name in archive.files})
    except Exception as error:  # a damaged archive can raise anything
        raise DataError(f"{path}: no raw predictions: {one_line(error)}") from None


def _parse(arrays: dict[str, npt.NDArray[Any]]) -> RawVote:
    if int(arrays["format"]) != FORMAT:
        raise ValueError(f"format {arrays['format']} is not {FORMAT}")
    side, log_probs, output = int(arrays["side"]), arrays["log_probs"], arrays["output"]
    views = tuple(
        Augmentation(int(transform), tuple(colours.tolist()))
        for transform, colours in zip(arrays["dihedral"], arrays["colours"], strict=True)
    )
    n, cells, _ = log_probs.shape
    shapes_fit = len(views) == n and output.shape == (n,) and cells == side * side
    if not n or not shapes_fit:
        raise ValueError("its arrays do not belong together")
    task = arrays["task"].tobytes().decode(errors="surrogatepass")
    return RawVote(task, int(arrays["restart"]), output, ViewScores(views, side, log_probs.astype(np.float32)))
