"""A table in three notations (HTML, Markdown, LaTeX), its notes below it, and the paragraph that is read off it."""

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ctrcl.io import write_text
from ctrcl.report.stats import Interval

DASH = "–"
HEAD = ["Method", "Student"]
DSC = "DSC [95 %]"
BRIEF = 28  # letters: a cell of a plain frame that is no longer stays in one line
Column = tuple[str, Callable[[dict[Any, Any]], str]]  # its name, and what a row says there
TEX = {"\\": r"\textbackslash{}", "–": "--", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
TEX |= {"<": "$<$", ">": "$>$"}
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


def percent(value: float) -> str:
    """A share in percent; NaN is a dash."""
    return DASH if np.isnan(value) else f"{100 * value:.1f} %"


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


def framed(frame: pd.DataFrame, notes: Sequence[str] = (), index: bool = False) -> Shown:
    """A plain frame for Jupyter: three decimals, a dash for what is not there, only sentences broken; notes below."""
    said = frame.map(lambda cell: plain(cell) if isinstance(cell, float) else cell).fillna(DASH)
    safe = said.map(_unbroken).rename(columns=_escaped, index=_escaped)
    table = safe.to_html(index=index, border=0, justify="left", escape=False)
    below = f'<ul style="font-size:90%">{_items(notes)}</ul>' if notes else ""
    wide = f'<div style="overflow-x:auto;font-size:85%">{table}</div>'
    return Shown(f"{wide}{below}", markdown_of(said, notes, index))


def _escaped(cell: Any) -> Any:
    return html.escape(cell) if isinstance(cell, str) else cell


def _unbroken(cell: Any) -> Any:
    """A cell in HTML; a brief text in one line."""
    brief = isinstance(cell, str) and len(cell) <= BRIEF
    return f'<span style="white-space:nowrap">{html.escape(cell)}</span>' if brief else _escaped(cell)


def markdown_of(said: pd.DataFrame, notes: Sequence[str], index: bool = False) -> str:
    """A frame of words in Markdown, its notes below it."""
    return (
        "\n".join([said.to_markdown(index=index, disable_numparse=True), "", *(f"- {note}" for note in notes)]) + "\n"
    )


def save_frame(
    stem: Path, numbers: pd.DataFrame, said: pd.DataFrame, notes: Sequence[str], index: bool = False
) -> list[Path]:
    """Write `<stem>.csv` of the numbers, `.md` and `.tex` of the words; equal frames are equal bytes."""
    latex = said.rename(index=tex, columns=tex) if index else said.rename(columns=tex)
    latex = latex.map(lambda cell: tex(cell) if isinstance(cell, str) else cell)
    texts = {
        "csv": numbers.to_csv(index=index, float_format="%.6f", lineterminator="\n"),
        "md": markdown_of(said, notes, index),
        "tex": latex.to_latex(index=index, caption=tex(" ".join(notes))),
    }
    return save_texts(stem, texts)


def save_texts(stem: Path, texts: dict[str, str]) -> list[Path]:
    """Write `<stem>.<kind>` of every kind, each whole or not at all."""
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths


def _items(notes: Sequence[str]) -> str:
    return "".join(f"<li>{html.escape(note)}</li>" for note in notes)


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

    def panels(self) -> list[list[Column]]:
        """The columns of the three parts that are printed: how good, where it is wrong, and of what and at what price.

        Each part is as wide as a page of the site.
        """
        unit, reference = self.frame["unit"].iloc[0], short(self.title(self.reference))
        good: list[Column] = [
            (DSC, lambda row: spanned(row, "dsc")),
            (f"DSC to {reference} [95 %]", lambda row: self._gap(row)),
            ("p", lambda row: "< 0.001" if row["p_holm"] < 0.0005 else plain(row["p_holm"])),
            ("r", lambda row: signed(row["effect"], 2)),
            *((name.upper(), lambda row, name=name, n=n: plain(row[name], n)) for name, n in (("jac", 3), ("mae", 4))),
        ]
        if "published" in self.frame:
            stated: Column = ("DSC published", lambda row: plain(row["published"]))
            good.insert(1, stated)
            good.insert(2, ("ours less that", lambda row: signed(row["published_gap"])))
        wrong: list[Column] = [
            *((f"{n.upper()} ({unit})", lambda row, n=n: plain(row[n], 2)) for n in ("hd95", "assd")),
            *((f"{n.upper()} filled", lambda row, n=n: plain(row[f"{n}_full"], 2)) for n in ("hd95", "assd")),
            (f"Boundary ({unit})", lambda row: plain(row["boundary_error"], 2)),
            ("Mislocalised", lambda row: percent(row["mislocalised"])),
            ("Overlooked", lambda row: percent(row["components_missed"])),
            ("False alarms", lambda row: str(row["false_alarms"])),
        ]
        about: list[Column] = [
            ("Fidelity", lambda row: row["fidelity"]),
            ("Kind", lambda row: row["kind"]),
            ("Parameters", lambda row: f"{row['parameters'] / 1e6:.2f} M"),
            ("GFLOPs", lambda row: plain(row["gflops"], 2)),
            ("Seeds", lambda row: f"{plain(row['dsc_least'])} to {plain(row['dsc_most'])}"),
            ("Counted", lambda row: f"{row['counted']}/{row['pairs']} ({row['patients']})"),
            ("Distances", lambda row: f"{row['distances']}/{row['distances_of']}"),
        ]
        return [good, wrong, about]

    def _gap(self, row: dict[Any, Any]) -> str:
        if row["experiment"] in {self.reference, *self.frame["rival"]}:
            return "reference"
        return spanned(row, "difference", signed)

    def cells(self, bold: Callable[[str], str], escape: Callable[[str], str]) -> list[list[list[str]]]:
        """Of each panel header and body as text; a method's name stands on its first row only."""
        return [self._panel(columns, bold, escape) for columns in self.panels()]

    def _panel(
        self, columns: list[Column], bold: Callable[[str], str], escape: Callable[[str], str]
    ) -> list[list[str]]:
        lines, last = [[escape(name) for name in (*HEAD, *(name for name, _ in columns))]], ""
        for row in self.frame.to_dict("records"):
            first = "" if row["experiment"] == last else row["title"]
            who = row["student"] if row["student"] == "ensemble" else f"{row['student']}: {row['network']}"
            told = [escape(cell) for cell in (first, who)]
            for name, say in columns:
                cell = escape(say(row))
                told.append(bold(cell) if name == DSC and row["bold"] else cell)
            lines.append(told)
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
        panels = "".join(_html(cells) for cells in self.cells(lambda cell: f"<b>{cell}</b>", html.escape))
        return Shown(f'{panels}<ul style="font-size:90%">{_items(self.notes)}</ul>', self.markdown())

    def markdown(self) -> str:
        """The table and its notes in Markdown."""
        panels = []
        for head, *body in self.cells(lambda cell: f"**{cell}**", lambda cell: cell.replace("|", "\\|")):
            panels.append("\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body)))
        return "\n\n".join([*panels, "\n".join(f"- {note}" for note in self.notes)]) + "\n"

    def latex(self) -> str:
        """The table in LaTeX (packages booktabs and graphicx), its notes as the caption."""
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{tex(' '.join(self.notes))}}}"]
        for head, *body in self.cells(lambda cell: rf"\textbf{{{cell}}}", tex):
            lines += [r"\resizebox{\linewidth}{!}{%", rf"\begin{{tabular}}{{{'l' * len(head)}}}", r"\toprule"]
            lines.append(" & ".join(head) + r" \\")
            for cells in body:
                lines += [r"\midrule"] if cells[0] else []
                lines.append(" & ".join(cells) + r" \\")
            lines += [r"\bottomrule", r"\end{tabular}}", r"\medskip", ""]
        return "\n".join([*lines, r"\end{table}", ""])

    def save(self, stem: Path) -> list[Path]:
        """Write `<stem>.csv` (plain numbers), `.md` and `.tex`; equal tables are equal bytes."""
        texts = {
            "csv": self.frame.to_csv(index=False, float_format="%.6f", lineterminator="\n"),
            "md": self.markdown(),
            "tex": self.latex(),
        }
        return save_texts(stem, texts)

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


def _html(cells: list[list[str]]) -> str:
    head, *body = cells
    line = "".join(f'<th style="text-align:left">{cell}</th>' for cell in head)
    lines = [f"<tr>{line}</tr>"]
    for row in body:
        rule = ' style="border-top:1px solid #999"' if row[0] else ""
        breaks = ("normal", *["nowrap"] * (len(row) - 1))  # a long title may stand in two lines, a number may not
        line = "".join(
            f'<td style="text-align:left;white-space:{one}">{cell}</td>' for one, cell in zip(breaks, row, strict=True)
        )
        lines.append(f"<tr{rule}>{line}</tr>")
    return f'<div style="overflow-x:auto;font-size:85%;margin-bottom:1em"><table>{"".join(lines)}</table></div>'


def short(title: str) -> str:
    """A title without what stands in its brackets."""
    return title.partition(" (")[0]


def tex(text: str) -> str:
    """Text for LaTeX: special characters escaped, a minus before a digit."""
    escaped = "".join(TEX.get(letter, letter) for letter in text)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)
