"""Two players: the algebra of their losses, the penalty, the curriculum, and gradients that reach one player only."""

import math

import pytest
import torch
from strategies import HALVES
from torch import Tensor, nn
from torch.testing import assert_close

from ctrcl.losses.adversarial import Temperature, ctkd_strength, frozen, reverse
from ctrcl.methods.afd import Discriminator, lsgan_discriminator, lsgan_generator
from ctrcl.methods.skd import Critic, wgan_critic, wgan_generator


def maps(channels: int = 3, size: int = 8, seed: int = 0, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, size, size, generator=generator)


def seeded(player: type[nn.Module], *sizes: int) -> nn.Module:
    torch.manual_seed(0)
    return player(*sizes)


class Linear(nn.Module):
    """A critic whose gradient has the same length everywhere."""

    def __init__(self, length: float):
        super().__init__()
        direction = maps(batch=1).double()
        self.weight = nn.Parameter(length * direction / direction.norm())

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).sum((1, 2, 3))


@pytest.mark.parametrize("strength", [-1.0, -0.25, 0.0, 1.0, 2.5])
def test_reversal_keeps_the_values_and_multiplies_the_gradient(strength):
    x = maps().double().requires_grad_()
    (plain,) = torch.autograd.grad(x.square().sum(), x)
    turned = reverse(x, strength)
    assert torch.equal(turned, x)
    (found,) = torch.autograd.grad(turned.square().sum(), x)
    assert torch.equal(found, strength * plain)


def test_strength_falls_from_zero_to_minus_one_on_a_half_cosine_and_stays():
    assert [ctkd_strength(epoch) for epoch in (0, 10, 11, 500)] == [0, -1, -1, -1]
    assert ctkd_strength(5) == pytest.approx(-0.5)
    assert ctkd_strength(1, epochs=4) == pytest.approx((math.sqrt(0.5) + 1) / 2 - 1)


def test_tau_is_the_reference_and_stays_between_its_bounds():
    assert Temperature()(-1.0).item() == pytest.approx(15.6211715726, rel=1e-7)
    assert Temperature(0.0, start=2.0, span=4.0)(0.0).item() == 4
    assert Temperature(-200.0)(-1.0).item() == 1
    assert Temperature(200.0)(-1.0).item() == 21


@pytest.mark.parametrize("player", [Discriminator, Critic])
def test_frozen_says_the_same_and_teaches_the_inputs_alone(player, device):
    module, x = seeded(player, 3, 4).to(device), maps().to(device).requires_grad_()
    assert torch.equal(frozen(module, x), module(x))
    frozen(module, x).sum().backward()
    (plain,) = torch.autograd.grad(module(x).sum(), x)
    assert_close(x.grad, plain)
    assert all(weight.grad is None and weight.requires_grad for weight in module.parameters())


def test_frozen_uses_the_buffers_as_they_are():
    norm = nn.BatchNorm2d(3)
    x = maps()
    frozen(norm, x)
    assert_close(norm.running_mean, 0.1 * x.mean((0, 2, 3)))


def test_one_backward_gives_each_wgan_player_its_own_gradient():
    critic, real, fake = seeded(Critic, 3, 4), maps().requires_grad_(), maps(seed=1).requires_grad_()
    weights = list(critic.parameters())
    theirs = wgan_critic(critic, real, fake, source=torch.Generator().manual_seed(2))
    ours = wgan_generator(critic, fake)
    alone = torch.autograd.grad(theirs, weights, retain_graph=True, materialize_grads=True)
    (of_fake,) = torch.autograd.grad(ours, fake, retain_graph=True)
    (theirs + ours).backward()
    assert_close([weight.grad for weight in weights], list(alone))
    assert all(weight.grad.any() for name, weight in critic.named_parameters() if name != "judge.bias")
    assert_close(fake.grad, of_fake)
    assert real.grad is None


def test_lsgan_is_squares_of_the_distance_to_one_and_zero():
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.5, -1.0])
    assert lsgan_discriminator(real, fake).item() == (0 + 4) / 2 + (0.25 + 1) / 2
    assert lsgan_generator(fake).item() == (0.25 + 4) / 2


@pytest.mark.parametrize(("length", "excess"), [(1.0, 0.0), (3.0, 4.0), (0.0, 1.0)])
def test_the_penalty_is_the_squared_excess_of_the_slope(length, excess, device):
    critic, real, fake = Linear(length).to(device), maps().double().to(device), maps(seed=1).double().to(device)
    apart = critic(fake).mean() - critic(real).mean()
    assert_close(wgan_critic(critic, real, fake), apart + 10 * excess, atol=1e-10, rtol=0)
    assert_close(wgan_critic(critic, real, fake, penalty=0.5), apart + 0.5 * excess, atol=1e-10, rtol=0)
    assert_close(wgan_generator(critic, fake), -critic(fake).mean())


def test_the_penalty_teaches_the_critic_its_slope():
    critic = Linear(3.0)
    wgan_critic(critic, maps().double(), maps().double()).backward()  # real = fake: nothing but the penalty
    along = (critic.weight.grad * critic.weight / 3).sum().item()
    assert along == pytest.approx(10 * 2 * (3 - 1))


def test_the_slope_is_taken_between_real_and_fake():
    seen = []

    def between(x: Tensor) -> Tensor:
        seen.append(x)
        return x.sum((1, 2, 3))

    zeros, ones = torch.zeros(5, 1, 8, 8), torch.ones(5, 1, 8, 8)
    critic = nn.Module()
    critic.forward = between
    wgan_critic(critic, real=ones, fake=zeros, source=torch.Generator().manual_seed(7))
    share = torch.rand(5, 1, 1, 1, generator=torch.Generator().manual_seed(7))
    assert_close(seen[0].detach(), share.expand(5, 1, 8, 8))


@pytest.mark.parametrize(("player", "sizes"), [(Discriminator, (1, 2, 7)), (Critic, (8, 9, 64))])
def test_every_size_gives_one_score_per_image(player, sizes):
    module = seeded(player, 3, 4)
    for size in sizes:
        together = module(maps(size=size))
        assert together.shape == (2,)
        assert_close(together[1:], module(maps(size=size)[1:]))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("player", [Discriminator, Critic])
def test_half_precision_comes_in_and_float32_scores_come_out(player, dtype, device):
    module, x = seeded(player, 3, 4).to(device), (100 * maps()).to(dtype).to(device).requires_grad_()
    with torch.autocast(device, torch.bfloat16):
        scores, held = module(x), frozen(module, x)
        loss = wgan_critic(module, x, -x)
    assert scores.dtype == held.dtype == loss.dtype == torch.float32
    assert_close(scores, module(x.float()), rtol=0, atol=0)
    (loss + held.sum()).backward()
    assert x.grad.dtype == dtype
    assert all(torch.isfinite(v.grad).all() for v in (x, *module.parameters()) if v.grad is not None)
