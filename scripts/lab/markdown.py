"""Tables as Markdown, for documents that quote them."""

import pandas as pd


def to_markdown(table: pd.DataFrame) -> str:
    """`table` as Markdown has it, its last line without an end."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).values.tolist()]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
