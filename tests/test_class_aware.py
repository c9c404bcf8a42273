"""Class perception: naive loops, absent classes, gradients that stop, and embeddings that do not collapse."""

import math

import pytest
import torch
from strategies import HALVES
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from ctrcl.losses.class_aware import CategoryPerception, Perception, align, cfcl, supervision
from ctrcl.losses.targets import presence, reduce_to

CLASSES = 4


def module(channels: int = 5, width: int = 6) -> CategoryPerception:
    torch.manual_seed(0)
    return CategoryPerception(channels, CLASSES, width).double()


def features(channels: int = 5, size: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, channels, size, size, generator=generator, dtype=torch.float64)


def target() -> Tensor:
    """Three images: classes 0 and one pixel of class 2; every class; nothing but ignored pixels."""
    y = torch.zeros(3, 8, 8, dtype=torch.long)
    y[0, 3, 5] = 2
    y[1] = torch.arange(8) // 2
    y[2] = 255
    return y


def perceive_by_loops(cpm: CategoryPerception, feature: Tensor) -> tuple[Tensor, Tensor]:
    """Maps and embeddings of one image, one position at a time."""
    places = [feature[:, i, j] for i in range(feature.shape[1]) for j in range(feature.shape[2])]
    phi = [cpm.project.weight.flatten(1) @ place for place in places]
    phi = [vector / vector.norm() for vector in phi]
    maps = torch.stack([cpm.perceive.weight.flatten(1) @ vector + cpm.perceive.bias for vector in phi], 1)
    rows = []
    for k in range(CLASSES):
        weights = [math.exp(v) for v in maps[k].tolist()]
        total = sum(w / sum(weights) * vector for w, vector in zip(weights, phi, strict=True))
        rows.append(total / total.norm())
    return maps.view(CLASSES, *feature.shape[1:]), torch.stack(rows)


def test_maps_and_embeddings_are_the_formula_position_by_position(device):
    cpm, feature = module(), features()
    loops = [perceive_by_loops(cpm, image) for image in feature]
    seen = cpm.to(device)(feature.to(device))
    assert_close(seen.maps.cpu(), torch.stack([maps for maps, _ in loops]))
    assert_close(seen.embeddings.cpu(), torch.stack([rows for _, rows in loops]))
    assert_close(seen.embeddings.norm(dim=2), torch.ones(3, CLASSES, dtype=torch.float64, device=device))


def test_alignment_is_the_mean_over_present_classes_then_over_images(device):
    one, other = module()(features()).embeddings, module()(features(seed=1)).embeddings
    squared = [[sum((u - v) ** 2 for u, v in zip(*pair, strict=True)) for pair in zip(*image, strict=True)]
               for image in zip(one.tolist(), other.tolist(), strict=True)]  # fmt: skip
    expected = ((squared[0][0] + squared[0][2]) / 2 + sum(squared[1]) / 4) / 2  # the third image holds no class
    found = align(one.to(device), other.to(device), presence(target(), CLASSES).to(device))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_alignment_is_zero_for_equals_and_four_for_opposites():
    rows, present = module()(features()).embeddings, presence(target(), CLASSES)
    assert align(rows, rows, present).item() == 0
    assert align(rows, -rows, present).item() == pytest.approx(4)


def test_an_absent_class_takes_no_part():
    rows = module()(features()).embeddings.detach().requires_grad_()
    present = presence(target(), CLASSES)
    align(rows, -rows, present).backward()
    assert torch.equal(rows.grad.abs().sum(2) > 0, present)


def test_supervision_is_cross_entropy_at_the_size_of_the_stage(device):
    maps = module()(features()).maps
    expected = functional.cross_entropy(maps, reduce_to(target(), (4, 4)), ignore_index=255)
    assert_close(supervision(maps.to(device), target().to(device)).cpu(), expected)


def test_a_batch_that_is_ignored_costs_nothing():
    cpm, y = module(), torch.full((3, 8, 8), 255)
    terms = cfcl([cpm(features())], [cpm(features(seed=1))], y)
    terms.loss.backward()
    assert terms.loss.item() == 0
    assert not any(weight.grad.any() for weight in cpm.parameters())


def test_each_term_reaches_its_own_student_alone():
    a, b = module(), module(7)
    for name, own, peer in (("a", a, b), ("b", b, a)):
        for term in ("alignment", "supervision"):
            terms = cfcl([a(features())], [b(features(7, 2))], target())
            own.zero_grad()
            peer.zero_grad()
            getattr(terms, f"{term}_{name}").backward()
            assert own.project.weight.grad.any()
            assert all(weight.grad is None for weight in peer.parameters())


def test_stages_are_averaged_and_students_may_differ_in_size_and_width():
    a, b = [module(), module(3)], [module(7), module(2)]
    seen_a = [a[0](features(5, 4)), a[1](features(3, 2))]
    seen_b = [b[0](features(7, 3)), b[1](features(2, 1))]
    both = cfcl(seen_a, seen_b, target())
    single = [cfcl([one], [other], target()) for one, other in zip(seen_a, seen_b, strict=True)]
    for name in both._fields:
        assert_close(getattr(both, name), (getattr(single[0], name) + getattr(single[1], name)) / 2)
    assert_close(both.loss, sum(both))
    assert_close(both.alignment_a, both.alignment_b)
    with pytest.raises(ValueError, match="shorter"):
        cfcl(seen_a, seen_b[:1], target())


def test_a_batch_of_one_with_one_class_works():
    y = torch.ones(1, 8, 8, dtype=torch.uint8)
    terms = cfcl([module()(features()[:1])], [module()(features(seed=1)[:1])], y)
    assert torch.isfinite(terms.loss)


def test_gradients_are_those_of_finite_differences():
    cpm, y = module(2, 3), target()[:2]
    peer = Perception(*(v.detach() for v in cpm(features(2, 2, 1)[:2])))

    def student_a(feature: Tensor) -> Tensor:
        terms = cfcl([cpm(feature)], [peer], y)
        return terms.alignment_a + terms.supervision_a

    assert torch.autograd.gradcheck(student_a, features(2, 2)[:2].requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_dtype_is_kept_and_dead_features_are_harmless(dtype):
    cpm = module().to(dtype)
    feature = features().to(dtype)
    feature[0], feature[1, :, 0] = 0, 0
    seen = cpm(feature.requires_grad_())
    terms = cfcl([seen], [cpm(features(seed=1).to(dtype))], target())
    terms.loss.backward()
    assert {seen.maps.dtype, seen.embeddings.dtype, terms.loss.dtype} == {dtype}
    assert all(torch.isfinite(v).all() for v in (*seen, *terms, cpm.project.weight.grad, feature.grad[1]))


# --- does E collapse? -------------------------------------------------------------------------------------------
# Two tiny students see coloured squares in noise and train by CFCL alone. A linear probe, fitted on embeddings of
# one set of images, then says the class of embeddings of another set; chance is 1/4.


class ReadsTheFeature(CategoryPerception):
    """The control: class maps read from the feature and not from phi, so that their supervision misses phi."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__(channels, classes, width)
        self.perceive = nn.Conv2d(channels, classes, 1)

    def forward(self, features: Tensor) -> Perception:
        maps = self.perceive(features)
        pooled = maps.flatten(2).softmax(2) @ self.project(features).flatten(2).transpose(1, 2)
        return Perception(maps, functional.normalize(pooled, dim=2))


def squares(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of up to three squares in the colours of their classes, under noise, 16 x 16."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.zeros(number, 16, 16, dtype=torch.long)
    corners = torch.randint(0, 10, (number, CLASSES, 2), generator=generator).tolist()
    drawn = (torch.rand(number, CLASSES, generator=generator) < 0.8).tolist()
    for i in range(number):
        for k in range(1, CLASSES):
            row, column = corners[i][k]
            if drawn[i][k]:
                y[i, row : row + 6, column : column + 6] = k
    colours = torch.tensor([[0, 0, 0], [1, 0, 0.5], [0, 1, 0.5], [0.5, 0.5, 1]])
    return colours[y].movedim(-1, 1) + 0.5 * torch.randn(number, 3, 16, 16, generator=generator), y


def student(width: int, stride: int, perception: type[CategoryPerception]) -> nn.Module:
    first, second = nn.Conv2d(3, width, 3, stride, 1), nn.Conv2d(width, width, 3, 1, 1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), perception(width, CLASSES, 16))


@torch.no_grad()
def probe(fitted: nn.Module, asked: nn.Module) -> tuple[float, float]:
    """Balanced accuracy of a ridge probe from one student's embeddings to the other's, and the latters' spread."""
    rows, names = [], []
    for network, seed in ((fitted, 1), (asked, 2)):
        x, y = squares(128, seed)
        present = presence(y, CLASSES)
        rows.append(functional.pad(network(x).embeddings[present].double(), (0, 1), value=1))
        names.append(torch.arange(CLASSES).expand_as(present)[present])
    ridge = 0.01 * len(rows[0]) * torch.eye(rows[0].shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(rows[0].T @ rows[0] + ridge, rows[0].T @ functional.one_hot(names[0]).double())
    right = (rows[1] @ solution).argmax(1) == names[1]
    accuracy = torch.stack([right[names[1] == k].double().mean() for k in range(CLASSES)]).mean()
    return accuracy.item(), (rows[1] - rows[1].mean(0)).square().sum(1).mean().item()


def train(perception: type[CategoryPerception], supervised: bool) -> tuple[list, list]:
    """What the probe says of student a, of b, and from a to b, before and after 300 steps of CFCL."""
    torch.manual_seed(0)
    a, b = student(12, 2, perception), student(20, 4, perception)
    probed = ((a, a), (b, b), (a, b))
    before = [probe(*pair) for pair in probed]
    optimizer = torch.optim.Adam([*a.parameters(), *b.parameters()], 1e-2)
    images, truth = squares(512, 3)
    for step in range(300):
        some = slice(16 * step % 512, 16 * step % 512 + 16)
        terms = cfcl([a(images[some])], [b(images[some])], truth[some])
        optimizer.zero_grad()
        (terms.loss if supervised else terms.alignment_a + terms.alignment_b).backward()
        optimizer.step()
    return before, [probe(*pair) for pair in probed]


def test_supervised_perception_does_not_collapse():
    before, after = train(CategoryPerception, supervised=True)
    print("probe before and after:", before, after)
    for (accuracy, spread), (accuracy_after, spread_after) in zip(before, after, strict=True):
        assert accuracy_after > max(0.75, accuracy + 0.3)  # chance 0.25
        assert spread_after > max(0.2, 2 * spread)


def test_without_supervision_it_collapses():
    before, after = train(CategoryPerception, supervised=False)
    print("probe before and after:", before, after)
    for accuracy, spread in after:
        assert accuracy < 0.35
        assert spread < 1e-3


def test_supervised_maps_that_do_not_read_phi_let_it_collapse():
    before, after = train(ReadsTheFeature, supervised=True)
    print("probe before and after:", before, after)
    assert all(spread < 0.02 for _, spread in after)
