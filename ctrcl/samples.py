"""What the figures are drawn from: a few test cases, the same for every experiment of the main table.

The rule: test cases are ranked by the DSC of training alone (mean over classes, both students and all seeds); the
best, the median and the worst are kept, a volume by its slice with the largest true foreground. Seed: the first.

    results/<scale>/samples/<dataset>/<experiment>.npz, arrays over the three cases at the prepared size
      rank, case, slice, dsc      which cases, and the DSC they were ranked by
      image, truth                N C S S float16 in [0, 1]; N S S
      probabilities_{a,b}         N K S S uint8, in 1/255
      error_, alignment_, similarity_, certainty_, weight_{a,b}   N S S: the rectification of a student's soft label
      maps<stage>_{a,b}, embeddings<stage>_{a,b}                  what its CPMs see (experiments with CFCL)
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ctrcl import methods
from ctrcl.batches import scaled, standardised
from ctrcl.files import UserError, replacing, write_arrays
from ctrcl.losses.soft_labels import rectify
from ctrcl.methods.collaborative import CategoryAware
from ctrcl.models.students import Prediction, load, load_tensors
from ctrcl.preparation import Prepared
from ctrcl.rows import read_rows
from ctrcl.runs import Places
from ctrcl.settings import Settings

RANKS = ("best", "median", "worst")


def chosen(alone: pd.DataFrame) -> pd.DataFrame:
    """The cases by the rule, from the rows of training alone: columns rank, case, dsc."""
    lone = alone[alone["student"] != "ensemble"]
    by_case = lone.groupby(["case", "class"])["dsc"].mean().groupby("case").mean().dropna()
    order = by_case.reset_index().sort_values(["dsc", "case"], ascending=[False, True]).reset_index(drop=True)
    picked = order.iloc[[0, len(order) // 2, -1]]
    return picked.assign(rank=list(RANKS))[["rank", "case", "dsc"]].reset_index(drop=True)


def collect(settings: Settings, dataset: str) -> None:
    """Write the samples of every experiment of the main table on a data set, all files or none."""
    settings.size(dataset)
    experiments = settings.tables["main"].get(dataset)
    if not experiments or "alone" not in experiments:
        raise UserError(f"tables.main.{dataset} of params.yaml must list `alone`: the cases are chosen by it")
    torch.set_num_threads(settings.machine.threads)
    rows = Places(settings.scale, dataset, "alone").cases
    if not rows.exists():
        raise UserError(f"{rows} is missing; run `ctrcl train {dataset} alone` first")
    picked = chosen(read_rows(rows))
    data = Prepared(Places(settings.scale, dataset).prepared)
    shown = _pictures(picked, data)
    with replacing(Places(settings.scale, dataset).samples) as draft:
        draft.mkdir()
        for experiment in experiments:
            weights = Places(settings.scale, dataset, experiment).weights
            values = settings.experiment(experiment)
            write_arrays(
                draft / f"{experiment}.npz",
                shown | _seen(weights, settings.seeds_of(experiment)[0], experiment, values, shown),
            )


def _pictures(picked: pd.DataFrame, data: Prepared) -> dict[str, np.ndarray]:
    cases = {case["id"]: case for case in data.cases("test")}
    images, labels = data.images("test"), data.labels("test")
    places = []
    for name in picked["case"]:
        first, count = cases[name]["first"], cases[name]["slices"]
        foreground = (labels[first : first + count] > 0).sum((1, 2))
        places.append((first, int(foreground.argmax())))
    where = [first + offset for first, offset in places]
    return {
        "rank": picked["rank"].to_numpy(str),
        "case": picked["case"].to_numpy(str),
        "dsc": picked["dsc"].to_numpy(),
        "slice": np.array([offset for _, offset in places]),
        "image": scaled(torch.from_numpy(np.array(images[where]))).numpy().astype(np.float16),
        "truth": np.array(labels[where]),
    }


@torch.inference_mode()
def _seen(
    weights: Path, seed: int, experiment: str, values: dict[str, Any], shown: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    images = standardised(torch.from_numpy(shown["image"]).float())
    target = torch.from_numpy(shown["truth"]).long()
    students = {name: load(weights / f"seed{seed}-{name}.safetensors")[0] for name in ("a", "b")}
    predictions = {name: student(images) for name, student in students.items()}
    kept: dict[str, np.ndarray] = {}
    for name, prediction in predictions.items():
        kept[f"probabilities_{name}"] = (prediction.probabilities * 255).round().to(torch.uint8).numpy()
        rectified = rectify(prediction.logits, target)
        kept[f"error_{name}"] = rectified.error.numpy()
        for factor in ("alignment", "similarity", "certainty", "weight"):
            kept[f"{factor}_{name}"] = getattr(rectified, factor).numpy().astype(np.float16)
    trained = weights / f"seed{seed}-method.safetensors"
    if trained.exists():
        widths = {name: student.widths for name, student in students.items()}
        method = methods.build(experiment, values, widths, predictions["a"].logits.shape[1]).eval()
        method.load_state_dict(load_tensors(trained)[0])
        for part in method.parts:
            if isinstance(part, CategoryAware):
                kept |= _perceived(part, predictions, target)
    return kept


def _perceived(part: CategoryAware, predictions: dict[str, Prediction], target: Tensor) -> dict[str, np.ndarray]:
    kept = {}
    for name, prediction in predictions.items():
        features = [prediction.features[stage] for stage in part.stages]
        for stage, seen in zip(part.stages, part.perceive(name, features, target), strict=True):
            kept[f"maps{stage + 1}_{name}"] = seen.maps.softmax(1).numpy().astype(np.float16)
            kept[f"embeddings{stage + 1}_{name}"] = seen.embeddings.numpy().astype(np.float16)
    return kept
