"""What torchrun starts in the tests of ranks: a fault on one rank, then `pretrain` as ever. Arguments: the fault, then options.

`memory`: rank 1 runs out of memory once, in its third segment. `vanish`: it is killed there.
"""

import os
import signal
import sys
from typing import Any

from hrm_submit.cli import main
from hrm_submit.model.hrm import HRM


def inject(fault: str) -> None:
    """Break the third forward of rank 1."""
    forward, calls = HRM.forward, [0]

    def broken(self: HRM, *args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3 and os.environ["RANK"] == "1":
            if fault == "vanish":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
        return forward(self, *args, **options)

    HRM.forward = broken  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    inject(sys.argv[1])
    sys.exit(main(["pretrain", *sys.argv[2:]]))
