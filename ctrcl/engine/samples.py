"""What the figures are drawn from: a few test cases, the same for every experiment of the main table.

The rule: test cases are ranked by the DSC of training alone (mean over classes, both students and all seeds); the
best, the median and the worst are stored, a volume by its slice with the largest true foreground. Seed: the first.

    results/<preset>/samples/<dataset>/<experiment>.npz, arrays over the three cases at the prepared size
      rank, case, slice           which cases
      image, truth                N C S S float16 in [0, 1]; N S S
      probabilities_{a,b}         N K S S uint8, in 1/255
      error_, alignment_, similarity_, certainty_, weight_{a,b}   N S S: the rectification of a student's soft label
      maps<stage>_{a,b}           N K h w: what its CPMs see (experiments with CFCL)
      pyramid_{a,b}               4 x 2: channels and side of a student's four feature maps

and, over all R seeds and up to M = 60 test cases evenly taken (of a volume the same slice), vectors without images:
      centres_{a,b}               R M K D float16: where each class lies in the last stage's features
      shared_{a,b}                R M K D: the class embeddings that both students share (experiments with CFCL)

A class's centre is the mean of the feature, each position weighted by the share of its pixels that are of the class (at
64 pixels the last stage has four positions: a reduction to the nearest pixel would lose most classes); NaN where
an image does not hold the class. Centres are stored in their D = 16 leading principal components, each seed and student
its own; the shared embeddings of both students in those of both together. Scaled to a mean square of 1.
"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from ctrcl import methods
from ctrcl.config import Settings
from ctrcl.data.batches import scaled, standardised
from ctrcl.data.preparation import Prepared
from ctrcl.engine.run import RunPaths
from ctrcl.io import UserError, read_rows, replacing, write_arrays
from ctrcl.losses.rectification import rectify
from ctrcl.losses.targets import one_hot, presence
from ctrcl.methods.base import Shape
from ctrcl.methods.ctrcl import CTRCL
from ctrcl.models.students import load, load_tensors

MOST, COMPONENTS = 60, 16  # cases and dimensions of the feature spaces
BATCH = 8


def chosen(alone: pd.DataFrame) -> pd.DataFrame:
    """The cases by the rule, from the rows of training alone: columns rank, case, dsc."""
    lone = alone[alone["student"] != "ensemble"]
    by_case = lone.groupby(["case", "class"])["dsc"].mean().groupby("case").mean().dropna()
    order = by_case.reset_index().sort_values(["dsc", "case"], ascending=[False, True]).reset_index(drop=True)
    picked = order.iloc[[0, len(order) // 2, -1]]
    return picked.assign(rank=["best", "median", "worst"])[["rank", "case", "dsc"]].reset_index(drop=True)


def collect(settings: Settings, dataset: str) -> None:
    """Write the samples of every experiment of the main table on a data set, all files or none."""
    experiments = settings.listed("main", dataset)
    torch.set_num_threads(settings.machine.threads)
    rows = RunPaths(settings.preset, dataset, "alone").cases
    if not rows.exists():
        raise UserError(f"{rows} is missing; run `ctrcl train {dataset} alone` first")
    picked = chosen(read_rows(rows))
    data = Prepared(RunPaths(settings.preset, dataset).prepared)
    names = [case["id"] for case in data.cases("test")]
    taken = np.linspace(0, len(names) - 1, min(len(names), MOST)).round().astype(int)
    shown, space = _slices(list(picked["case"]), data), _slices([names[place] for place in taken], data)
    shown["rank"] = picked["rank"].to_numpy(str)
    with replacing(RunPaths(settings.preset, dataset).samples) as draft:
        draft.mkdir()
        for experiment in experiments:
            trained = [Trained(settings, dataset, experiment, seed) for seed in settings.experiment(experiment).seeds]
            arrays = shown | _seen(trained[0], shown) | _spaces(trained, space)
            write_arrays(draft / f"{experiment}.npz", arrays)


class Trained:
    """The students of one seed, how their method rectifies, and its CFCL part (`category`) where it has one."""

    def __init__(self, settings: Settings, dataset: str, experiment: str, seed: int):
        weights = RunPaths(settings.preset, dataset, experiment).weights
        self.students = {name: load(weights / f"seed{seed}-{name}.safetensors")[0] for name in ("a", "b")}
        options = methods.options(settings.experiment(experiment))
        named = ("factors", "constant", "temperature") if hasattr(options, "factors") else ()  # others: by default
        self.arm = {name: getattr(options, name) for name in named}
        self.category: CTRCL | None = None
        path = weights / f"seed{seed}-method.safetensors"
        if path.exists():
            widths = {name: student.widths for name, student in self.students.items()}
            classes = self.students["a"].design.classes
            objective = methods.build(settings.experiment(experiment), Shape(widths, classes)).eval()
            objective.load_state_dict(load_tensors(path)[0])
            self.category = objective.method if isinstance(objective.method, CTRCL) else None


def _slices(names: list[str], data: Prepared) -> dict[str, np.ndarray]:
    """Of each case the slice with the largest true foreground: `case`, `slice`, `image` float16 in [0, 1], `truth`."""
    cases = {case["id"]: case for case in data.cases("test")}
    labels, first = data.labels("test"), np.array([cases[name]["first"] for name in names])
    foreground = ((labels[cases[name]["first"] :][: cases[name]["slices"]] > 0).sum((1, 2)) for name in names)
    offset = np.array([int(sizes.argmax()) for sizes in foreground])
    shown = scaled(torch.from_numpy(np.array(data.images("test")[first + offset]))).numpy().astype(np.float16)
    return {"case": np.array(names), "slice": offset, "image": shown, "truth": np.array(labels[first + offset])}


@torch.inference_mode()
def _seen(trained: Trained, shown: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    images = standardised(torch.from_numpy(shown["image"]).float())
    target = torch.from_numpy(shown["truth"]).long()
    predictions = {name: student(images) for name, student in trained.students.items()}
    arrays: dict[str, np.ndarray] = {}
    for name, prediction in predictions.items():
        arrays[f"probabilities_{name}"] = (prediction.probabilities * 255).round().to(torch.uint8).numpy()
        rectified = rectify(prediction.logits, target, **trained.arm)
        arrays[f"error_{name}"] = rectified.error.numpy()
        for factor in ("alignment", "similarity", "certainty", "weight"):
            arrays[f"{factor}_{name}"] = getattr(rectified, factor).numpy().astype(np.float16)
        arrays[f"pyramid_{name}"] = np.array([map_.shape[1:3] for map_ in prediction.features])
        if method := trained.category:
            features = [prediction.features[stage] for stage in method.stages]
            for stage, seen in zip(method.stages, method.perceive(name, features, target), strict=True):
                arrays[f"maps{stage + 1}_{name}"] = seen.maps.softmax(1).numpy().astype(np.float16)
    return arrays


@torch.inference_mode()
def _spaces(trained: list[Trained], space: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Class centres and shared class embeddings of every seed."""
    arrays: dict[str, list[np.ndarray]] = {}
    for one in trained:
        parts = [_vectors(one, space, first) for first in range(0, len(space["case"]), BATCH)]
        vectors = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        for name in one.students:
            arrays.setdefault(f"centres_{name}", []).append(_unit(principal(vectors[f"centres_{name}"], COMPONENTS)))
        if "shared_a" in vectors:
            both = np.stack([vectors[f"shared_{name}"] for name in one.students])
            for name, points in zip(one.students, _unit(principal(both, COMPONENTS)), strict=True):
                arrays.setdefault(f"shared_{name}", []).append(points)
    return {key: np.stack(parts) for key, parts in arrays.items()}


def _vectors(one: Trained, space: dict[str, np.ndarray], first: int) -> dict[str, np.ndarray]:
    """Of a batch of cases the class centres M K C and, with CPMs, the class embeddings M K d of the last stage."""
    target = torch.from_numpy(space["truth"][first : first + BATCH]).long()
    images = standardised(torch.from_numpy(space["image"][first : first + BATCH]).float())
    arrays = {}
    for name, student in one.students.items():
        features = student(images).features
        arrays[f"centres_{name}"] = centres(features[-1], target, student.design.classes).numpy()
        if one.category and one.category.cpms:
            seen = one.category.perceive(name, [features[stage] for stage in one.category.stages], target)[-1]
            there = presence(target, student.design.classes)[:, :, None]
            arrays[f"shared_{name}"] = seen.embeddings.where(there, torch.nan).numpy()
    return arrays


def centres(
    features: Float[Tensor, "b c h w"], target: Integer[Tensor, "b H W"], classes: int
) -> Float[Tensor, "b k c"]:
    """The mean feature of each class, positions weighted by the share of their pixels of that class; NaN if absent."""
    truth, _ = one_hot(target, classes)
    weight = functional.adaptive_avg_pool2d(truth, (features.shape[2], features.shape[3])).flatten(2)
    return weight @ features.float().flatten(2).transpose(1, 2) / weight.sum(2, keepdim=True)


def _unit(points: np.ndarray) -> np.ndarray:
    """Scaled to a mean square of 1, as float16."""
    size = np.sqrt(np.nanmean(points**2))
    return (points / (size if size > 0 else 1)).astype(np.float16)


def principal(points: np.ndarray, count: int) -> np.ndarray:
    """Points (..., C) in their `count` leading principal components.

    Fewer components where there are not so many. Rows that hold a NaN take no part and stay NaN. The sign of a
    component is fixed: the largest entry of its axis (the first, where two are as large) is positive.
    """
    centred = points - np.nanmean(points, axis=tuple(range(points.ndim - 1)), dtype=np.float64)
    flat = centred.reshape(-1, points.shape[-1])
    axes = np.linalg.svd(flat[~np.isnan(flat).any(1)], full_matrices=False)[2][:count]
    axes = axes * np.sign(np.take_along_axis(axes, abs(axes).argmax(1)[:, None], 1))
    return centred @ axes.T
