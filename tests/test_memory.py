"""CIRKD's memory: every queue holds its own class, gives up its oldest, and is compared with as the formula says."""

import pytest
import torch
from loops import cosine, counted_pixels, mean, soft_divergence
from strategies import HALVES, drawn_features, spotted_target
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from ctrcl import ClassMemory

CLASSES = 4


def memory(**options: int) -> ClassMemory:
    torch.manual_seed(0)
    return ClassMemory(3, 5, CLASSES, **{"pixel_slots": 50, "region_slots": 20, **options}).double()


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    return drawn_features(3, seed=seed), drawn_features(5, seed=seed + 100), spotted_target()


def by_colour(y: Tensor) -> Tensor:
    """A teacher's feature that says the class of its position in its direction, 0 where ignored."""
    return functional.one_hot(y.where(y != 255, 4), 5)[..., :5].movedim(3, 1).double() * (y != 255).unsqueeze(1)


def held(module: ClassMemory, k: int) -> tuple[Tensor, Tensor]:
    """What the queues of a class hold."""
    pixels, regions = int(module.pixels.seen[k]), int(module.regions.seen[k])
    return module.pixels.rows[k, :pixels], module.regions.rows[k, :regions]


def term_by_loops(own: Tensor, fixed: Tensor, y: Tensor, anchors: Tensor) -> float:
    """KL at temperature 0.1, row by row, over the positions that count."""
    each = []
    for b, i, j in counted_pixels(y):
        rows = [[cosine(f[b, :, i, j], a) for a in anchors] for f in (fixed, own)]
        each.append(soft_divergence(*rows, 0.1))
    return mean(each)


def test_both_terms_are_the_formula_position_by_position(device):
    module = memory().to(device)
    module(*(v.to(device) for v in batch(1)))  # fewer entries than anchors: all are compared with
    s, t, y = batch()
    own = module.project(s.to(device)).detach().cpu()
    entries = [held(module, k) for k in range(CLASSES)]
    pixels, regions = (torch.cat(each).cpu() for each in zip(*entries, strict=True))
    assert (len(pixels), len(regions)) == (8 + 1 + 12, 3)
    found = module(s.to(device), t.to(device), y.to(device))
    assert found[0].item() == pytest.approx(term_by_loops(own, t, y, pixels), rel=1e-9)
    assert found[1].item() == pytest.approx(term_by_loops(own, t, y, regions), rel=1e-9)


def test_an_empty_memory_costs_nothing_and_is_filled(device):
    module, (s, t, y) = memory().to(device), (v.to(device) for v in batch())
    terms = module(s.requires_grad_(), t, y)
    sum(terms).backward()
    assert [term.item() for term in terms] == [0, 0]
    assert not s.grad.any()
    assert module.pixels.seen.tolist() == [8, 12, 1, 0]
    assert module.regions.seen.tolist() == [1, 1, 1, 0]
    assert all(term.item() > 0 for term in module(s, t, y))


def test_a_queue_holds_only_its_class(device):
    module = memory(pushed=3).to(device)
    generator = torch.Generator().manual_seed(1)
    for _ in range(8):
        y = torch.randint(0, CLASSES, (3, 9, 9), generator=generator)
        y[torch.rand(y.shape, generator=generator) < 0.2] = 255
        feature = by_colour(y) * (1 + torch.rand(y.shape, generator=generator).unsqueeze(1))
        module(drawn_features(size=(9, 9)).to(device), feature.to(device), y.to(device))
    assert module.pixels.seen.tolist() == [72] * 4  # three of every image and class
    for k in range(CLASSES):
        colour = torch.eye(5, dtype=torch.float64, device=device)[k]
        assert_close(module.pixels.rows[k], colour.expand(50, 5))
        assert_close(module.regions.rows[k], colour.expand(20, 5))


def test_pixels_are_different_ones_of_the_image_and_regions_are_their_mean():
    module, (s, t, y) = memory(pushed=5), batch()
    module(s, t, y)
    unit = functional.normalize(t, dim=1)
    for k, image in ((0, 0), (1, 1), (2, 0)):
        pixels, regions = held(module, k)
        candidates = unit[image][:, y[image] == k].T
        found = (pixels.unsqueeze(1) - candidates).abs().amax(2) < 1e-12
        assert len(pixels) == min(5, len(candidates))
        assert (found.sum(1) == 1).all()
        assert (found.sum(0) <= 1).all()
        assert_close(regions, functional.normalize(candidates.mean(0), dim=0).unsqueeze(0))


def test_a_full_queue_gives_up_its_oldest():
    module = memory(region_slots=4)
    y = torch.zeros(1, 4, 3, dtype=torch.long)
    means = []
    for seed in range(6):
        feature = drawn_features(5, seed=seed, images=1)
        module(drawn_features(images=1), feature, y)
        means.append(functional.normalize(functional.normalize(feature, dim=1).mean((2, 3)), dim=1)[0])
    assert_close(module.regions.rows[0], torch.stack([means[4], means[5], means[2], means[3]]))
    assert module.regions.seen.tolist() == [6, 0, 0, 0]
    assert module.pixels.seen.tolist() == [72, 0, 0, 0]


def test_more_pixels_than_a_queue_holds_fill_it_once():
    module, (s, t, y) = memory(pixel_slots=7), batch()
    module(s, t, y)
    assert module.pixels.seen.tolist() == [7, 7, 1, 0]
    unit = functional.normalize(t, dim=1)[1].flatten(1).T
    found = (module.pixels.rows[1].unsqueeze(1) - unit).abs().amax(2) < 1e-12
    assert (found.sum(1) == 1).all()


def test_anchors_are_shared_equally_by_the_classes():
    assert (memory().pixels.number, memory().regions.number) == (1024, 256)
    few = memory(pixel_anchors=8, region_anchors=3)
    assert (few.pixels.number, few.regions.number) == (2, 1)


def test_few_anchors_are_drawn_from_the_queue_anew():
    module, (s, t, y) = memory(pixel_anchors=8).eval(), batch()
    for seed in range(3):
        module(*batch(seed))
    state = {name: value.clone() for name, value in module.state_dict().items()}
    drawn = set()
    for seed in (1, 1, 2):
        module.load_state_dict(state)
        torch.manual_seed(seed)
        drawn.add(module(s, t, y)[0].item())
    assert len(drawn) == 2


def test_no_gradient_reaches_the_teacher_or_the_queues():
    module = memory()
    module(*batch(1))
    s, t, y = batch()
    sum(module(s.requires_grad_(), t.requires_grad_(), y)).backward()
    assert t.grad is None
    assert s.grad.any()
    assert all(weight.grad.any() for weight in module.parameters() if weight.ndim > 1)
    assert not any(buffer.requires_grad for buffer in module.buffers())


def test_gradients_are_those_of_finite_differences():
    module = memory().eval()
    module(*batch(1))
    kept = [(buffer, buffer.clone()) for buffer in (*module.pixels.buffers(), *module.regions.buffers())]
    _, t, y = batch()

    def both(s: Tensor) -> Tensor:
        for buffer, value in kept:
            buffer.copy_(value)
        return sum(module(s, t, y))

    assert torch.autograd.gradcheck(both, drawn_features().requires_grad_())


def test_an_ignored_batch_costs_nothing_and_is_not_remembered():
    module = memory()
    module(*batch(1))
    before = [buffer.clone() for buffer in (*module.pixels.buffers(), *module.regions.buffers())]
    s, t, _ = batch()
    terms = module(s.requires_grad_(), t, torch.full((3, 8, 8), 255))
    sum(terms).backward()
    assert [term.item() for term in terms] == [0, 0]
    assert not s.grad.any()
    after = *module.pixels.buffers(), *module.regions.buffers()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_what_an_ignored_position_holds_does_not_matter():
    s, t, y = batch()
    terms = []
    for noise in (0.0, 9.0):
        module = memory().eval()
        module(*batch(1))
        torch.manual_seed(3)
        ignored = noise * (y == 255).unsqueeze(1)
        terms.append(
            torch.stack([*module(s + ignored, t - ignored, y), module.pixels.rows.sum(), module.regions.rows.sum()])
        )
    assert_close(*terms)


def test_grids_may_differ_and_a_batch_may_be_one_image():
    module = memory()
    y = torch.arange(8).div(3, rounding_mode="floor").expand(1, 8, 8)
    for large, small in (((8, 6), (4, 3)), ((4, 3), (8, 6))):
        terms = module(drawn_features(3, large, images=1), drawn_features(5, small, seed=1, images=1), y)
    assert all(term.item() > 0 for term in terms)
    assert module.regions.seen.tolist() == [2, 2, 2, 0]


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_kept_and_dead_features_are_harmless(dtype):
    s, t, y = batch()
    s, t = (1e3 * s.sign()).to(dtype), (6e4 * t.sign()).to(dtype)  # the student's projection is its network's
    s[1], t[0, :, 1] = 0, 0
    for module, autocast in ((memory().float(), True), (memory().to(dtype), False)):
        student = s.clone().requires_grad_()
        with torch.autocast("cpu", dtype, enabled=autocast):
            for _ in range(2):
                terms = module(student, t, y)
        sum(terms).backward()
        assert all(term.dtype == dtype for term in terms)
        assert all(torch.isfinite(v).all() for v in (*terms, student.grad, module.pixels.rows, module.regions.rows))
