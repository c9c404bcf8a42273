"""Students: one pyramid, one decoder, weights that know what they are."""

import pytest
import torch
from torch import nn

from ctrcl.files import UserError
from ctrcl.models.encoders import STRIDES, Encoder
from ctrcl.models.students import Design, Student, count, load, save, save_tensors

NETWORKS = (
    "resnet10t",
    "resnet50",
    "pvt_v2_b0",
    "pvt_v2_b2",
    "swin_tiny_patch4_window7_224",
    "convnext_atto",
    "mobilenetv3_small_050",
)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_backbone_gives_four_channel_first_maps_at_strides_4_to_32(network):
    with torch.inference_mode():
        encoder = Encoder(network, channels=1, size=64).eval()
        maps = encoder(torch.randn(2, 1, 64, 64))
    assert [tuple(m.shape) for m in maps] == [
        (2, width, 64 // stride, 64 // stride) for width, stride in zip(encoder.widths, STRIDES, strict=True)
    ]


@pytest.mark.parametrize("network", ["resnet10t", "pvt_v2_b0"])
def test_a_student_classifies_every_pixel_and_learns(network):
    student = Student(Design(network, 3, 5, 64, width=16))
    prediction = student(torch.randn(2, 3, 64, 64))
    assert prediction.logits.shape == (2, 5, 64, 64)
    torch.testing.assert_close(prediction.probabilities.sum(1), torch.ones(2, 64, 64))
    assert not prediction.offered.requires_grad
    prediction.logits.square().mean().backward()
    assert all(p.grad is not None for p in student.parameters())


def test_softmax_is_computed_once():
    prediction = Student(Design("resnet10t", 1, 2, 64, width=16))(torch.randn(1, 1, 64, 64))
    assert prediction.log_probabilities is prediction.log_probabilities
    assert prediction.probabilities is prediction.probabilities


def test_weights_come_back_as_they_were_and_equal_weights_are_equal_bytes(tmp_path):
    student = Student(Design("resnet10t", 1, 2, 32, width=16)).eval()
    save(student, tmp_path / "one.safetensors", {"dataset": "phantom-cardiac", "seed": 3})
    save(student, tmp_path / "two.safetensors", {"seed": 3, "dataset": "phantom-cardiac"})
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    again, about = load(tmp_path / "one.safetensors")
    assert about["seed"] == 3
    images = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(student(images).logits, again(images).logits)


def test_weights_of_another_architecture_are_refused(tmp_path):
    wrong = Student(Design("resnet10t", 1, 2, 32, width=16))
    wrong.design = Design("pvt_v2_b0", 1, 2, 32, width=16)
    save(wrong, tmp_path / "w.safetensors", {})
    with pytest.raises(UserError, match=r"w\.safetensors holds weights of another architecture than pvt_v2_b0"):
        load(tmp_path / "w.safetensors")


def test_what_is_no_student_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.safetensors is missing"):
        load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00garbage!")
    with pytest.raises(UserError, match=r"bad\.safetensors is no readable safetensors file"):
        load(tmp_path / "bad.safetensors")
    save_tensors(nn.Linear(1, 1), tmp_path / "module.safetensors", {"experiment": "ctrcl"})
    with pytest.raises(UserError, match="holds no student"):
        load(tmp_path / "module.safetensors")


def test_an_unknown_network_is_refused_with_names_that_are_near():
    with pytest.raises(UserError, match="unknown network 'resnet10x'"):
        Encoder("resnet10x", 3, 64)


def test_pretrained_weights_out_of_reach_are_never_a_random_start(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import timm

    def refuse(*args, pretrained, **options):
        assert pretrained
        raise OSError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(UserError, match=r"pretrained weights of resnet10t cannot be had .*-scratch"):
        Encoder("resnet10t", 3, 64, pretrained=True)


def test_count_is_the_number_of_parameters():
    assert count(nn.Linear(3, 4)) == 3 * 4 + 4
