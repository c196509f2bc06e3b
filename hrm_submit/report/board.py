"""A run as TensorBoard reads it: the curves of each training of each task, over its segments."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from hrm_submit.core.errors import ConfigError, DataError
from hrm_submit.record.state import RunState, Training

LONGEST_NAME = 100


def write_board(state: RunState, folder: Path) -> None:
    """Write the curves of each training into a folder of its own below `folder`.

    Raises ConfigError without the tensorboard package, DataError where nothing can be written.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError:
        raise ConfigError("--tensorboard needs the tensorboard package: pip install tensorboard") from None
    try:
        for training in state.trainings:
            name = f"{quote(training.task.encode('utf-8', 'replace'), safe='')[:LONGEST_NAME]}-{training.number}"
            board = EventFileWriter(str(folder / name))
            for t, segments, tag, value in curves(training):
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                board.add_event(Event(wall_time=t, step=segments, summary=summary))
            board.close()
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from None


def curves(training: Training) -> Iterator[tuple[float, int, str, float]]:
    """Yield seconds, segments, name and value of each point: loss, share of exact demonstrations, votes for attempt 1."""
    for point in training.points:
        for tag, value in (("loss", point.loss), ("exact demonstrations", point.demo_exact)):
            if value is not None:
                yield point.t, point.segments or 0, tag, value
    for vote in training.votes:
        for k, votes in enumerate(vote.votes or (), 1):
            yield vote.t, vote.segments or 0, f"votes for attempt 1/test {k}", votes[0] if votes else 0
