"""The documentation, checked: its commands run, its links and file names lead somewhere, its figures are the recorded ones."""
