"""`hrm-submit pretrain` as a script, for torchrun: torchrun --standalone --nproc-per-node 4 scripts/pretrain.py --preset ..."""

from __future__ import annotations

import sys

from hrm_submit.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "pretrain")  # the checkpoint's card quotes the command as it would be typed without this script
    sys.exit(main())
