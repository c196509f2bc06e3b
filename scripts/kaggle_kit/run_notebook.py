"""Run a notebook as Kaggle does: every cell in order, in a fresh kernel, stopping at the first error. A program, not a module.

    python run_notebook.py [--loopback] IN.ipynb OUT.ipynb

Needs nbclient and nothing of this project. Prints the cells' output at once; OUT keeps it, also where a cell raised: then exit 1.
"""

import fcntl
import socket
import struct
import sys
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


class LiveClient(NotebookClient):
    """Also shows what a cell prints, when it prints it."""

    def output(self, outs: list[Any], msg: Any, display_id: str | None, cell_index: int) -> Any:
        if msg["msg_type"] == "stream":
            print(msg["content"]["text"], end="", flush=True)
        return super().output(outs, msg, display_id, cell_index)


def raise_loopback() -> None:
    """Bring up `lo` in a new network namespace, for kernel and runner to talk over; see netdevice(7)."""
    get_flags, set_flags, up = 0x8913, 0x8914, 0x1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.unpack("16sh22x", fcntl.ioctl(control, get_flags, struct.pack("16sh22x", b"lo", 0)))[1]
        fcntl.ioctl(control, set_flags, struct.pack("16sh22x", b"lo", flags | up))


def main(arguments: list[str]) -> int:
    if arguments[0] == "--loopback":
        raise_loopback()
        arguments = arguments[1:]
    source, target = arguments
    notebook = nbformat.read(source, as_version=4)
    try:
        LiveClient(notebook, timeout=None, kernel_name="python3", extra_arguments=["--log-level=40"]).execute()
    except CellExecutionError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    finally:
        nbformat.write(notebook, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
