"""Three test cases as the students segment them: under every method of the paper, and trained alone.

The second figure, the paper's motivation, is about claims 9 and 10: does the CNN alone mislocalise, and does the
Transformer alone blur boundaries? A component (full connectivity) is mislocalised if it shares no pixel with the true
class. The main table and the claims have both measures over all cases and seeds.
"""

from textwrap import fill

import matplotlib as mpl
import numpy as np
from scipy.ndimage import label

from ctrcl.io import UserError
from ctrcl.report.results import Results
from ctrcl.report.style import Drawing, short
from figures.pictures import ERRORS, cases, coloured, errors, grid, patches, picture

MISPLACED = "#00FF00"
KINDS = {"cnn": "CNN", "transformer": "Transformer"}


def figure(results: Results, dataset: str, student: str) -> Drawing:
    """Best, median and worst case of training alone (rows) as the paper's five segment them (columns)."""
    names, about = results.main(dataset), results.dataset(dataset)
    samples = {name: results.samples(dataset, name, f"probabilities_{student}") for name in names}
    first, panels = samples[names[0]], []
    for row, (image, truth) in enumerate(zip(map(picture, first["image"]), first["truth"], strict=True)):
        predicted = [of[f"probabilities_{student}"][row].argmax(0) for of in samples.values()]
        right_or_wrong = [[image, errors(labels, truth, about.colours)] for labels in predicted]
        panels.append([[image], [image, coloured(truth, about.colours)], *right_or_wrong])
    legend = patches(ERRORS | dict(zip(about.classes[1:], about.colours[1:], strict=True)), about)
    titles = ["image", "truth", *(fill(short(results.label(name)), 14) for name in names)]
    alt = f"{dataset}, student {student}: {', '.join(first['rank'])} case as {', '.join(names)} segment them."
    note = f"{dataset}, student {student}, first seed. DSC: of the whole case, mean over classes."
    drawn, axes = grid(panels, titles, cases(first), alt, about, note, legend=legend)
    for column, rows in zip(axes.T[2:], results.runs(dataset, names).values(), strict=True):
        scored = rows[(rows["student"] == student) & (rows["seed"] == rows["seed"].iloc[0])]
        scores = scored.groupby("case")["dsc"].mean().reindex(first["case"].astype(str))
        for ax, score in zip(column, scores, strict=True):
            ax.set_xlabel(f"DSC {score:.2f}", fontsize=7, labelpad=2)
    return drawn


def motivation(results: Results, dataset: str) -> Drawing:
    """The sampled cases (rows): image with truth, then what the CNN and the Transformer alone get wrong."""
    about, chosen = results.dataset(dataset), results.settings.students
    if chosen.a.kind == chosen.b.kind:
        raise UserError(f"both students of preset {results.preset} are {chosen.a.kind}s; this compares two kinds")
    students = sorted("ab", key=lambda student: getattr(chosen, student).kind)  # the CNN first
    samples = results.samples(dataset, "alone", "probabilities_a", "probabilities_b")
    panels = []
    for row, (image, truth) in enumerate(zip(map(picture, samples["image"]), samples["truth"], strict=True)):
        panels.append([[image, coloured(truth, about.colours)]])
        for predicted in [samples[f"probabilities_{student}"][row].argmax(0) for student in students]:
            shown = errors(predicted, truth, about.colours)
            shown[mislocalised(predicted, truth)] = mpl.colors.to_rgba(MISPLACED)
            panels[-1].append([image, shown])
    networks = [getattr(chosen, student) for student in students]
    titles = ["image and truth", *(f"{KINDS[one.kind]}\n({one.network})" for one in networks)]
    legend = patches({"in the wrong place": MISPLACED, **ERRORS}, about)
    alt = f"{dataset}: where CNN and Transformer alone mislocalise and miss boundaries, three cases."
    return grid(panels, titles, cases(samples), alt, about, f"{dataset}, trained alone, first seed.", legend=legend)[0]


def mislocalised(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The predicted components, class by class, that share no pixel with their true class."""
    found = np.zeros(truth.shape, bool)
    for k in range(1, predicted.max() + 1):
        labels, _ = label(predicted == k, np.ones((3, 3)))
        found |= (labels > 0) & ~np.isin(labels, labels[truth == k])
    return found
