"""Download ConceptARC, and on request RE-ARC and ARC-GEN, for pre-training into data/ or $HRM_SUBMIT_DATA; this needs a network.

    python scripts/fetch_data.py                    # ConceptARC: 160 tasks, 0.1 MB
    python scripts/fetch_data.py conceptarc re-arc  # RE-ARC too: 1000 pairs for each of 400 tasks, larger
    python scripts/fetch_data.py arc-gen            # 100 pairs for each of 898 tasks, drawn here by their generators: some minutes

Afterwards `--data conceptarc,re-arc,arc-gen` finds them there. All come from their authors' public repositories at one commit each, and
are verified before anything is used: ConceptARC by the SHA-256 of all task files (GitHub makes its archives on demand, and their bytes
may change), ARC-GEN by that of all programs, RE-ARC by the id that git gives its archive at that commit. `.fetched.json` beside the tasks
describes them; later calls check it, and download nothing if all is in place. Exit 0 if all is there, else 2.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence

from lab.downloads import SOURCES, Source, fetch

from hrm_submit.arc.reader import data_folder
from hrm_submit.cli import exit_status
from hrm_submit.core.errors import DataError


def main(argv: Sequence[str] | None = None, sources: Mapping[str, Source] = SOURCES) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=["conceptarc"], help=f"what to fetch: {', '.join(SOURCES)}")
    args = parser.parse_args(argv)

    def run() -> int:
        unknown = [name for name in args.names if name not in sources]
        if unknown:
            raise DataError(f"unknown data {unknown[0]!r}; known: {', '.join(sources)}")
        for name in args.names:
            print(fetch(name, sources[name], data_folder()))
        return 0

    return exit_status("fetch_data", run, OSError)


if __name__ == "__main__":
    sys.exit(main())
