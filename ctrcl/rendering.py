"""A table in three notations (HTML, Markdown, LaTeX), its notes below it, and the paragraph that is read off it."""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ctrcl.files import write_text
from ctrcl.statistics import Interval

DASH = "–"
HEAD = ["Method", "Fidelity", "Student", "Parameters", "DSC [95 %]", "Seeds", "Counted", "Distances", "False alarms"]
BOLD = HEAD.index("DSC [95 %]")
TEX = {"\\": r"\textbackslash{}", "–": "--", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
TEX |= {letter: f"\\{letter}" for letter in "&%$#_{}"}


def plain(value: float, digits: int = 3) -> str:
    """A number with fixed decimals; NaN is a dash."""
    return DASH if np.isnan(value) else f"{value:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign, which stays where it rounds to zero: a limit of -0.000 lies below zero."""
    return plain(value, digits) if np.isnan(value) or value == 0 else f"{value:+.{digits}f}"


def spanned(row: dict[Any, Any], name: str, form: Callable[[float], str] = plain) -> str:
    """An estimate with its limits in brackets."""
    if np.isnan(row[name]):
        return DASH
    return f"{form(row[name])} [{form(row[f'{name}_low'])}, {form(row[f'{name}_high'])}]"


class Lead(NamedTuple):
    """The best experiment of a student, the runner-up, and the paired difference between them."""

    best: str | None
    second: str | None
    gap: Interval


class Shown:
    """What Jupyter displays: HTML, or the Markdown as plain text."""

    def __init__(self, markup: str, text: str):
        self.markup, self.text = markup, text

    def _repr_html_(self) -> str:
        return self.markup

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """The main comparison.

    Attributes:
        frame: plain numbers, one row per experiment and student; `bold` marks the best.
        scale, dataset, reference: of what.
        leads: per student the best experiment and its lead.
        notes: what stands below the table.
    """

    frame: pd.DataFrame
    scale: str
    dataset: str
    reference: str
    leads: dict[str, Lead]
    notes: list[str]

    def cells(self, bold: Callable[[str], str], escape: Callable[[str], str]) -> list[list[str]]:
        """Header and body as text; a method's name stands on its first row only."""
        unit, reference = self.frame["unit"].iloc[0], short(self.title(self.reference))
        head = [*HEAD[:7], f"DSC to {reference} [95 %]", "JAC", "MAE", f"HD95 ({unit})", f"ASSD ({unit})", *HEAD[7:]]
        lines, last = [[escape(cell) for cell in head]], ""
        for row in self.frame.to_dict("records"):
            line = [escape(cell) for cell in _line(row, row["experiment"] == last, row["experiment"] == self.reference)]
            line[BOLD] = bold(line[BOLD]) if row["bold"] else line[BOLD]
            lines.append(line)
            last = row["experiment"]
        return lines

    @property
    def mixed(self) -> bool:
        """Whether the rows differ in more than the method: other networks, or another decoder."""
        return bool((self.frame["rival"] != self.reference)[self.frame["experiment"] != self.reference].any())

    def title(self, experiment: str) -> str:
        """What the table calls an experiment."""
        return self.frame.loc[self.frame["experiment"] == experiment, "title"].iloc[0]

    def show(self) -> Shown:
        """For Jupyter: the table and its notes."""
        head, *body = self.cells(lambda cell: f"<b>{cell}</b>", html.escape)
        line = "".join(f'<th style="text-align:left">{cell}</th>' for cell in head)
        lines = [f"<tr>{line}</tr>"]
        for cells in body:
            rule = ' style="border-top:1px solid #999"' if cells[0] else ""
            line = "".join(f'<td style="text-align:left;white-space:nowrap">{cell}</td>' for cell in cells)
            lines.append(f"<tr{rule}>{line}</tr>")
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        table = f'<div style="overflow-x:auto;font-size:85%"><table>{"".join(lines)}</table></div>'
        return Shown(f'{table}<ul style="font-size:90%">{notes}</ul>', self.markdown())

    def markdown(self) -> str:
        """The table and its notes in Markdown."""
        head, *body = self.cells(lambda cell: f"**{cell}**", lambda cell: cell.replace("|", "\\|"))
        lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body)]
        return "\n".join(lines) + "\n\n" + "\n".join(f"- {note}" for note in self.notes) + "\n"

    def latex(self) -> str:
        """The table in LaTeX (packages booktabs and graphicx), its notes as the caption."""
        head, *body = self.cells(lambda cell: rf"\textbf{{{cell}}}", tex)
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{tex(' '.join(self.notes))}}}"]
        lines += [r"\resizebox{\linewidth}{!}{%", rf"\begin{{tabular}}{{{'l' * len(head)}}}", r"\toprule"]
        lines.append(" & ".join(head) + r" \\")
        for cells in body:
            lines += [r"\midrule"] if cells[0] else []
            lines.append(" & ".join(cells) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""])

    def save(self, stem: Path) -> list[Path]:
        """Write `<stem>.csv` (plain numbers), `.md` and `.tex`; equal tables are equal bytes."""
        texts = {
            "csv": self.frame.to_csv(index=False, float_format="%.6f", lineterminator="\n"),
            "md": self.markdown(),
            "tex": self.latex(),
        }
        paths = [stem.with_name(f"{stem.name}.{kind}") for kind in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            write_text(path, text)
        return paths

    def text(self) -> str:
        """One paragraph, read off the numbers: who gains over the reference, and whether the interval says so."""
        parts = [
            f"On {self.dataset} (scale {self.scale}), DSC against {short(self.title(self.reference))}"
            f"{', or training alone with the same networks' if self.mixed else ''}, case by case."
        ]
        for student, rows in self.frame.groupby("student", sort=False):
            network = "" if self.mixed else f" ({rows['network'].iloc[0]})"
            name = "The ensemble" if student == "ensemble" else f"Student {student}{network}"
            parts.append(f"{name} {'; '.join(self._verdicts(rows))}. {self._leading(str(student))}")
        return " ".join([*parts, *(note for note in self.notes if note.startswith(("Drawn", "From scratch")))])

    def _verdicts(self, rows: pd.DataFrame) -> list[str]:
        kinds: dict[str, list[str]] = {}
        for row in rows[rows["rival"] != ""].to_dict("records"):
            found = Interval(row["difference"], row["difference_low"], row["difference_high"], row["patients"])
            said = f"{short(row['title'])} {spanned(row, 'difference', signed)}"
            kinds.setdefault("unknown" if np.isnan(found.low) else str(found.sign), []).append(said)
        words = {
            "1": "gains with {} (interval above zero)",
            "-1": "loses with {} (interval below zero)",
            "0": "is undecided with {} (interval holds zero)",
            "unknown": "cannot be judged with {} (no interval)",
        }
        return [words[kind].format(", ".join(kinds[kind])) for kind in words if kind in kinds] or ["has no rival"]

    def _leading(self, student: str) -> str:
        best, second, gap = self.leads[student]
        if best is None or second is None:
            return ""
        row = {"gap": gap.estimate, "gap_low": gap.low, "gap_high": gap.high}
        sure = "an interval above zero" if gap.sign > 0 else "not an interval above zero, so nothing is bold"
        names = short(self.title(best)), short(self.title(second))
        return f"Best is {names[0]}, before {names[1]} by {spanned(row, 'gap', signed)}: {sure}."


def _line(row: dict[Any, Any], repeated: bool, reference: bool) -> list[str]:
    return [
        *(["", ""] if repeated else [row["title"], row["fidelity"]]),
        row["student"] if row["student"] == "ensemble" else f"{row['student']}: {row['network']} ({row['kind']})",
        f"{row['parameters'] / 1e6:.2f} M",
        spanned(row, "dsc"),
        f"{plain(row['dsc_least'])} to {plain(row['dsc_most'])}",
        f"{row['counted']}/{row['pairs']} ({row['patients']})",
        "reference" if reference or not row["rival"] else spanned(row, "difference", signed),
        plain(row["jac"]),
        plain(row["mae"], 4),
        plain(row["hd95"], 2),
        plain(row["assd"], 2),
        f"{row['distances']}/{row['distances_of']}",
        str(row["false_alarms"]),
    ]


def short(title: str) -> str:
    """A title without what stands in its brackets."""
    return title.partition(" (")[0]


def tex(text: str) -> str:
    """Text for LaTeX: special characters escaped, a minus before a digit."""
    escaped = "".join(TEX.get(letter, letter) for letter in text)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)
