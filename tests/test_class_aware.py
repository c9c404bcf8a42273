"""Class perception: naive loops, absent classes, gradients that stop, and embeddings that do not collapse."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops import cosine, mean, pixels_of, places, soft_divergence, softmax_of
from strategies import FLOATS, HALVES, drawn_features, features_and_target
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from ctrcl.losses.class_aware import (
    CategoryPerception,
    CategoryTerms,
    Perception,
    cfcl,
    perceive,
    prototypes,
    respond,
)
from ctrcl.losses.features import resize_to_match
from ctrcl.losses.targets import presence, reduce_to

CLASSES = 4
VARIANTS = ("embedding", "response", "prototype")
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def module(channels: int = 5, width: int = 6) -> CategoryPerception:
    torch.manual_seed(0)
    return CategoryPerception(channels, CLASSES, width).double()


def features(channels: int = 5, size: int = 4, seed: int = 0) -> Tensor:
    return drawn_features(channels, (size, size), seed)


def target() -> Tensor:
    """Three images: classes 0 and one pixel of class 2; every class and ignored pixels; nothing but those."""
    y = torch.zeros(3, 8, 8, dtype=torch.long)
    y[0, 3, 5] = 2
    y[1] = torch.arange(8) // 2
    y[1, :4, :4] = 255
    y[2] = 255
    return y


def see(variant: str, feature: Tensor, y: Tensor, channels: int = 5) -> Perception:
    """What a student perceives in a feature in this variant."""
    return perceive(None if variant == "prototype" else module(channels).to(feature.dtype), feature, y, CLASSES)


def loss_of(terms: CategoryTerms) -> Tensor:
    return terms.alignment + terms.supervision


def perceive_by_loops(cpm: CategoryPerception, image: Tensor) -> tuple[Tensor, Tensor]:
    """Maps and embeddings of one image, one position at a time."""
    phi = [cpm.project.weight.flatten(1) @ place for place in places(image)]
    phi = [vector / vector.norm() for vector in phi]
    maps = torch.stack([cpm.perceive.weight.flatten(1) @ vector + cpm.perceive.bias for vector in phi], 1)
    rows = []
    for row in maps.tolist():
        total = sum(w * vector for w, vector in zip(softmax_of(row), phi, strict=True))
        rows.append(total / total.norm())
    return maps.view(CLASSES, *image.shape[1:]), torch.stack(rows)


def prototypes_by_loops(image: Tensor, y: Tensor) -> Tensor:
    """Cosines over 0.1 in one image, one position at a time; -1e4 for a class without a position."""
    maps = torch.full((CLASSES, y.numel()), -1e4, dtype=image.dtype)
    for k in range(CLASSES):
        members = [place for place, truth in zip(places(image), y.flatten().tolist(), strict=True) if truth == k]
        for number, place in enumerate(places(image) if members else []):
            maps[k, number] = cosine(place, sum(members)) / 0.1
    return maps.view(CLASSES, *y.shape)


def align_by_loops(own: Tensor, peer: Tensor, y: Tensor) -> float:
    """Mean squared distance over the classes of an image, then over the images that hold any."""
    each = []
    for a, b, truth in zip(own, peer, y, strict=True):
        held = [k for k in range(CLASSES) if (truth == k).any()]
        each += [mean([(a[k] - b[k]).square().sum().item() for k in held])] if held else []
    return mean(each)


def respond_by_loops(own: Tensor, peer: Tensor, y: Tensor) -> float:
    reduced = reduce_to(y, own.shape[2:])
    return mean([soft_divergence(q, p) for p, q in zip(pixels_of(own, reduced), pixels_of(peer, reduced), strict=True)])


def test_maps_and_embeddings_are_the_formula_position_by_position(device):
    cpm, feature = module(), features()
    loops = [perceive_by_loops(cpm, image) for image in feature]
    seen = cpm.to(device)(feature.to(device))
    assert_close(seen.maps.cpu(), torch.stack([maps for maps, _ in loops]))
    assert_close(seen.embeddings.cpu(), torch.stack([rows for _, rows in loops]))


def test_prototype_maps_are_cosines_with_the_mean_feature_of_each_class(device):
    feature, y = features(), target()
    expected = [prototypes_by_loops(image, truth) for image, truth in zip(feature, reduce_to(y, (4, 4)), strict=True)]
    assert_close(prototypes(feature.to(device), y.to(device), CLASSES).cpu(), torch.stack(expected))


@each_variant
def test_both_terms_are_the_formula_position_by_position(device, variant):
    y = target()
    own, peer = (see(variant, features(seed=seed), y) for seed in (0, 1))
    terms = cfcl([moved(own, device)], [moved(peer, device)], y.to(device), variant)
    if variant == "embedding":
        expected = align_by_loops(own.embeddings, peer.embeddings, y)
    else:
        expected = respond_by_loops(own.maps, peer.maps, y)
    assert terms.alignment.item() == pytest.approx(expected, rel=1e-10)
    supervised = functional.cross_entropy(own.maps, reduce_to(y, (4, 4)), ignore_index=255)
    assert terms.supervision.item() == pytest.approx(0 if variant == "prototype" else supervised.item())


def moved(seen: Perception, device: str) -> Perception:
    return Perception(*(v.to(device) for v in seen))


@each_variant
def test_a_batch_that_is_ignored_costs_nothing(variant):
    y, feature = torch.full((3, 8, 8), 255), features().requires_grad_()
    terms = cfcl([see(variant, feature, y)], [see(variant, features(seed=1), y)], y, variant)
    loss_of(terms).backward()
    assert loss_of(terms).item() == 0
    assert not feature.grad.any()


@each_variant
def test_what_is_ignored_may_have_any_number(variant):
    y = target()
    own, peer = (see(variant, features(seed=seed), y) for seed in (0, 1))
    for one, other in zip(
        cfcl([own], [peer], y, variant), cfcl([own], [peer], y.where(y != 255, 9), variant, ignore=9), strict=True
    ):
        assert torch.equal(one, other)


@each_variant
def test_no_gradient_reaches_the_peer(variant):
    own, peer = features().requires_grad_(), features(7, seed=2).requires_grad_()
    terms = cfcl([see(variant, own, target())], [see(variant, peer, target(), 7)], target(), variant)
    loss_of(terms).backward()
    assert own.grad.any()
    assert peer.grad is None


@pytest.mark.parametrize("dtype", HALVES)
def test_maps_in_half_precision_have_the_divergence_of_the_same_numbers_in_single(dtype):
    own, peer = (module()(features(seed=seed)).maps.to(dtype) for seed in (0, 1))
    found, single = respond(own, peer, target()), respond(own.float(), peer.float(), target())
    assert found.dtype == dtype
    assert found.item() == single.to(dtype).item()


@pytest.mark.parametrize("variant", ["embedding", "response"])
@pytest.mark.parametrize("term", CategoryTerms._fields)
def test_each_term_reaches_its_own_module_alone(variant, term):
    own, peer = module(), module(7)
    getattr(cfcl([own(features())], [peer(features(7, seed=2))], target(), variant), term).backward()
    assert own.project.weight.grad.any()
    assert all(weight.grad is None for weight in peer.parameters())


@each_variant
def test_stages_are_averaged_and_networks_may_differ_in_width(variant):
    y = target()
    own = [see(variant, features(5, 4), y, 5), see(variant, features(3, 2), y, 3)]
    peer = [see(variant, features(7, 4, 1), y, 7), see(variant, features(2, 2, 1), y, 2)]
    both = cfcl(own, peer, y, variant)
    single = [cfcl([one], [other], y, variant) for one, other in zip(own, peer, strict=True)]
    for name in both._fields:
        assert_close(getattr(both, name), (getattr(single[0], name) + getattr(single[1], name)) / 2)
    with pytest.raises(ValueError, match="shorter"):
        cfcl(own, peer[:1], y, variant)


@each_variant
def test_a_batch_of_one_with_one_class_works(variant):
    y = torch.ones(1, 8, 8, dtype=torch.uint8)
    terms = cfcl([see(variant, features()[:1], y)], [see(variant, features(seed=1)[:1], y)], y, variant)
    assert torch.isfinite(loss_of(terms))
    if variant == "prototype":
        assert loss_of(terms) == 0


@each_variant
def test_gradients_are_those_of_finite_differences(variant):
    cpm, y = None if variant == "prototype" else module(2, 3), target()[:2]
    peer = perceive(cpm, features(2, 4, 1)[:2], y, CLASSES)

    def student(feature: Tensor) -> Tensor:
        return loss_of(cfcl([perceive(cpm, feature, y, CLASSES)], [peer], y, variant))

    assert torch.autograd.gradcheck(student, features(2, 4)[:2].requires_grad_())


@each_variant
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_dead_features_are_harmless_in_any_precision(variant, dtype):
    feature = features().to(dtype)
    feature[0], feature[1, :, 0] = 0, 0
    seen = see(variant, feature.requires_grad_(), target())
    terms = cfcl([seen], [see(variant, features(seed=1).to(dtype), target())], target(), variant)
    loss_of(terms).backward()
    kept = torch.float32 if variant == "prototype" else dtype  # prototypes are sums over many positions
    assert {seen.maps.dtype, seen.embeddings.dtype, loss_of(terms).dtype} == {kept}
    assert all(torch.isfinite(v).all() for v in (*seen, *terms, feature.grad))


@given(case=features_and_target((*FLOATS, *HALVES)), variant=st.sampled_from(VARIANTS), autocast=st.booleans())
def test_features_of_any_shape_and_size_have_finite_terms_and_gradients(case, variant, autocast):
    student, teacher, y, classes = case
    torch.manual_seed(0)
    leaves = [student.requires_grad_(), teacher.requires_grad_()]
    maps = resize_to_match(student, teacher)
    cpms = [None if variant == "prototype" else CategoryPerception(f.shape[1], classes, 6).to(f.dtype) for f in maps]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        own, peer = ([perceive(cpm, f, y, classes)] for cpm, f in zip(cpms, maps, strict=True))
        terms = cfcl(own, peer, y, variant)
    loss_of(terms).backward()
    weights = [weight for cpm in cpms if cpm is not None for weight in cpm.parameters()]
    assert terms.alignment >= -1e-6
    assert terms.supervision >= 0
    assert torch.isfinite(loss_of(terms))
    if student.dtype != torch.float16:  # 1 / EPSILON, twice where an image's feature is dead, is no float16 number
        assert all(torch.isfinite(v.grad).all() for v in (*leaves, *weights) if v.grad is not None)


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
        own, peer = [a(images[some])], [b(images[some])]
        terms = cfcl(own, peer, truth[some]), cfcl(peer, own, truth[some])
        optimizer.zero_grad()
        sum(loss_of(each) if supervised else each.alignment for each in terms).backward()
        optimizer.step()
    return before, [probe(*pair) for pair in probed]


def test_supervised_perception_does_not_collapse():
    before, after = train(CategoryPerception, supervised=True)
    for (accuracy, spread), (accuracy_after, spread_after) in zip(before, after, strict=True):
        assert accuracy_after > max(0.75, accuracy + 0.3)  # chance 0.25
        assert spread_after > max(0.2, 2 * spread)


def test_without_supervision_it_collapses():
    _, after = train(CategoryPerception, supervised=False)
    for accuracy, spread in after:
        assert accuracy < 0.35
        assert spread < 1e-3


def test_supervised_maps_that_do_not_read_phi_let_it_collapse():
    _, after = train(ReadsTheFeature, supervised=True)
    assert all(spread < 0.02 for _, spread in after)
