"""The registry and the collaborative method: names, terms, gradients, and students that the method cannot change."""

import pytest
import torch

from ctrcl import methods
from ctrcl.files import UserError
from ctrcl.losses.logits import kl
from ctrcl.losses.soft_labels import rectify
from ctrcl.losses.targets import IGNORE
from ctrcl.models.students import Prediction

WIDTHS = {"a": [8, 12, 16, 20], "b": [6, 8, 10, 12]}


def predictions(seed=0, classes=3):
    torch.manual_seed(seed)
    return {
        name: Prediction(
            (3 * torch.randn(2, classes, 16, 16)).requires_grad_(),
            [torch.randn(2, w, 16 >> i, 16 >> i, requires_grad=True) for i, w in enumerate(widths)],
        )
        for name, widths in WIDTHS.items()
    }


def target(classes=3):
    torch.manual_seed(9)
    y = torch.randint(0, classes, (2, 16, 16))
    y[:, :2] = IGNORE
    return y


def built(values, classes=3):
    torch.manual_seed(1)
    return methods.build("x", values, WIDTHS, classes)


ALL = [
    {"method": "alone"},
    {"method": "dml"},
    {"method": "dml", "temperature": 2.0, "alpha": 0.5},
    {"method": "ctrcl"},
    {"method": "ctrcl", "beta": 0.0},
    {"method": "ctrcl", "alpha": 0.0},
    {"method": "ctrcl", "factors": ["similarity"], "stages": [1, 2, 3, 4], "dimension": 8},
    {"method": "ctrcl", "constant": 0.0},
]


@pytest.mark.parametrize("values", ALL, ids=str)
def test_terms_are_named_finite_scalars_that_reach_both_students(values):
    seen = predictions()
    terms = built(values)(seen, target())
    assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
    assert {"seg_a", "seg_b"} <= set(terms)
    torch.stack(list(terms.values())).sum().backward()
    assert all(prediction.logits.grad is not None for prediction in seen.values())


@pytest.mark.parametrize("values", ALL, ids=str)
def test_a_students_terms_send_no_gradient_into_its_peer(values):
    for mine, other in (("a", "b"), ("b", "a")):
        seen = predictions()
        terms = built(values)(seen, target())
        sum(term for name, term in terms.items() if name.endswith(f"_{mine}")).backward()
        peer = seen[other]
        assert all(t.grad is None or not t.grad.any() for t in (peer.logits, *peer.features))
        assert seen[mine].logits.grad.any()


def test_alone_is_segmentation_and_nothing_else():
    assert set(built({"method": "alone"})(predictions(), target())) == {"seg_a", "seg_b"}


def test_dml_pulls_each_towards_the_peers_softmax_where_pixels_count():
    seen, y = predictions(), target()
    terms = built({"method": "dml", "alpha": 0.7})(seen, y)
    a, b = (seen[name].logits.detach() for name in "ab")
    assert_close(terms["logits_a"], 0.7 * kl(b.softmax(1), a.log_softmax(1), y != IGNORE))
    assert_close(terms["logits_b"], 0.7 * kl(a.softmax(1), b.log_softmax(1), y != IGNORE))


def test_ctrcl_pulls_each_towards_the_peers_rectified_label():
    seen, y = predictions(), target()
    terms = built({"method": "ctrcl", "alpha": 2.0, "temperature": 3.0, "factors": ["alignment"]})(seen, y)
    a, b = (seen[name].logits.detach() for name in "ab")
    label = rectify(b, y, ["alignment"], temperature=3.0).label
    assert_close(terms["logits_a"], 2.0 * 9.0 * kl(label, (a / 3).log_softmax(1), y != IGNORE))


def test_no_factor_is_deep_mutual_learning():
    rectified = built({"method": "ctrcl", "factors": [], "beta": 0.0})(predictions(), target())
    mutual = built({"method": "dml"})(predictions(), target())
    assert rectified.keys() == mutual.keys()
    for name in mutual:
        assert_close(rectified[name], mutual[name])


def test_weights_of_zero_leave_their_terms_and_modules_out():
    rlcl, cfcl = built({"method": "ctrcl", "beta": 0.0}), built({"method": "ctrcl", "alpha": 0.0})
    assert not list(rlcl.parameters())
    assert list(cfcl.parameters())
    assert set(rlcl(predictions(), target())) == {"seg_a", "seg_b", "logits_a", "logits_b"}
    assert {"alignment_a", "supervision_b"} <= set(cfcl(predictions(), target()))
    assert "logits_a" not in cfcl(predictions(), target())


def test_everything_ignored_costs_nothing_but_the_smoothed_dice():
    y = torch.full((2, 16, 16), IGNORE)
    terms = built({"method": "ctrcl"})(predictions(), y)
    assert all(term == 0 for term in terms.values())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "ctlcr"}, r"experiments\.x\.method: unknown method 'ctlcr'; known: alone, dml, ctrcl"),
        ({}, r"experiments\.x\.method: unknown method None"),
        ({"method": "ctrcl", "alhpa": 1.0}, r"unknown key 'experiments\.x\.alhpa'; ctrcl has: method, .*alpha"),
        ({"method": "dml", "beta": 1.0}, r"unknown key 'experiments\.x\.beta'"),
        ({"method": "ctrcl", "alpha": -1.0}, r"experiments\.x\.alpha = -1\.0"),
        ({"method": "ctrcl", "factors": ["luck"]}, r"experiments\.x\.factors\.0 = 'luck'"),
        ({"method": "ctrcl", "stages": [5]}, r"experiments\.x\.stages\.0 = 5"),
        ({"method": "ctrcl", "constant": 2.0}, r"experiments\.x\.constant = 2\.0"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_its_key(values, message):
    with pytest.raises(UserError, match=message) as caught:
        methods.configured("x", values)
    assert "\n" not in str(caught.value)


def test_titles_say_what_is_only_an_interpretation():
    assert methods.title("x", {"method": "ctrcl"}) == "CTRCL (after Wu 2024)"
    assert methods.title("x", {"method": "ctrcl", "alpha": 0.0}) == "CFCL only (after Wu 2024)"
    assert methods.title("x", {"method": "ctrcl", "beta": 0.0}) == "RLCL only"
    assert methods.fidelity("x", {"method": "ctrcl", "beta": 0.0}) == "formula"
    assert methods.fidelity("x", {"method": "dml"}) == "exact"


def test_importing_the_registry_imports_no_torch():
    import subprocess
    import sys

    line = "import sys, ctrcl.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0


def assert_close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype))
