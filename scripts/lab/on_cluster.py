"""Pieces of work on the machines of a Ray cluster: this repository's scripts go along, what a piece leaves comes back by message.

A piece is lost with its node; it is then done once more elsewhere. Ray is imported only here, and only where a cluster is asked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hrm_submit.core.errors import one_line

SCRIPTS = Path(__file__).resolve().parents[1]
TIMES = 2
"""A piece is done again where its node dies under it."""


def on_cluster(address: str, work: Callable[..., Any], pieces: Sequence[tuple[Any, ...]], cores: int = 1) -> Iterator[tuple[int, Any, str]]:
    """`work(*piece)` of all `pieces`, `cores` CPU cores each; number, result and fault (one line, or "") of each as it ends, in any order.

    What pieces share is sent to a node once where it is the same object. Raises ClusterError where there is no such cluster.
    """
    from hrm_submit.run.cluster import Cluster

    cluster = Cluster(address, modules=[SCRIPTS / "lab", SCRIPTS / "kaggle_kit"])
    import ray

    kept: dict[int, Any] = {}

    def shared(value: Any) -> Any:
        if isinstance(value, dict) and id(value) not in kept:
            kept[id(value)] = ray.put(value)
        return kept.get(id(value), value)

    try:
        remote = ray.remote(num_cpus=cores, max_retries=TIMES - 1)(work)
        numbers = {remote.remote(*map(shared, piece)): number for number, piece in enumerate(pieces)}
        while numbers:
            (ready, *_), _ = ray.wait(list(numbers), num_returns=1)
            number = numbers.pop(ready)
            try:
                yield number, ray.get(ready), ""
            except ray.exceptions.RayTaskError as error:
                yield number, None, one_line(error.cause) if error.cause else str(error).splitlines()[-1]
            except ray.exceptions.RayError as error:
                yield number, None, one_line(error)
    finally:
        cluster.close()


def left_in(folder: Path) -> dict[str, bytes]:
    """All files of a folder, by their paths within it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def put_down(files: dict[str, bytes], folder: Path) -> None:
    """`left_in` anew, here."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder on the node, for as long as a piece needs it."""
    return tempfile.TemporaryDirectory(prefix="hrm-piece-")
