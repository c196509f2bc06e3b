"""Compare voting rules on the same saved predictions: what each would have scored, what it gains and what it loses.

A run saves its predictions if its preset has `save_raw = true` in [vote]. Several run folders, of other seeds, are further samples of
the same tasks, or, with --pool, several trainings whose votes count together.

    python -m hrm_submit solve --preset nano,raw.toml --run-dir run-1 --seed 1 ...
    python scripts/compare_votes.py run-1 run-2 --solutions F --markdown

pass@k is the mean over test outputs, in per cent, with a 95 % interval by resampling tasks; an output without candidates is wrong, as
no fallback is used. `oracle` is the share of outputs that some view shows. A row is compared with the rule of --against,
by default the one that `solve` uses. Exit 0, or 2 for bad input.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.votes import compare_votes

from hrm_submit.cli import exit_status
from hrm_submit.config.schema import VoteConfig


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR")
    parser.add_argument("--solutions", type=Path, required=True, metavar="F")
    help_text = "also your own rule: docs/extend/voting-rule.md"
    parser.add_argument("--own", type=Path, action="append", default=[], metavar="F.py", help=help_text)
    parser.add_argument("--against", metavar="RULE", default=VoteConfig().rule, help="to compare with (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="F", help="write the table")
    parser.add_argument("--markdown", action="store_true", help="print the table as markdown")
    parser.add_argument("--pool", action="store_true", help="pool the votes of all run folders, as of one run")
    args = parser.parse_args(argv)
    return exit_status("compare_votes", lambda: compare_votes(args))


if __name__ == "__main__":
    sys.exit(main())
