"""Class perception: naive loops, absent classes, gradients that stop, and embeddings that do not collapse."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import FLOATS, HALVES, features_and_target
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from ctrcl.losses.class_aware import (
    CategoryPerception,
    CategoryTerms,
    Perception,
    align,
    cfcl,
    perceive,
    prototypes,
    respond,
    supervise,
    supervision,
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
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, channels, size, size, generator=generator, dtype=torch.float64)


def target() -> Tensor:
    """Three images: classes 0 and one pixel of class 2; every class; nothing but ignored pixels."""
    y = torch.zeros(3, 8, 8, dtype=torch.long)
    y[0, 3, 5] = 2
    y[1] = torch.arange(8) // 2
    y[2] = 255
    return y


def see(variant: str, feature: Tensor, y: Tensor, channels: int = 5) -> Perception:
    """What a student perceives in a feature in this variant."""
    return perceive(None if variant == "prototype" else module(channels).to(feature.dtype), feature, y, CLASSES)


def loss_of(terms: CategoryTerms) -> Tensor:
    return terms.alignment + terms.supervision


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


def prototypes_by_loops(feature: Tensor, y: Tensor) -> Tensor:
    """Cosines over 0.1 in one image, one position at a time; -1e4 for a class without a position."""
    places = [(i, j) for i in range(y.shape[0]) for j in range(y.shape[1])]
    maps = torch.full((CLASSES, *y.shape), -1e4, dtype=feature.dtype)
    for k in range(CLASSES):
        members = [feature[:, i, j].tolist() for i, j in places if y[i, j] == k]
        if not members:
            continue
        centre = [sum(column) / len(members) for column in zip(*members, strict=True)]
        for i, j in places:
            place = feature[:, i, j].tolist()
            product = sum(u * v for u, v in zip(place, centre, strict=True))
            maps[k, i, j] = product / math.hypot(*place) / math.hypot(*centre) / 0.1
    return maps


def respond_by_loops(maps: Tensor, peer: Tensor, y: Tensor) -> float:
    each = []
    for b, i, j in (y != 255).nonzero().tolist():
        p, q = ([math.exp(v - max(z)) for v in z] for z in (maps[b, :, i, j].tolist(), peer[b, :, i, j].tolist()))
        p, q = ([v / sum(row) for v in row] for row in (p, q))
        each.append(sum(v * math.log(v / u) for u, v in zip(p, q, strict=True) if v > 0))
    return sum(each) / len(each)


def test_prototype_maps_are_cosines_with_the_mean_feature_of_each_class(device):
    feature, y = features(), reduce_to(target(), (4, 4))
    expected = torch.stack([prototypes_by_loops(image, truth) for image, truth in zip(feature, y, strict=True)])
    assert_close(prototypes(feature.to(device), target().to(device), CLASSES).cpu(), expected)


@pytest.mark.parametrize("variant", ["response", "prototype"])
def test_responses_are_aligned_by_the_divergence_position_by_position(device, variant):
    y = target()
    y[1, :4, :4] = 255
    own, peer = (see(variant, features(seed=seed), y).maps for seed in (0, 1))
    expected = respond_by_loops(own, peer, reduce_to(y, (4, 4)))
    assert respond(own.to(device), peer.to(device), y.to(device)).item() == pytest.approx(expected, rel=1e-10)


def test_an_absent_class_has_no_share_in_the_softmax_over_prototypes():
    share, present = prototypes(features(), target(), CLASSES).softmax(1), presence(target(), CLASSES)
    for image in (0, 1):
        held = share[image].flatten(1).amax(1) > 0
        assert torch.equal(held, present[image])
    assert_close(share.sum(1), torch.ones_like(share[:, 0]))


def test_a_class_of_one_position_has_its_own_feature_as_prototype():
    maps = prototypes(features(), target(), CLASSES)
    assert maps[0, 2, 1, 2].item() == pytest.approx(10)  # cosine 1 at pixel (3, 5) of 8 x 8, which is (1, 2) of 4 x 4
    assert maps[:2].amax().item() <= 10 + 1e-9


def test_a_pixel_that_is_ignored_has_no_say_in_a_prototype():
    feature, y = features(), target()
    y[1, :, :4] = 255
    other = feature.clone()
    other[1, :, :, :2] += 9
    maps, changed = (prototypes(f, y, CLASSES) for f in (feature, other))
    assert torch.equal(maps[..., 2:], changed[..., 2:])
    assert not torch.equal(maps[1], changed[1])


def test_an_image_of_one_class_costs_the_prototypes_nothing():
    y, feature = torch.ones(3, 8, 8, dtype=torch.long), features().requires_grad_()
    terms = cfcl([see("prototype", feature, y)], [see("prototype", features(seed=1), y)], y, "prototype")
    terms.alignment.backward()
    assert terms.alignment.item() == 0
    assert not feature.grad.any()


def test_prototypes_depend_on_angles_alone_and_not_on_the_width_of_the_network():
    feature, peer, y = features(), features(7, seed=1), target()
    turn = torch.linalg.qr(torch.randn(9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    wider = torch.einsum("dc,bchw->bdhw", 3 * turn[:, :5], feature)  # nine channels, turned and thrice as long
    terms, same = (
        cfcl([see("prototype", f, y)], [see("prototype", peer, y)], y, "prototype") for f in (feature, wider)
    )
    assert terms.alignment > 0.1
    assert_close(same.alignment, terms.alignment)


def test_without_a_module_prototypes_are_perceived_and_nothing_is_supervised():
    seen = perceive(None, features(), target(), CLASSES)
    assert torch.equal(seen.maps, prototypes(features(), target(), CLASSES))
    assert seen.embeddings.shape == (3, CLASSES, 0)
    assert cfcl([seen], [seen], target(), "prototype").supervision.item() == 0
    cpm = module()
    assert all(torch.equal(*v) for v in zip(perceive(cpm, features(), target(), CLASSES), cpm(features()), strict=True))


@each_variant
def test_students_who_perceive_alike_have_nothing_to_align(variant):
    seen = see(variant, features(), target())
    assert cfcl([seen], [seen], target(), variant).alignment.item() == pytest.approx(0, abs=1e-12)


@each_variant
def test_each_variant_aligns_what_it_says(variant):
    y = target()
    own, peer = see(variant, features(), y), see(variant, features(seed=1), y)
    terms = cfcl([own], [peer], y, variant)
    if variant == "embedding":
        expected = align(own.embeddings, peer.embeddings, presence(y, CLASSES))
    else:
        expected = respond(own.maps, peer.maps, y)
    assert torch.equal(terms.alignment, expected)
    assert terms.alignment > 0
    assert torch.equal(terms.supervision, own.maps.new_zeros(()) if variant == "prototype" else supervise([own], y))


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
    assert_close(supervise(own, y), (supervision(own[0].maps, y) + supervision(own[1].maps, y)) / 2)
    with pytest.raises(ValueError, match="shorter"):
        cfcl(own, peer[:1], y, variant)


def test_embeddings_are_at_the_same_distance_from_either_side():
    one, other = module()(features()), module(7)(features(7, seed=1))
    assert_close(cfcl([one], [other], target()).alignment, cfcl([other], [one], target()).alignment)


@each_variant
def test_a_batch_of_one_with_one_class_works(variant):
    y = torch.ones(1, 8, 8, dtype=torch.uint8)
    terms = cfcl([see(variant, features()[:1], y)], [see(variant, features(seed=1)[:1], y)], y, variant)
    assert torch.isfinite(loss_of(terms))


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
