"""Weights to label maps on the original grid, a few slices at a time: a volume's probabilities never stand together.

Probabilities are resized bilinearly to the original grid, then argmax. `ensemble` is the mean of both students'
probabilities, at double cost: it tells collaboration from ensembling. What evaluation needs is kept: label maps and,
since it needs probabilities, MAE; metrics are computed from these as often as one likes, without weights.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.utils.flop_counter
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ctrcl.data.batches import scaled, standardised
from ctrcl.data.preparation import Prepared
from ctrcl.engine.metrics import overlap
from ctrcl.io import UserError, read_rows, write_arrays, write_text
from ctrcl.losses.targets import presence
from ctrcl.models.students import Student, Teacher, load

AT_ONCE = 32  # images or slices


@torch.inference_mode()
def probabilities(student: Student, images: np.ndarray, device: torch.device | None = None) -> Float[Tensor, "n k s s"]:
    """Class probabilities of a few prepared images, on the device."""
    batch = torch.from_numpy(np.array(images)).to(device)
    return student.to(device).eval()(standardised(scaled(batch))).probabilities


def on_grid(planes: Float[Tensor, "n k s s"], shape: tuple[int, int]) -> Float[np.ndarray, "n k h w"]:
    """Probabilities resized bilinearly to a slice's original size."""
    return functional.interpolate(planes, size=shape, mode="bilinear", align_corners=False).cpu().numpy()


def planes_of(
    students: dict[str, Student], images: np.ndarray, shape: tuple[int, int], device: torch.device | None = None
) -> Iterator[dict[str, Float[np.ndarray, "n k h w"]]]:
    """Class probabilities on the original grid by each student, `AT_ONCE` slices after the other; by two, also of
    their ensemble."""
    for first in range(0, len(images), AT_ONCE):
        part = {name: probabilities(one, images[first : first + AT_ONCE], device) for name, one in students.items()}
        if len(part) > 1:
            part["ensemble"] = torch.stack(list(part.values())).mean(0)
        yield {name: on_grid(planes, shape) for name, planes in part.items()}


def on_test_cases(
    students: dict[str, Student], data: Prepared, device: torch.device | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Each test case with its label maps, uint8 on its grid, and the mean absolute error of every class."""
    images = data.images("test")
    for case in data.cases("test"):
        truth = np.atleast_3d(data.truth(case))
        maps: dict[str, np.ndarray] = {}
        wrong: dict[str, np.ndarray] = {}
        first = 0
        for planes in planes_of(
            students, images[case["first"] : case["first"] + case["slices"]], tuple(case["shape"][:2]), device
        ):
            for name, p in planes.items():
                map_ = maps.setdefault(name, np.empty(truth.shape, np.uint8))
                part = slice(first, first + len(p))
                map_[..., part] = np.moveaxis(p.argmax(1), 0, 2)
                classes = np.arange(p.shape[1]).reshape(-1, 1, 1)
                there = np.moveaxis(truth[..., part], 2, 0)[:, None] == classes
                wrong[name] = wrong.get(name, 0) + np.abs(p - there).sum((0, 2, 3), dtype=np.float64)
            first += len(p)
        yield (
            case,
            {n: m.reshape(case["shape"]) for n, m in maps.items()},
            {n: w / truth.size for n, w in wrong.items()},
        )


def predict(weights: Path, data: Prepared, seed: int, target: Path, device: torch.device | None = None) -> None:
    """Test one seed's students, `weights/a.safetensors` and `b.safetensors`.

    Leaves `target/seed<k>-<student>.npz` (label maps by case) and `seed<k>-mae.csv` (student, case, class, mae).
    """
    students = {name: load(weights / f"{name}.safetensors")[0] for name in ("a", "b")}
    maps: dict[str, dict[str, np.ndarray]] = {}
    errors = []
    for case, found, wrong in on_test_cases(students, data, device):
        for name, label_map in found.items():
            maps.setdefault(name, {})[case["id"]] = label_map
            named = zip(data.manifest["classes"][1:], wrong[name][1:], strict=True)
            errors += [{"student": name, "case": case["id"], "class": k, "mae": error} for k, error in named]
    for name, arrays in maps.items():
        write_arrays(target / f"seed{seed}-{name}.npz", arrays)
    write_text(target / f"seed{seed}-mae.csv", pd.DataFrame(errors).to_csv(index=False, lineterminator="\n"))


@torch.inference_mode()
def profile_cost(student: Student, device: torch.device, repeats: int = 10) -> tuple[float, float]:
    """GFLOPs of one image, a multiply-add counted as two operations, and the median of its milliseconds."""
    design = student.design
    images = torch.zeros(1, design.channels, design.size, design.size, device=device)
    student.to(device).eval()
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        student(images)
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        student(images).logits.cpu()  # waits for a GPU
        times.append(time.perf_counter() - begun)
    return counter.get_total_flops() / 1e9, 1e3 * float(np.median(times))


def confirm_teachers(
    teachers: dict[str, Teacher], reported: Path, seed: int, data: Prepared, device: torch.device | None = None
) -> None:
    """Test every teacher before anybody learns from it.

    Args:
        teachers: by student's name, as loaded for the method.
        reported: the rows of their own stage.

    Raises:
        UserError: a mean DSC that is not the one reported: these are other weights, or other data.
    """
    rows = read_rows(reported).query("seed == @seed")
    for name, teacher in teachers.items():
        found: list[float] = []
        for case, maps, _ in on_test_cases({name: teacher.student}, data, device):
            truth = data.truth(case)
            found += [overlap(maps[name] == k, truth == k) for k in range(1, len(data.manifest["classes"]))]
        score, stated = np.nanmean(found), rows.loc[rows["student"] == name, "dsc"].mean()
        if not abs(score - stated) < 1e-4:
            who = f"teacher {name} of {reported.stem} ({teacher.student.design.network})"
            raise UserError(
                f"{who} has DSC {score:.4f}, but {reported} states {stated:.4f}; train {reported.stem} again"
            )


@torch.inference_mode()
def linear_probe(students: Any, method: Any, data: Prepared, device: torch.device) -> dict[str, float]:
    """Collapse check of CFCL: how well a linear probe reads the class out of the CPM embeddings.

    Embeddings of the classes present in the validation slices (test slices where there are none), of the last stage;
    least squares on every other slice, balanced accuracy on the rest. Chance is 1 / classes; collapsed embeddings are
    at chance.

    Args:
        students, method: as trained; `method.perceive` gives the embeddings.
    """
    part = "validation" if data.cases("validation") else "test"
    classes = len(data.manifest["classes"])
    vectors: dict[str, list[Tensor]] = {name: [] for name in students}
    owners: list[Tensor] = []
    images, labels = data.images(part), data.labels(part)
    for first in range(0, len(images), AT_ONCE):
        batch = standardised(scaled(torch.from_numpy(np.array(images[first : first + AT_ONCE])).to(device)))
        target = torch.from_numpy(np.array(labels[first : first + AT_ONCE])).to(device).long()
        there = presence(target, classes)
        for name, student in students.items():
            features = student.eval()(batch).features
            perceived = method.eval().perceive(name, [features[stage] for stage in method.stages], target)[-1]
            vectors[name].append(perceived.embeddings.float()[there].cpu())
        owners.append(there.nonzero().cpu() + torch.tensor([first, 0]))
    slices, owner = torch.cat(owners).unbind(1)
    half = slices % 2 == 0
    found = {}
    for name, parts in vectors.items():
        x = functional.pad(torch.cat(parts).double(), (0, 1), value=1.0)
        y = functional.one_hot(owner, classes).double()
        ridge = 1e-3 * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.linalg.solve(x[half].T @ x[half] + ridge, x[half].T @ y[half])
        rest = owner[~half]
        right = ((x[~half] @ weights).argmax(1) == rest).double()
        found[name] = round(float(np.nanmean([right[rest == k].mean() for k in rest.unique()])), 4)
    return found
