"""Weights to label maps on the original grid, a few slices at a time, so that a volume's probabilities are never held
together.

Probabilities are resized bilinearly to the original grid, then argmax. `ensemble` is the mean of both students'
probabilities, at double cost: it separates the effect of collaboration from that of ensembling. What evaluation needs
is stored: label maps and, since it needs probabilities, MAE. Metrics are computed from these without weights.
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
from ctrcl.io import write_arrays, write_text
from ctrcl.losses.targets import presence
from ctrcl.models.students import Student, load

AT_ONCE = 32  # images or slices


def ready(images: np.ndarray, device: torch.device | None = None) -> Float[Tensor, "n c s s"]:
    """Prepared images as a student takes them, on the device."""
    return standardised(scaled(torch.from_numpy(np.array(images)).to(device)))


def in_parts(data: Prepared, part: str, device: torch.device) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """A part of the split, `AT_ONCE` slices after the other: which, the images as a student takes them, the labels."""
    images, labels = data.images(part), data.labels(part)
    for first in range(0, len(images), AT_ONCE):
        which = slice(first, first + AT_ONCE)
        yield which, ready(images[which], device), torch.from_numpy(np.array(labels[which])).to(device).long()


@torch.inference_mode()
def probabilities(student: Student, images: np.ndarray, device: torch.device | None = None) -> Float[Tensor, "n k s s"]:
    """Class probabilities of a few prepared images, on the device."""
    return student.to(device).eval()(ready(images, device)).probabilities


def planes_of(
    students: dict[str, Student], images: np.ndarray, shape: tuple[int, int], device: torch.device | None = None
) -> Iterator[dict[str, Float[np.ndarray, "n k h w"]]]:
    """Class probabilities on the original grid by each student, `AT_ONCE` slices after the other; by two, also of
    their ensemble."""
    for first in range(0, len(images), AT_ONCE):
        part = {name: probabilities(one, images[first : first + AT_ONCE], device) for name, one in students.items()}
        if len(part) > 1:
            part["ensemble"] = torch.stack(list(part.values())).mean(0)
        yield {name: functional.interpolate(p, shape, mode="bilinear").cpu().numpy() for name, p in part.items()}


def predict(weights: Path, data: Prepared, seed: int, target: Path, device: torch.device | None = None) -> None:
    """Test one seed's students, `weights/a.safetensors` and `b.safetensors`.

    Leaves `target/seed<k>-<student>.npz` (label maps by case, uint8) and `seed<k>-mae.csv` (student, case, class, and
    mae: the mean absolute difference between the class's probability map and the truth).
    """
    students = {name: load(weights / f"{name}.safetensors")[0] for name in ("a", "b")}
    names, images = data.manifest["classes"], data.images("test")
    maps: dict[str, dict[str, np.ndarray]] = {}
    errors = []
    for case in data.cases("test"):
        truth = np.moveaxis(np.atleast_3d(data.truth(case)), 2, 0)
        slices = images[case["first"] : case["first"] + case["slices"]]
        found: dict[str, list[np.ndarray]] = {}
        wrong: dict[str, Any] = {}
        for first, planes in enumerate(planes_of(students, slices, tuple(case["shape"][:2]), device)):
            part = truth[first * AT_ONCE :][:AT_ONCE, None] == np.arange(len(names)).reshape(-1, 1, 1)
            for name, p in planes.items():
                found.setdefault(name, []).append(p.argmax(1).astype(np.uint8))
                wrong[name] = wrong.get(name, 0) + np.abs(p - part).sum((0, 2, 3), dtype=np.float64)
        for name, parts in found.items():
            label_map = np.moveaxis(np.concatenate(parts), 0, 2).reshape(case["shape"])
            maps.setdefault(name, {})[case["id"]] = np.ascontiguousarray(label_map)
            mae = zip(names[1:], wrong[name][1:] / truth.size, strict=True)
            errors += [{"student": name, "case": case["id"], "class": k, "mae": error} for k, error in mae]
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


@torch.inference_mode()
def linear_probe(students: Any, method: Any, data: Prepared, device: torch.device) -> dict[str, float]:
    """Collapse check of CFCL: the balanced accuracy with which a linear probe reads the class out of the embeddings.

    Embeddings of the classes present in the validation slices (test slices where there are none), of the last stage;
    ridge regression on every other slice, accuracy on the rest. Chance, where collapsed embeddings are, is 1 / classes.
    """
    classes = len(data.manifest["classes"])
    vectors: dict[str, list[Tensor]] = {name: [] for name in students}
    owners: list[Tensor] = []
    for which, images, target in in_parts(data, "validation" if data.cases("validation") else "test", device):
        there = presence(target, classes)
        owners.append(there.nonzero().cpu() + torch.tensor([which.start, 0]))
        for name, student in students.items():
            features = student.eval()(images).features
            perceived = method.eval().perceive(name, [features[stage] for stage in method.stages], target)[-1]
            vectors[name].append(perceived.embeddings.float()[there].cpu())
    slices, owner = torch.cat(owners).unbind(1)
    fitted, truth = slices % 2 == 0, functional.one_hot(owner, classes).double()
    found = {}
    for name, parts in vectors.items():
        x = functional.pad(torch.cat(parts).double(), (0, 1), value=1.0)
        ridge = 1e-3 * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.linalg.solve(x[fitted].T @ x[fitted] + ridge, x[fitted].T @ truth[fitted])
        rest = owner[~fitted]
        right = ((x[~fitted] @ weights).argmax(1) == rest).double()
        found[name] = round(float(np.nanmean([right[rest == k].mean() for k in rest.unique()])), 4)
    return found
