"""Samples: class centres against loops, the cases by the rule, and the arrays that the figures are drawn from."""

import os

import numpy as np
import pandas as pd
import pytest
import smoke
import torch
from numpy.testing import assert_allclose

from ctrcl import methods
from ctrcl.engine import samples
from ctrcl.engine.run import RunPaths
from ctrcl.io import COLUMNS, write_rows
from ctrcl.methods.base import Shape
from ctrcl.models.students import Design, Student, save, save_tensors

DATASET = "phantom-cardiac"


def rows(dsc: dict[str, float]) -> pd.DataFrame:
    """Training alone's rows with that DSC by case."""
    words = {"dataset": DATASET, "experiment": "alone", "network": "n", "kind": "cnn", "class": "c", "unit": "mm"}
    lines = [
        {"seed": 0, "student": s, "case": case, "patient": case, "dsc": x} for case, x in dsc.items() for s in "ab"
    ]
    return pd.DataFrame([dict.fromkeys(COLUMNS, 0.0) | words | line for line in lines])[COLUMNS]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Samples of untrained students, two seeds, with and without CPMs."""
    folder = tmp_path_factory.mktemp("samples")
    chosen = smoke.project(folder, ["seeds=[0,1]"])
    chosen = chosen.model_copy(update={"tables": {"main": {DATASET: ["alone", "cfcl"]}}})
    here = os.getcwd()
    os.chdir(folder)
    try:
        write_rows(RunPaths("smoke", DATASET, "alone").cases, rows({"test0": 0.5, "test1": 0.9, "test2": 0.7}))
        for experiment in ("alone", "cfcl"):
            for seed in chosen.experiment(experiment).seeds:
                torch.manual_seed(seed)
                place, widths = RunPaths("smoke", DATASET, experiment).weights, {}
                for name in ("a", "b"):
                    network = getattr(chosen.students, name).network
                    student = Student(Design(network, 1, 4, chosen.size(DATASET), 16))
                    save(student, place / f"seed{seed}-{name}.safetensors", {})
                    widths[name] = student.widths
                if experiment == "cfcl":
                    method = methods.build(chosen.experiment(experiment), Shape(widths, 4))
                    save_tensors(method, place / f"seed{seed}-method.safetensors", {})
        samples.collect(chosen, DATASET)
        found = RunPaths("smoke", DATASET).samples
        return {name: dict(np.load(found / f"{name}.npz")) for name in ("alone", "cfcl")}
    finally:
        os.chdir(here)


def test_best_median_and_worst_of_training_alone_are_kept(kept):
    for arrays in kept.values():
        assert arrays["case"].tolist() == ["test1", "test2", "test0"]
        assert arrays["rank"].tolist() == ["best", "median", "worst"]


def test_a_slice_is_the_one_with_the_largest_foreground(kept, tmp_path):
    smoke.discs(tmp_path / "discs", 32)
    labels = np.load(tmp_path / "discs/test.labels.npy").reshape(3, 4, 32, 32)
    arrays = kept["alone"]
    for case, number, truth in zip(arrays["case"], arrays["slice"], arrays["truth"], strict=True):
        planes = labels[int(case[-1])]
        assert number == (planes > 0).sum((1, 2)).argmax()
        assert np.array_equal(truth, planes[number])
    assert arrays["image"].shape == (3, 1, 32, 32)


def test_vectors_are_kept_of_every_seed_and_test_case(kept):
    for name, arrays in kept.items():
        for student in ("a", "b"):
            seeds, cases, classes, width = arrays[f"centres_{student}"].shape
            assert (seeds, cases, classes) == (2, 3, 4)
            assert width <= samples.COMPONENTS
            assert arrays[f"centres_{student}"].dtype == np.float16
            assert_allclose(np.nanmean(arrays[f"centres_{student}"].astype(float) ** 2, axis=(1, 2, 3)), 1, atol=0.01)
            assert arrays[f"pyramid_{student}"][:, 1].tolist() == [8, 4, 2, 1]
            assert (f"shared_{student}" in arrays) == (f"maps4_{student}" in arrays) == (name == "cfcl")
    assert kept["cfcl"]["shared_a"].shape[:3] == (2, 3, 4)


def test_a_class_centre_is_the_mean_over_its_share_of_each_position():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 2, 2, generator=generator)
    target = torch.randint(0, 3, (2, 8, 8), generator=generator)
    target[target == 2] = 255  # left out; class 2 is absent
    found = samples.centres(features, target, 3)
    for image in range(2):
        for k in range(2):
            total, weight = torch.zeros(5), 0
            for y in range(8):
                for x in range(8):
                    if target[image, y, x] == k:
                        total += features[image, :, y // 4, x // 4]
                        weight += 1
            assert_allclose(found[image, k], total / weight, rtol=1e-5, atol=1e-6)
    assert found[:, 2].isnan().all()


def test_both_students_embeddings_are_projected_together(kept):
    """Each in its own components, they could not be compared: distances between the students would be lost."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (2, 10, 3, 8))
    one, other = samples.principal(np.stack([a, b]), 8)
    assert_allclose(((one - other) ** 2).sum(), ((a - b) ** 2).sum())
