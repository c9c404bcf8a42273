"""Write the tables of docs/methods.md and docs/data.md from the code: `python docs/tables.py`.

A table stands between `<!-- methods -->` (or `<!-- data -->`) and `<!-- end -->`.
"""

import re
from pathlib import Path

from ctrcl import data, methods
from ctrcl.io import read_text, write_text

PAGES = Path(__file__).parent


def method_table() -> str:
    """Every method; options in the equation have their default values."""
    lines = [
        "| method | label | family | fidelity | adds to the students' losses | source |",
        "|---|---|---|---|---|---|",
    ]
    for name in methods.names():
        method = methods.get(name)
        equation = method.equation.format(**{key: of.default for key, of in method.Options.model_fields.items()})
        cells = (f"`{name}`", method.label, method.family, method.fidelity, equation, method.citation)
        lines.append(row(*cells))
    return "\n".join(lines)


def data_table() -> str:
    """Every built-in data set."""
    lines = ["| data set | foreground classes | cite | terms | request from |", "|---|---|---|---|---|"]
    for name in data.names():
        one = data.get(name)
        about = ("drawn for this project", "Apache-2.0", "in this repository") if one.drawn else None
        lines.append(row(f"`{name}`", ", ".join(one.classes[1:]), *(about or (one.citation, one.terms, one.source))))
    return "\n".join(lines)


def row(*cells: str) -> str:
    """A line of a Markdown table."""
    escaped = (cell.replace("|", "\\|").replace("*", "\\*") for cell in cells)
    return f"| {' | '.join(escaped)} |"


TABLES = {"methods": method_table, "data": data_table}


def filled(name: str) -> str:
    """The text of `docs/<name>.md` with its table as the code gives it."""
    block = f"<!-- {name} -->\n{TABLES[name]()}\n<!-- end -->"
    return re.sub(rf"<!-- {name} -->.*?<!-- end -->", lambda _: block, read_text(PAGES / f"{name}.md"), flags=re.DOTALL)


if __name__ == "__main__":
    for page in TABLES:
        write_text(PAGES / f"{page}.md", filled(page))
