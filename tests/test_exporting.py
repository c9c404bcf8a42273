"""Exported students: ONNX Runtime says what evaluation says, and the files hold the student and nothing else."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch.testing import assert_close

from ctrcl.engine import export as exporting
from ctrcl.engine.infer import probabilities
from ctrcl.models.networks import NETWORKS
from ctrcl.models.students import Design, Student, load, save

slow = pytest.mark.slow
FAST = ("resnet10t", "pvt_v2_b0", "monai/UNet")
SLOW = ("convnext_atto", "mobilenetv3_small_100", "swin_tiny_patch4_window7_224", *sorted({*NETWORKS} - {*FAST}))


def trained(network: str, channels: int = 1, size: int = 64, decoder: str = "light") -> Student:
    """A student whose batch norms have seen something."""
    torch.manual_seed(0)
    student = Student(Design(network, channels, 3, size, 16, decoder))
    with torch.no_grad():
        student(torch.randn(4, channels, size, size))
    return student.eval()


@pytest.mark.parametrize("network", [*FAST, *(pytest.param(name, marks=slow) for name in SLOW)])
def test_onnx_says_what_evaluation_says_for_any_number_of_images(network, tmp_path):
    student = trained(network, size=32 if network == "monai/UNet" else 64)
    exporting.write_graph(student, tmp_path / "student.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx")
    for count in (1, 5):
        images = np.random.default_rng(count).random((count, 1, student.design.size, student.design.size), np.float32)
        (found,) = session.run(["probabilities"], {"image": images})
        assert_close(torch.from_numpy(found), probabilities(student, images), atol=1e-5, rtol=1e-4)


def test_both_files_hold_the_student_alone(tmp_path):
    student = trained("resnet10t", channels=3, size=32, decoder="selective")
    save(student, tmp_path / "seed0-a.safetensors", {"dataset": "phantom-polyp"})
    for folder in ("one", "two"):
        exporting.export(tmp_path / "seed0-a.safetensors", tmp_path / folder)
    one, two = (sorted((tmp_path / folder).iterdir()) for folder in ("one", "two"))
    assert [path.name for path in one] == ["seed0-a.onnx", "seed0-a.safetensors"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert one[1].read_bytes() == (tmp_path / "seed0-a.safetensors").read_bytes()
    again, about = load(one[1])
    assert again.design == student.design
    assert about["dataset"] == "phantom-polyp"
    weights = sum(tensor.nbytes for tensor in student.parameters())
    assert weights < one[0].stat().st_size < 1.05 * weights
    assert b"site-packages" not in one[0].read_bytes()


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    save(trained("resnet10t", size=32), tmp_path / "a.safetensors", {})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(exporting, "write_graph", fail)
    with pytest.raises(OSError, match="disk full"):
        exporting.export(tmp_path / "a.safetensors", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
