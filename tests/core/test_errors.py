"""Errors as one line of text."""

from hrm_submit.core.errors import one_line


def test_class_first_line_and_place() -> None:
    assert one_line(ValueError("a\nb")) == "ValueError: a"
    assert one_line(KeyError()) == "KeyError"
    try:
        raise OSError("gone")
    except OSError as error:
        assert one_line(error).startswith("OSError: gone (test_errors.py:")
