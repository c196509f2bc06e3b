"""`python -m hrm_submit`."""

from hrm_submit.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
