"""A table of plain numbers and what is printed of it: HTML, Markdown and LaTeX with notes below."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from ctrcl.io import write_rows, write_text
from ctrcl.report.stats import Estimate

DASH = "–"
TEX: Any = {"\\": r"\textbackslash{}", "–": "--", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
TEX |= {"<": "$<$", ">": "$>$"} | {letter: f"\\{letter}" for letter in "&%$#_{}"}
NOTATIONS: dict[str, tuple[Callable[[str], str], str]] = {  # how text is escaped, and how a bold cell is written
    "html": (html.escape, "<b>{}</b>"),
    "tex": (lambda text: text.translate(str.maketrans(TEX)), r"\textbf{{{}}}"),
    "md": (lambda text: text.replace("|", "\\|"), "**{}**"),
}
HTML: Any = [
    {"selector": "th, td", "props": "text-align:left"},
    {"selector": "td:not(:first-child)", "props": "white-space:nowrap"},  # a label may stand in two lines
]


class Bold(str):
    """A cell that is printed bold."""


def plain(value: float, digits: int = 3) -> str:
    """A number with fixed decimals; NaN is a dash."""
    return DASH if np.isnan(value) else f"{value:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign, which stays where it rounds to zero: a limit of -0.000 is below zero."""
    return plain(value, digits) if np.isnan(value) or value == 0 else f"{value:+.{digits}f}"


def percent(value: float) -> str:
    """A share in percent; NaN is a dash."""
    return DASH if np.isnan(value) else f"{100 * value:.1f} %"


def spanned(row: Any, name: str, form: Any = plain) -> str:
    """An estimate with its limits in brackets, from the columns `<name>`, `<name>_low`, `<name>_high`."""
    value, low, high = (row[column] for column in (name, f"{name}_low", f"{name}_high"))
    return DASH if np.isnan(value) else f"{form(value)} [{form(low)}, {form(high)}]"


def flat(name: str, found: Estimate) -> dict[str, float]:
    """An estimate with its 95 % limits as three columns: `<name>`, `<name>_low`, `<name>_high`."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), (found.mean, *found.interval()), strict=True))


def columns(frame: pd.DataFrame, forms: dict[str, Callable[[Any], Any]]) -> pd.DataFrame:
    """A printed column per entry, each cell made of a row."""
    rows = frame.to_dict("records")
    return pd.DataFrame({head: [form(row) for row in rows] for head, form in forms.items()})


def written(part: pd.DataFrame, notation: str) -> pd.DataFrame:
    """A frame as text of a notation: floats with three decimals, a dash for what is not there."""
    escape, bold = NOTATIONS[notation]

    def cell(value: Any) -> str:
        text = plain(value) if isinstance(value, float) else DASH if value is None else str(value)
        return bold.format(escape(text)) if isinstance(value, Bold) else escape(text)

    return part.map(cell).set_axis([escape(name) for name in part.columns], axis=1)


@dataclass(frozen=True)
class Table:
    """Numbers and what is printed of them; the last line of a notebook's cell shows it."""

    frame: pd.DataFrame  # plain numbers, as `save` writes them to CSV
    parts: list[pd.DataFrame]  # what is printed, each part as wide as a page
    notes: Sequence[str] = ()  # what stands below
    text: str = ""  # what the numbers say, in one sentence

    def _repr_html_(self) -> str:
        wide = []
        for number, part in enumerate(self.parts, start=1):
            style = Styler(written(part, "html"), uuid=f"part-{number}", cell_ids=False).hide(axis="index")
            shown = style.set_table_styles(HTML).to_html()
            wide.append(f'<div style="overflow-x:auto;font-size:85%;margin-bottom:1em">{shown}</div>')
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return "".join([*wide, f'<ul style="font-size:90%">{notes}</ul>' if notes else ""])

    def markdown(self) -> str:
        """Parts and notes in Markdown."""
        parts = [written(part, "md").to_markdown(index=False, disable_numparse=True) for part in self.parts]
        return "\n\n".join([*parts, "\n".join(f"- {note}" for note in self.notes)]).rstrip() + "\n"

    __repr__ = markdown

    def latex(self) -> str:
        """One LaTeX table (packages booktabs and graphicx), the notes as its caption."""
        caption = NOTATIONS["tex"][0](" ".join(self.notes))
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}"]
        for part in self.parts:
            tabular = Styler(written(part, "tex")).hide(axis="index").to_latex(hrules=True)
            lines += [r"\resizebox{\linewidth}{!}{%", f"{tabular.rstrip()}}}", r"\medskip"]
        return "\n".join([*lines, r"\end{table}", ""])

    def save(self, stem: Path) -> None:
        """Write `<stem>.csv` (plain numbers), `.md` and `.tex`; equal tables are equal bytes."""
        write_rows(stem.with_name(f"{stem.name}.csv"), self.frame)
        write_text(stem.with_name(f"{stem.name}.md"), self.markdown())
        write_text(stem.with_name(f"{stem.name}.tex"), self.latex())
