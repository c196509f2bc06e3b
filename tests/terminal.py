"""A terminal in a few lines: what a person sees after all that a program wrote to it."""

import re


def screen(written: str) -> list[str]:
    """The lines on the screen after `written`, which may move up and to the line's start, and clear to its end or the screen's."""
    lines: list[list[str]] = [[]]
    row = column = 0
    for token in re.findall(r"\x1b\[\d*;?[\d;]*[A-Za-z]|.|\n", written, re.DOTALL):
        if token == "\n":
            row, column = row + 1, 0
            lines += [[] for _ in range(row + 1 - len(lines))]
        elif token == "\r":
            column = 0
        elif token.startswith("\x1b"):
            count, kind = token[2:-1], token[-1]
            if kind == "A":
                row = max(0, row - int(count or 1))
            elif kind in "JK":
                del lines[row][column:]
                if kind == "J":
                    del lines[row + 1 :]
            else:
                assert kind == "m", f"a code that this terminal does not know: {token!r}"
        else:
            line = lines[row]
            line += " " * (column + 1 - len(line))
            line[column] = token
            column += 1
    return ["".join(line).rstrip() for line in lines]
