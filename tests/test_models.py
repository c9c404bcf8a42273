"""Students: one pyramid, one decoder, whole networks, weights that know what they are."""

import io
import subprocess
import sys
from copy import deepcopy
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ctrcl.engine.infer import profile_cost
from ctrcl.io import UserError
from ctrcl.models.decoders import SelectiveFusion
from ctrcl.models.encoders import STRIDES, Encoder
from ctrcl.models.networks import NETWORKS as WHOLE
from ctrcl.models.students import Design, Student, load, save, save_tensors

START_AT_2 = ("monai/BasicUNetPlusPlus", "monai/UNETR")  # their maps lie at strides 2 to 16
LIGHT = ("resnet10t", "pvt_v2_b0", "convnext_atto", "mobilenetv3_small_100", "swin_pico", *WHOLE)
DESIGNS = [Design(name, 3, 5, 64, 16) for name in LIGHT]
DESIGNS += [Design(name, 3, 5, 64, 16, "selective") for name in ("resnet10t", "pvt_v2_b0")]
TEACHERS = [Design(name, 3, 5, 64, 16) for name in ("resnet50", "pvt_v2_b2", "swin_tiny_patch4_window7_224")]


def name_of(design):
    return f"{design.network}-{design.decoder}"


every_design = pytest.mark.parametrize("design", DESIGNS, ids=name_of)


def built(design):
    torch.manual_seed(0)
    return Student(design)


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("design", [*DESIGNS, *TEACHERS], ids=name_of)
@pytest.mark.parametrize(("channels", "size"), [(1, 64), (3, 32)])
def test_a_student_classifies_every_pixel_and_shows_four_maps_fine_to_coarse(design, channels, size):
    student = built(replace(design, channels=channels, size=size)).eval()
    with torch.inference_mode():
        prediction = student(images(2, channels, size, size))
    assert prediction.logits.shape == (2, 5, size, size)
    assert_close(prediction.probabilities.sum(1), torch.ones(2, size, size))
    finer = 2 if design.network in START_AT_2 else 1
    assert [tuple(m.shape) for m in prediction.features] == [
        (2, width, finer * size // stride, finer * size // stride)
        for width, stride in zip(student.widths, STRIDES, strict=True)
    ]


@every_design
@pytest.mark.parametrize("size", [32, 64])
def test_the_loss_reaches_every_parameter_and_every_map(design, size):
    student = built(replace(design, size=size))
    prediction = student(images(2, 3, size, size))
    assert not prediction.offered.requires_grad
    for feature in prediction.features:
        feature.retain_grad()
    prediction.logits[:, 0].sum().backward()
    assert [name for name, p in student.named_parameters() if p.grad is None] == []
    assert all(feature.grad.any() for feature in prediction.features)


@every_design
def test_an_image_is_classified_alone_as_in_a_batch_and_nothing_is_kept_between_calls(design):
    student = built(design).eval()
    before = list(vars(student)), [len(module._forward_hooks) for module in student.modules()]
    with torch.inference_mode():
        one, two, alone = student(x := images(2, 3, 64, 64)), student(x), student(x[1:])
    assert torch.equal(one.logits, two.logits)
    assert all(torch.equal(f, g) for f, g in zip(one.features, two.features, strict=True))
    assert_close(alone.logits, one.logits[1:], atol=1e-4, rtol=1e-4)
    assert (list(vars(student)), [len(module._forward_hooks) for module in student.modules()]) == before


@every_design
def test_a_copy_a_pickle_and_a_file_are_the_same_student(design, tmp_path):
    student = built(design)
    student(images(2, 3, 64, 64))  # so that batch norms have something to remember
    torch.save(student.eval(), pickled := io.BytesIO())
    pickled.seek(0)
    save(student, tmp_path / "one.safetensors", {"dataset": "phantom-cardiac", "seed": 3})
    again, about = load(tmp_path / "one.safetensors")
    save(again, tmp_path / "two.safetensors", {"seed": 3, "dataset": "phantom-cardiac"})
    assert (again.design, about["seed"]) == (design, 3)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    x = images(1, 3, 64, 64)
    with torch.inference_mode():
        for twin in (deepcopy(student), torch.load(pickled, weights_only=False), again):
            assert torch.equal(student(x).logits, twin(x).logits)


@every_design
def test_half_precision_gives_finite_float32_logits_and_gradients(design):
    student = built(design)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = student(images(2, 3, 64, 64))
    assert prediction.logits.dtype == torch.float32
    prediction.logits.square().mean().backward()
    assert prediction.logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in student.parameters())


def test_a_map_with_as_many_rows_as_channels_is_turned_all_the_same():
    encoder = Encoder("swin_pico", channels=3, size=128).eval()
    x = images(1, 3, 128, 128)
    assert_close(encoder(x)[0], encoder.backbone(x)[0].movedim(3, 1))  # 1 x 32 x 32 x 32


def test_networks_are_imported_only_where_they_are_built():
    line = "import sys, ctrcl.methods.base; sys.exit(any(name in sys.modules for name in ('monai', 'timm')))"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"size": 48}, "monai/UNet takes images whose size is a multiple of 32, not 48"),
        ({"decoder": "selective"}, "monai/UNet has its own decoder, not 'selective'"),
        ({"network": "monai/VNet"}, "unknown network 'monai/VNet'; timm knows: .*; MONAI brings: monai/UNet, "),
        ({"network": "resnet10x"}, "unknown network 'resnet10x'"),
        ({"decoder": "heavy"}, "unknown decoder 'heavy'; choose one of light, selective"),
    ],
)
def test_a_design_that_cannot_be_built_is_refused(changed, parts):
    with pytest.raises(UserError, match=parts):
        Student(Design(**asdict(Design("monai/UNet", 1, 2, 64, 16)) | changed))


def test_the_price_of_an_image_is_the_operations_of_its_convolutions():
    """A ResNet and our decoder are nothing else; a multiply-add is two operations."""
    student, counted = built(Design("resnet10t", 3, 5, 64, 16)).eval(), []

    def add(module, _, out):
        counted.append(2 * out.numel() * module.weight[0].numel())

    hooks = [m.register_forward_hook(add) for m in student.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        student(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    gflops, milliseconds = profile_cost(student, torch.device("cpu"), repeats=3)
    assert gflops == pytest.approx(sum(counted) / 1e9)
    assert 0 < milliseconds < 10_000


def test_whole_networks_start_at_random():
    with pytest.raises(UserError, match="monai/UNet has no pretrained weights; choose a timm network"):
        Student(Design("monai/UNet", 1, 2, 64, 16), pretrained=True)


def fusion(width=8):
    torch.manual_seed(0)
    module = SelectiveFusion(width).double().eval()
    nn.init.normal_(module.excite.weight)  # as after some training
    return module


def test_fusion_starts_as_the_sum_of_its_branches():
    module, x = SelectiveFusion(8).eval(), images(2, 8, 5, 6)
    assert_close(module(x), sum(branch(x) for branch in module.branches))


def test_fusion_sees_five_pixels_far():
    reach = torch.zeros(1, 8, 9, 9, dtype=torch.float64).requires_grad_()
    (seen,) = torch.autograd.grad(fusion().branches[1][0](reach)[0, :, 4, 4].sum(), reach)
    assert seen[0, 0].nonzero()[:, 0].unique().tolist() == [2, 4, 6]


def test_fusion_is_the_formula_position_by_position():
    module, x = fusion(), images(2, 8, 5, 6).double()
    near, far = (branch(x) for branch in module.branches)
    fused = module(x)
    for b in range(2):
        squeezed = (near[b] + far[b]).flatten(1).mean(1)
        hidden = (module.squeeze[0].weight @ squeezed + module.squeeze[0].bias).clamp_min(0)
        scores = (module.excite.weight @ hidden + module.excite.bias).tolist()
        for c in range(8):
            share = 1 / (1 + torch.tensor(scores[8 + c] - scores[c], dtype=torch.float64).exp())
            assert_close(fused[b, c], 2 * (share * near[b, c] + (1 - share) * far[b, c]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network": "pvt_v2_b0"}, "holds weights of another architecture than pvt_v2_b0"),
        ({"depth": 3}, "was written by another version of ctrcl .*; train it again"),
        ({"size": None}, "was written by another version of ctrcl .*; train it again"),
    ],
)
def test_weights_of_another_architecture_or_version_are_refused(tmp_path, changed, message):
    student = Student(Design("resnet10t", 1, 2, 32, width=16))
    design = {key: value for key, value in (asdict(student.design) | changed).items() if value is not None}
    save_tensors(student, tmp_path / "w.safetensors", {"design": design})
    with pytest.raises(UserError, match=rf"w\.safetensors {message}"):
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


def test_pretrained_weights_out_of_reach_are_never_a_random_start(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import timm

    def refuse(*args, pretrained, **options):
        assert pretrained
        raise OSError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(UserError, match=r"pretrained weights of resnet10t cannot be had .*-scratch"):
        Encoder("resnet10t", 3, 64, pretrained=True)
