"""What a user can cause, one exception class a room. The command line prints the message as one line and exits 2.

A message names the file, the task and the fault, in that order, as far as they are known.
"""

import traceback
from pathlib import Path


class UserError(Exception):
    """Base of every error that wrong input can cause; anything else that escapes is a bug of ours."""


class ConfigError(UserError):
    """A preset, an option or a competition file that cannot be used."""


class ModelConflictError(ConfigError):
    """A preset whose `[model]` is not that of the checkpoint."""


class DataError(UserError):
    """A challenges, solutions, submission or task file that is not what it should be."""


class CheckpointError(UserError):
    """Weights that cannot be read, or that do not fit the model asked for."""


class TrainError(UserError):
    """Training that cannot start or continue as asked."""


class SolveError(UserError):
    """A solve run that cannot start: its input, output or run folder is unusable."""


class BusyError(UserError):
    """A folder or file in which another run works."""


class ClusterError(UserError):
    """A cluster that cannot be reached, or has nothing to work with."""


def clipped(text: object, longest: int = 300) -> str:
    """Put `text` on one line of at most `longest` characters, cut in the middle."""
    line = " ".join(str(text).split())
    if len(line) <= longest:
        return line
    end = longest // 3
    return f"{line[: longest - end - 5]} ... {line[-end:]}"


def one_line(error: BaseException) -> str:
    """Format class, first line and place of an error."""
    text = str(error).strip().split("\n", 1)[0]
    place = "".join(f" ({Path(f.filename).name}:{f.lineno})" for f in traceback.extract_tb(error.__traceback__)[-1:])
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__) + place
