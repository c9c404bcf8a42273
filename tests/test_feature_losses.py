"""Distillation of features and of their relations: reference values, naive loops, absent classes, dead features."""

import math
from itertools import combinations, permutations, product

import pytest
import torch
from hypothesis import given
from loops import cosine, mean, places, soft_divergence
from refusals import refused
from strategies import (
    FLOATS,
    HALVES,
    drawn_features,
    features_and_target,
    reference,
    reference_features,
    spotted_target,
)
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close
from torchdistill.losses.mid_level import ATLoss

import ctrcl
from ctrcl import MaskedGeneration, mcl
from ctrcl.losses.features import mean_squared_error

# every loss as loss(student, teacher, target, number of classes), and whether its channels may differ
LOSSES = {
    "at": lambda s, t, y, k: ctrcl.at(s, t),
    "at, paper": lambda s, t, y, k: ctrcl.at(s, t, form="paper"),
    "emkd_importance": lambda s, t, y, k: ctrcl.emkd_importance(s, t),
    "fitnet": lambda s, t, y, k: mean_squared_error(s, t),
    "mgd": lambda s, t, y, k: ctrcl.mgd(s, t),
    "skd_pair": lambda s, t, y, k: ctrcl.skd_pair(s, t),
    "ifvd": lambda s, t, y, k: ctrcl.ifvd(s, t, y, k),
    "cirkd_batch": lambda s, t, y, k: ctrcl.cirkd_batch(s, t),
    "emkd_region": lambda s, t, y, k: ctrcl.emkd_region(s, t, y, k),
}
SAME_CHANNELS = ("fitnet", "mgd")
SUPERVISED = ("ifvd", "emkd_region")
each_loss = pytest.mark.parametrize("name", LOSSES)


def attention_by_loops(image: Tensor, power: int) -> list[float]:
    means = [mean([v**power for v in place.tolist()]) for place in places(image)]
    return [m / math.hypot(*means) for m in means]


def attention_gaps(s: Tensor, t: Tensor, power: int = 2) -> list[list[float]]:
    """The squared differences at the positions of every image."""
    maps = ([attention_by_loops(image, power) for image in f] for f in (s, t))
    return [[(a - b) ** 2 for a, b in zip(*pair, strict=True)] for pair in zip(*maps, strict=True)]


def squares(s: Tensor, t: Tensor) -> list[float]:
    return [(a - b) ** 2 for a, b in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True)]


def pooled_by_loops(image: Tensor) -> list[Tensor]:
    rows, columns = max(1, image.shape[1] // 2), max(1, image.shape[2] // 2)
    return [image[:, i : i + rows, j : j + columns].amax((1, 2))
            for i in range(0, image.shape[1], rows) for j in range(0, image.shape[2], columns)]  # fmt: skip


def skd_pair_by_loops(s: Tensor, t: Tensor, *_: object) -> Tensor:
    each = []
    for images in zip(s, t, strict=True):
        own, fixed = ([v / (v.norm().detach() + 1e-8) for v in pooled_by_loops(image)] for image in images)
        pairs = product(range(len(own)), repeat=2)
        each.append(mean([(own[m] @ own[n] - fixed[m] @ fixed[n]) ** 2 for m, n in pairs]))
    return mean(each)


def variation_by_loops(image: Tensor, labels: list[int]) -> list[float]:
    vectors = places(image)
    each = []
    for v, k in zip(vectors, labels, strict=True):
        if k != 255:
            same = [u for u, label in zip(vectors, labels, strict=True) if label == k]
            each.append(cosine(v, sum(same) / (len(same) + 1e-6)))
    return each


def ifvd_by_loops(s: Tensor, t: Tensor, y: Tensor, classes: int) -> float:
    squares = []
    for a, b, labels in zip(s, t, y.flatten(1).tolist(), strict=True):
        pairs = zip(variation_by_loops(a, labels), variation_by_loops(b, labels), strict=True)
        squares += [(m - n) ** 2 for m, n in pairs]
    return mean(squares)


def cirkd_batch_by_loops(s: Tensor, t: Tensor, *_: object) -> float:
    each = []
    for i, j in product(range(len(s)), repeat=2):
        for u, v in zip(places(s[i]), places(t[i]), strict=True):
            rows = [cosine(u, other) for other in places(s[j])], [cosine(v, other) for other in places(t[j])]
            each.append(soft_divergence(rows[1], rows[0], 0.1))
    return mean(each)


def emkd_region_by_loops(s: Tensor, t: Tensor, y: Tensor, classes: int) -> float:
    total = 0.0
    for a, b, labels in zip(s, t, y, strict=True):
        for i, j in combinations([k for k in range(classes) if (labels == k).any()], 2):
            found = [cosine(f[:, labels == i].mean(1), f[:, labels == j].mean(1)) for f in (a, b)]
            total += (found[0] - found[1]) ** 2
    return total / len(s)


LOOPS = {
    "at": lambda s, t, *_: mean([mean(gaps) for gaps in attention_gaps(s, t)]),
    "at, paper": lambda s, t, *_: mean([math.sqrt(sum(gaps)) for gaps in attention_gaps(s, t)]),
    "emkd_importance": lambda s, t, *_: mean([sum(gaps) for gaps in attention_gaps(s, t, power=4)]),
    "fitnet": lambda s, t, *_: mean(squares(s, t)),
    "mgd": lambda s, t, *_: 2e-5 * sum(squares(s, t)) / len(s),
    "skd_pair": skd_pair_by_loops,
    "ifvd": ifvd_by_loops,
    "cirkd_batch": cirkd_batch_by_loops,
    "emkd_region": emkd_region_by_loops,
}


def test_features_have_their_reference_values(device):
    s, t = (f.to(device) for f in reference_features())
    y = reference()[2].to(device)
    assert ctrcl.at(s, t).item() == pytest.approx(0.00156803620323, abs=1e-9)
    assert ctrcl.ifvd(s, t, y, 4).item() == pytest.approx(0.672221506363, abs=1e-9)


@each_loss
def test_a_loss_of_features_is_its_formula_position_by_position(device, name):
    cases = [(*reference_features(), reference()[2]), (drawn_features(), drawn_features(seed=1), spotted_target())]
    if name not in SAME_CHANNELS:
        cases.append((drawn_features(), drawn_features(5, seed=1), spotted_target()))
    for s, t, y in cases:
        found = LOSSES[name](s.to(device), t.to(device), y.to(device), 4)
        assert found.item() == pytest.approx(float(LOOPS[name](s, t, y, 4)), rel=1e-9)


def test_torchdistill_agrees_on_attention():
    s, t = reference_features()
    place = {"io": "output", "path": ""}
    for mode in ("code", "paper"):
        oracle = ATLoss({"pair": {"student": place, "teacher": place}}, mode=mode)
        assert_close(ctrcl.at(s, t, form=mode), oracle({"": {"output": s}}, {"": {"output": t}}))


def test_attention_has_two_forms_and_no_third():
    refused(ctrcl.at, *reference_features(), form="mean", name="the forms are code, paper")


def test_attention_does_not_depend_on_the_scale_of_the_features():
    s, t = reference_features()
    for loss in (ctrcl.at, ctrcl.emkd_importance):
        assert_close(loss(1e-30 * s, 1e60 * t), loss(s, t))


@each_loss
def test_no_gradient_reaches_the_teacher(name):
    s, t = (drawn_features(seed=seed).requires_grad_() for seed in (0, 1))
    LOSSES[name](s, t, spotted_target(), 4).backward()
    assert t.grad is None
    assert s.grad.any()


@each_loss
def test_gradients_are_those_of_finite_differences(name):
    s, t = drawn_features(2, (3, 2), images=2), drawn_features(2, (3, 2), seed=1, images=2)
    y = torch.tensor([[[0, 1], [2, 255], [1, 0]], [[1, 1], [0, 0], [0, 1]]])
    if name == "skd_pair":  # the norm carries none, there and in the loops
        losses = (find(s.requires_grad_(), t, y, 3) for find in (LOSSES[name], LOOPS[name]))
        assert_close(*(torch.autograd.grad(loss, s)[0] for loss in losses))
    else:
        assert torch.autograd.gradcheck(lambda f: LOSSES[name](f, t, y, 3), s.requires_grad_())


@each_loss
def test_different_grids_meet_on_the_smaller_one(name):
    y = torch.arange(8).div(3, rounding_mode="floor").expand(3, 8, 8)
    for small, large in (((4, 3), (8, 6)), ((4, 6), (8, 3))):
        s, t = drawn_features(size=small), drawn_features(size=large, seed=1)
        size = tuple(map(min, small, large))
        by_hand = [functional.interpolate(f, size, mode="bilinear", align_corners=False) for f in (s, t)]
        assert_close(LOSSES[name](s, t, y, 3), LOSSES[name](*by_hand, y, 3))
        assert_close(LOSSES[name](t, s, y, 3), LOSSES[name](*by_hand[::-1], y, 3))


@each_loss
@given(case=features_and_target((*FLOATS, *HALVES)))
def test_extreme_features_give_a_finite_gradient_in_their_dtype(name, case):
    s, t, y, classes = case
    if name in SAME_CHANNELS:
        t = t[:, :1].repeat(1, s.shape[1], 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = LOSSES[name](s.requires_grad_(), t, y, classes)
    found.backward()
    assert found.dtype == s.dtype
    assert found >= 0
    if s.dtype != torch.float16 or name not in (*SAME_CHANNELS, "skd_pair"):
        # a squared difference of 1e4 is no float16, and SKD's norm, without gradient, divides a dead one by 1e-8
        assert torch.isfinite(found)
        assert torch.isfinite(s.grad).all()
    if name in SUPERVISED and (y == 255).all():
        assert found == 0
        assert not s.grad.any()


@each_loss
@given(case=features_and_target((torch.float64,)))
def test_a_student_like_its_teacher_costs_nothing(name, case):
    s, _, y, classes = case
    assert abs(LOSSES[name](s, s, y, classes).item()) < 1e-9


@pytest.mark.parametrize("name", SUPERVISED)
def test_what_an_ignored_position_holds_does_not_matter(name):
    s, t, y = drawn_features(), drawn_features(seed=1), spotted_target()
    noise = 9 * torch.rand_like(s) * (y == 255).unsqueeze(1)
    student = (s + noise).requires_grad_()
    found = LOSSES[name](student, t - noise, y, 4)
    found.backward()
    assert_close(found, LOSSES[name](s, t, y, 4))
    assert not student.grad.movedim(1, 3)[y == 255].any()


def test_masked_generation_sees_the_same_positions_in_every_channel(device):
    module, f = MaskedGeneration(3, 4).double().to(device), drawn_features(size=(16, 16)).to(device)
    seen = []
    module.generate.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    torch.manual_seed(3)
    assert module(f).shape == (3, 4, 16, 16)
    torch.manual_seed(3)
    kept = torch.rand(3, 1, 16, 16).to(device) >= 0.75
    assert_close(seen[0], module.project(f).detach() * kept)
    assert 0.2 < kept.double().mean() < 0.3
    module(f)
    assert not torch.equal(seen[0] == 0, seen[1] == 0)


@pytest.mark.parametrize("dropped", [0.0, 1.0])
def test_masked_generation_drops_nothing_or_everything(dropped):
    module, f = MaskedGeneration(3, 4, dropped).double(), drawn_features()
    assert_close(module(f), module.generate(module.project(f) * (1 - dropped)))


def embeddings(networks: int = 2, samples: int = 7, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    drawn = torch.randn(networks, samples, 4, generator=generator, dtype=torch.float64)
    return list(functional.normalize(drawn, dim=2).to(dtype))


LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3])  # the samples of classes 2 and 3 have no positive


def info_nce_by_loops(s: list[list[float]], labels: list[int]) -> float:
    each = []
    for i, row in enumerate(s):
        bottom = sum(math.exp(v) for j, v in enumerate(row) if j != i)
        positives = [j for j, label in enumerate(labels) if label == labels[i] and j != i]
        if positives:
            each.append(sum(-math.log(math.exp(row[j]) / bottom) for j in positives) / len(positives))
    return sum(each) / len(each)


def mcl_by_loops(vectors: list[Tensor], labels: list[int]) -> list[float]:
    s = [[[[(u @ v).item() / 0.1 for v in b] for u in a] for b in vectors] for a in vectors]
    networks, pairs = range(len(vectors)), list(permutations(range(len(vectors)), 2))

    def soft(one: list[list[float]], other: list[list[float]]) -> float:
        return 9 * mean([soft_divergence(q, p, 3) for p, q in zip(one, other, strict=True)])

    return [
        sum(info_nce_by_loops(s[m][m], labels) for m in networks),
        sum(soft(s[m][m], s[other][other]) for m, other in pairs),
        sum(info_nce_by_loops(s[a][b], labels) for a, b in pairs),
        sum(soft(s[a][b], s[b][a]) for a, b in pairs),
    ]


@pytest.mark.parametrize("networks", [2, 3])
def test_mutual_contrast_is_its_formula_sample_by_sample(device, networks):
    vectors = embeddings(networks)
    found = mcl([v.to(device) for v in vectors], LABELS.to(device))
    assert [term.item() for term in found] == pytest.approx(mcl_by_loops(vectors, LABELS.tolist()), rel=1e-9)


def test_an_ignored_sample_is_as_good_as_none():
    vectors, labels = embeddings(), LABELS.clone()
    labels[1] = labels[6] = 255
    kept = labels != 255
    own = [v.requires_grad_() for v in vectors]
    found = mcl(own, labels)
    sum(found).backward()
    assert_close(torch.stack(found), torch.stack(mcl([v[kept] for v in vectors], labels[kept])))
    assert not any(v.grad[~kept].any() for v in own)


@pytest.mark.parametrize("samples", [0, 1, 2])
def test_hardly_any_samples_are_harmless(samples):
    own = [v.requires_grad_() for v in embeddings(samples=samples)]
    for labels in (torch.zeros(samples, dtype=torch.long), torch.arange(samples), torch.full((samples,), 255)):
        found = mcl(own, labels)
        sum(found).backward()
        assert all(torch.isfinite(term) for term in found)
        assert all(torch.isfinite(v.grad).all() for v in own)
    assert all(term == 0 for term in found)


def test_contrast_moves_both_sides_and_its_distillation_one():
    def gradients(term: str, a: Tensor, b: Tensor) -> list[Tensor]:
        return torch.autograd.grad(getattr(mcl([a, b], LABELS), term), [a, b])

    a, b = (v.requires_grad_() for v in embeddings())
    assert all(g.any() for g in gradients("soft_icl", a, b))
    one, other = a @ a.T / 0.1, b @ b.T / 0.1
    by_hand = 9 * sum(
        functional.kl_div((x / 3).log_softmax(1), (y.detach() / 3).softmax(1), reduction="batchmean")
        for x, y in ((one, other), (other, one))
    )
    for found, expected in zip(gradients("soft_vcl", a, b), torch.autograd.grad(by_hand, [a, b]), strict=True):
        assert_close(found, expected)


@pytest.mark.parametrize("term", ["vcl", "icl"])
def test_gradients_of_the_contrast_are_those_of_finite_differences(term):
    own = [v.requires_grad_() for v in embeddings()]
    assert torch.autograd.gradcheck(lambda a, b: getattr(mcl([a, b], LABELS), term), own)


@pytest.mark.parametrize("dtype", HALVES)
def test_contrast_keeps_half_precision_but_counts_in_more(dtype):
    own, labels = [v.requires_grad_() for v in embeddings(samples=6, dtype=dtype)], LABELS[:6]
    with torch.autocast("cpu", torch.bfloat16):
        found = mcl(own, labels)
    sum(found).backward()
    assert all(term.dtype == dtype for term in found)
    assert all(torch.isfinite(v.grad).all() for v in own)
    rounded = mcl([v.detach().float() for v in own], labels)
    assert_close(torch.stack(found).float(), torch.stack(rounded), rtol=torch.finfo(dtype).eps, atol=0)
