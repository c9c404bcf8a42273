"""One family of tests for all methods, from the line in `params.yaml` to the exported student."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ctrcl.methods.dual_distillation import multi_scale
from ctrcl.methods.objective import Step
from ctrcl.methods.online import drawn
from safetensors.torch import load_file

from ctrcl import config as settings
from ctrcl import methods
from ctrcl.engine.train import Team
from ctrcl.io import UserError
from ctrcl.losses import logits, soft_labels
from ctrcl.losses.segmentation import dice
from ctrcl.losses.targets import IGNORE
from ctrcl.models.students import Design, Prediction, Student, Teacher, count, load, save

WIDTHS = {"a": [8, 12, 16, 20], "b": [6, 8, 10, 12]}
THEIRS = {"a": [10, 14, 18, 22], "b": [4, 6, 8, 16]}
EXPERIMENTS = settings.compose("laptop")["experiments"]
ALL = {name: values for name, values in EXPERIMENTS.items() if "students" not in values}
# one of each method, and what differs in more than a number
KINDS = {values["method"]: name for name, values in reversed(ALL.items())}
EACH = [*KINDS.values(), "cfcl-response", "cfcl-prototype", "kdcl-linear", "kdcl-general", "at-paper"]
TWO_SIDED = ("mcl",)  # methods whose terms are of both students together
CLASSES = 3


def predictions(widths, seed=0, classes=CLASSES, size=16):
    torch.manual_seed(seed)
    return {
        name: Prediction(
            (3 * torch.randn(2, classes, size, size)).requires_grad_(),
            [torch.randn(2, w, size >> i, size >> i, requires_grad=True) for i, w in enumerate(channels)],
        )
        for name, channels in widths.items()
    }


def target(classes=CLASSES):
    torch.manual_seed(9)
    y = torch.randint(0, classes, (2, 16, 16))
    y[:, :2] = IGNORE
    return y


def built(values, classes=CLASSES):
    torch.manual_seed(1)
    theirs = THEIRS if values.get("teacher") else None
    return methods.build("x", values, WIDTHS, classes, theirs)


def seen(y=None, done=0.5, epoch=5):
    return Step(predictions(WIDTHS), target() if y is None else y, predictions(THEIRS, 5), done, epoch)


@pytest.mark.parametrize("name", ALL)
def test_terms_are_named_finite_scalars_that_reach_both_students_and_no_teacher(name):
    step = seen()
    terms = built(ALL[name])(step)
    assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
    assert {"seg_a", "seg_b"} <= set(terms)
    assert len(terms) > 2 or ALL[name]["method"] == "alone"
    torch.stack(list(terms.values())).sum().backward()
    assert all(prediction.logits.grad is not None for prediction in step.predictions.values())
    for prediction in step.teachers.values():
        assert all(t.grad is None or not t.grad.any() for t in (prediction.logits, *prediction.features))


@pytest.mark.parametrize("name", ["cfcl", "cfcl-response", "cfcl-prototype", "mcl", "afd", "hfd-bsd", "acw-skd"])
def test_methods_on_features_send_a_gradient_into_those_of_both_students(name):
    step = seen()
    sum(term for key, term in built(ALL[name])(step).items() if not key.startswith("seg")).backward()
    for prediction in step.predictions.values():
        assert any(feature.grad is not None and feature.grad.any() for feature in prediction.features)


@pytest.mark.parametrize("name", [name for name in ALL if ALL[name]["method"] not in TWO_SIDED])
def test_a_students_terms_send_no_gradient_into_its_peer(name):
    for mine, other in (("a", "b"), ("b", "a")):
        step = seen()
        terms = built(ALL[name])(step)
        sum(term for key, term in terms.items() if key.endswith(f"_{mine}")).backward()
        peer = step.predictions[other]
        assert all(t.grad is None or not t.grad.any() for t in (peer.logits, *peer.features))
        assert step.predictions[mine].logits.grad.any()


@pytest.mark.parametrize("name", ALL)
def test_what_a_method_trains_beside_the_students_gets_a_gradient(name):
    method = built(ALL[name])
    sum(method(seen()).values()).backward()
    if ALL[name]["method"] == "cirkd":  # its memory is empty in the first step
        method.zero_grad()
        sum(method(seen()).values()).backward()
    idle = [key for key, parameter in method.named_parameters() if parameter.grad is None]
    assert not idle


@pytest.mark.parametrize("name", ALL)
def test_an_image_that_is_ignored_throughout_gives_finite_terms_and_gradients(name):
    step = seen(torch.full((2, 16, 16), IGNORE))
    terms = built(ALL[name])(step)
    sum(terms.values()).backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert all(torch.isfinite(prediction.logits.grad).all() for prediction in step.predictions.values())


@pytest.mark.parametrize("name", ALL)
def test_it_works_on_one_image_with_two_classes_and_one_pixel_of_the_second(name):
    y = torch.zeros(1, 32, 32, dtype=torch.long)
    y[0, 5, 6] = 1
    groups = [predictions(widths, seed, 2, 32) for widths, seed in ((WIDTHS, 0), (THEIRS, 5))]
    one = [{n: Prediction(p.logits[:1], [f[:1] for f in p.features]) for n, p in group.items()} for group in groups]
    terms = built(ALL[name], classes=2)(Step(one[0], y, one[1]))
    assert all(torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize("name", ALL)
def test_half_precision_of_the_networks_gives_finite_terms(name):
    step = seen()
    for group in (step.predictions, step.teachers):
        for prediction in group.values():
            prediction.features[:] = [f.detach().bfloat16().requires_grad_() for f in prediction.features]
    with torch.autocast("cpu", torch.bfloat16):
        terms = built(ALL[name])(step)
    sum(term.float() for term in terms.values()).backward()
    assert all(torch.isfinite(term) for term in terms.values())


@pytest.fixture(scope="module")
def lesson():
    """A batch of blocks and the two frozen teachers."""
    torch.manual_seed(0)
    y = torch.randint(0, 4, (4, 8, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = y[:, None].float() + 0.3 * torch.randn(4, 1, 64, 64)
    teachers = {n: Teacher(student(n)) for n in "ab"}
    return images, y, teachers


def student(name, decoder="light"):
    torch.manual_seed(7)
    return Student(Design({"a": "resnet10t", "b": "pvt_v2_b0"}[name], 1, 4, 64, 16, decoder))


@pytest.mark.parametrize("name", EACH)
def test_three_steps_lower_the_loss_and_what_is_deployed_is_the_student_alone(name, lesson, tmp_path):
    images, y, teachers = lesson
    values = ALL[name]
    decoder = methods.configured(name, values)[1].decoder
    students = {n: student(n, decoder) for n in "ab"}
    lone = {n: count(one) for n, one in students.items()}
    taught = teachers if values.get("teacher") else {}
    widths = [{n: one.widths for n, one in group.items()} for group in (students, taught)]
    team = Team(students, methods.build(name, values, widths[0], 4, widths[1]), taught)
    before = {n: [p.clone() for p in teacher.student.state_dict().values()] for n, teacher in taught.items()}
    optimizer = torch.optim.AdamW(team.parameters(), 1e-3)
    supervised = []
    for step in range(4):
        terms = team(images, y, step / 4, step)
        assert all(torch.isfinite(term) for term in terms.values())
        supervised.append(float(sum(terms[f"seg_{n}"].detach() for n in "ab")))
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    assert supervised[-1] < supervised[0]
    for n, teacher in taught.items():  # nothing of a teacher moves, not even its batch statistics
        assert all(torch.equal(p, q) for p, q in zip(before[n], teacher.student.state_dict().values(), strict=True))
    assert not any("teacher" in key.split(".")[0] for key in team.state_dict())
    save(students["a"], tmp_path / "a.safetensors", {})
    again = load(tmp_path / "a.safetensors")[0]
    assert count(again) == lone["a"]
    assert set(load_file(tmp_path / "a.safetensors")) == set(student("a", decoder).state_dict())
    torch.testing.assert_close(again(images).logits, students["a"].eval()(images).logits)


@pytest.mark.parametrize("name", ["ctrcl", "mcl", "cirkd", "ctkd", "acw-skd"])
def test_a_methods_own_modules_are_restored_with_their_memory(name):
    method, again = built(ALL[name]), built(ALL[name])
    for _ in range(2):
        method(seen())
    again.load_state_dict(method.state_dict())
    torch.manual_seed(3)
    first = method(seen())
    torch.manual_seed(3)
    second = again(seen())
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_alone_is_segmentation_and_nothing_else():
    assert set(built({"method": "alone"})(seen())) == {"seg_a", "seg_b"}


def test_dml_pulls_each_towards_the_peers_softmax_where_pixels_count():
    step, y = seen(), target()
    terms = built({"method": "dml", "alpha": 0.7})(step)
    a, b = (step.predictions[name].logits.detach() for name in "ab")
    assert_close(terms["logits_a"], 0.7 * logits.kl(b.softmax(1), a.log_softmax(1), y != IGNORE))
    assert_close(terms["logits_b"], 0.7 * logits.kl(a.softmax(1), b.log_softmax(1), y != IGNORE))


def test_ctrcl_pulls_each_towards_the_peers_rectified_label():
    step, y = seen(), target()
    terms = built({"method": "ctrcl", "alpha": 2.0, "temperature": 3.0, "factors": ["alignment"]})(step)
    a, b = (step.predictions[name].logits.detach() for name in "ab")
    label = soft_labels.rectify(b, y, ["alignment"], temperature=3.0).label
    assert_close(terms["logits_a"], 2.0 * 9.0 * logits.kl(label, (a / 3).log_softmax(1), y != IGNORE))


def test_kdcl_pulls_both_towards_one_label_at_temperature_two():
    step, y = seen(), target()
    terms = built({"method": "kdcl"})(step)
    a, b = (step.predictions[name].logits.detach() for name in "ab")
    label = (soft_labels.kdcl_minlogit([a, b], y) / 2).softmax(1)
    for name, z in (("a", a), ("b", b)):
        assert_close(terms[f"logits_{name}"], 4 * logits.kl(label, (z / 2).log_softmax(1), y != IGNORE))


def test_kd_learns_from_the_teacher_of_the_other_kind_or_of_its_own():
    for pairing, teacher in (("cross", "b"), ("same", "a")):
        step = seen()
        terms = built({"method": "kd", "teacher": "t", "pairing": pairing})(step)
        own, theirs = step.predictions["a"].logits, step.teachers[teacher].logits
        assert_close(terms["kd_a"], logits.kd(own, theirs, 2.0, step.valid))


def test_rectified_learning_offline_is_the_online_term_with_a_frozen_peer():
    step = seen()
    offline = built({"method": "ctrcl_offline", "beta": 0.0, "teacher": "t"})(step)
    peers = {"a": step.predictions["a"], "b": step.teachers["b"]}
    online = methods.build("x", {"method": "ctrcl", "beta": 0.0}, WIDTHS, CLASSES)(Step(peers, step.target))
    assert_close(offline["logits_a"], online["logits_a"])


def test_cross_teaching_grows_to_a_tenth_of_the_dice_against_the_peers_prediction():
    for done, weight in ((0.0, 0.1 * math.exp(-5)), (1.0, 0.1)):
        step = seen(done=done)
        hard = step.predictions["b"].logits.argmax(1).where(step.valid, IGNORE)
        expected = weight * dice(step.predictions["a"].logits.softmax(1), hard)
        assert_close(built({"method": "cross_teaching"})(step)["pseudo_a"], expected)


def test_label_passes_only_from_the_better_student_to_the_worse():
    step = seen()
    terms = built({"method": "hfd_bsd"})(step)
    a, b = (step.predictions[name].logits.detach() for name in "ab")
    label = b.softmax(1) * soft_labels.better(a, b, step.target).unsqueeze(1)
    assert_close(terms["pixels_a"], logits.kl(label, a.log_softmax(1), step.valid) / 2)  # the other half: regions


def test_the_players_of_afd_learn_each_from_its_own_term():
    method, step = built({"method": "afd", "alpha": 0.0}), seen()
    terms = method(step)
    terms["adversarial_a"].backward(retain_graph=True)
    judges = [p for key, p in method.named_parameters() if "judges" in key]
    assert all(p.grad is None or not p.grad.any() for p in judges)
    assert step.predictions["a"].features[2].grad.any()
    before = step.predictions["a"].features[2].grad.clone()
    terms["discriminator_b"].backward()
    assert torch.equal(step.predictions["a"].features[2].grad, before)
    assert any(p.grad is not None and p.grad.any() for p in judges)


def test_a_learnt_temperature_moves_against_the_student():
    method, step = built({"method": "ctkd", "teacher": "t"}), seen(epoch=10)
    method(step)["kd_a"].backward()
    theta = next(p for key, p in method.named_parameters() if "a.theta" in key)
    step = seen(epoch=10)
    raised = torch.sigmoid(theta.detach())
    tau = (1 + 20 * raised).requires_grad_()
    logits.ctkd(step.predictions["a"].logits, step.teachers["b"].logits, tau, step.valid).backward()
    assert_close(theta.grad, -tau.grad * 20 * raised * (1 - raised))


def test_the_contrasts_terms_have_their_published_weights():
    step, raw = seen(), []
    for weights in ((1.0, 1.0, 1.0, 1.0), None):
        method = built({"method": "mcl"} | ({"weights": list(weights)} if weights else {}))
        torch.manual_seed(2)
        raw.append(method(step))
    published = {"vcl": 0.1, "soft_vcl": 1.0, "icl": 0.1, "soft_icl": 1.0}
    assert {name: float((raw[1][name] / raw[0][name]).detach()) for name in published} == pytest.approx(published)


def test_pixels_are_drawn_from_every_class_and_never_where_ignored():
    y = torch.tensor([0] * 50 + [1] * 3 + [IGNORE] * 20)
    found = y[drawn(y, 3, 8)]
    assert sorted(found.tolist()) == [0] * 8 + [1] * 3


def test_prior_knowledge_is_matched_over_cells_of_one_two_and_four_positions():
    """MPD against a loop over cells, on a grid that they do not divide."""
    own, theirs = (torch.randn(2, 3, 5, 6, dtype=torch.float64, generator=torch.manual_seed(k)) for k in (0, 1))

    def attention(x, cell):
        rows, columns = (range(0, side, cell) for side in x.shape[2:])
        means = [[x[:, :, r : r + cell, c : c + cell].mean((2, 3)) for c in columns] for r in rows]
        flat = torch.stack([torch.stack(line, 2) for line in means], 2).square().mean(1).flatten(1)
        return flat / flat.norm(dim=1, keepdim=True)

    naive = [(attention(own, cell) - attention(theirs, cell)).norm(dim=1).mean() for cell in (1, 2, 4)]
    assert_close(multi_scale(own, theirs), sum(naive) / 3)


def test_no_factor_is_deep_mutual_learning():
    rectified = built({"method": "ctrcl", "factors": [], "beta": 0.0})(seen())
    mutual = built({"method": "dml"})(seen())
    assert rectified.keys() == mutual.keys()
    for name in mutual:
        assert_close(rectified[name], mutual[name])


def test_weights_of_zero_leave_their_terms_and_modules_out():
    rlcl, cfcl = built({"method": "ctrcl", "beta": 0.0}), built({"method": "ctrcl", "alpha": 0.0})
    assert not list(rlcl.parameters())
    assert list(cfcl.parameters())
    assert set(rlcl(seen())) == {"seg_a", "seg_b", "logits_a", "logits_b"}
    assert {"alignment_a", "supervision_b"} <= set(cfcl(seen()))
    assert "logits_a" not in cfcl(seen())
    assert not list(built({"method": "ctrcl", "variant": "prototype"}).parameters())


def test_everything_ignored_costs_nothing_but_the_smoothed_dice():
    terms = built({"method": "ctrcl"})(seen(torch.full((2, 16, 16), IGNORE)))
    assert all(term == 0 for term in terms.values())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "ctlcr"}, r"experiments\.x\.method: unknown method 'ctlcr'; known: alone, dml, masked"),
        ({}, r"experiments\.x\.method: unknown method None"),
        ({"method": "ctrcl", "alhpa": 1.0}, r"unknown key 'experiments\.x\.alhpa'; ctrcl has: method, .*alpha"),
        ({"method": "dml", "beta": 1.0}, r"unknown key 'experiments\.x\.beta'"),
        ({"method": "ctrcl", "alpha": -1.0}, r"experiments\.x\.alpha = -1\.0"),
        ({"method": "ctrcl", "factors": ["luck"]}, r"experiments\.x\.factors\.0 = 'luck'"),
        ({"method": "ctrcl", "stages": [5]}, r"experiments\.x\.stages\.0 = 5"),
        ({"method": "ctrcl", "constant": 2.0}, r"experiments\.x\.constant = 2\.0"),
        ({"method": "kd"}, r"experiments\.x\.teacher is missing"),
        ({"method": "dml", "teacher": "alone"}, r"experiments\.x\.teacher is set: it has no teacher"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_its_key(values, message):
    with pytest.raises(UserError, match=message) as caught:
        methods.configured("x", values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ({"method": "ctrcl"}, "CTRCL (after Wu 2024)"),
        ({"method": "ctrcl", "alpha": 0.0}, "CFCL only (after Wu 2024)"),
        ({"method": "ctrcl", "beta": 0.0}, "RLCL only"),
        ({"method": "ctrcl", "beta": 0.0, "factors": ["alignment", "certainty"]}, "RLCL, alignment + certainty"),
        ({"method": "ctrcl", "beta": 0.0, "constant": 0.25}, "RLCL, λ = 0.25"),
        ({"method": "ctrcl", "alpha": 2.0}, "CTRCL, α = 2 (after Wu 2024)"),
        ({"method": "ctrcl", "alpha": 0.0, "stages": [4]}, "CFCL, stages 4 (after Wu 2024)"),
        ({"method": "ctrcl", "temperature": 4.0}, "CTRCL, T = 4 (after Wu 2024)"),
        ({"method": "kdcl"}, "KDCL, minlogit"),
        ({"method": "ctrcl_offline", "beta": 0.0, "teacher": "t"}, "RLCL offline"),
        ({"method": "dual", "teacher": "t"}, "Dual distillation (after Cui 2024)"),
    ],
)
def test_titles_say_what_is_only_an_interpretation_and_what_is_set_otherwise(values, title):
    assert methods.title("x", values) == title


def test_titles_of_all_experiments_with_the_same_students_differ():
    titles = [methods.title(name, values) for name, values in ALL.items()]
    assert len(set(titles)) == len(titles)


def test_what_keeps_only_the_formula_is_called_a_formula():
    assert methods.fidelity("x", {"method": "ctrcl", "beta": 0.0}) == "formula"
    assert methods.fidelity("x", {"method": "dml"}) == "exact"


def test_every_method_is_an_experiment_of_every_scale():
    used = {values["method"] for values in EXPERIMENTS.values()}
    assert used == set(methods.METHODS)


def test_every_interpretation_lists_its_choices():
    places = {"ctrcl": "losses/class_aware.py", "hfd_bsd": "methods/online.py"}
    places |= {"acw_skd": "methods/self_distillation.py", "dual": "methods/dual_distillation.py"}
    root = Path(methods.__file__).parent.parent
    for method in methods.METHODS.values():
        if method.fidelity == "interpretation":
            assert re.search(r"choice[^.]*ours|Ours:", (root / places[method.name]).read_text()), method.name


def test_importing_the_registry_imports_no_torch():
    line = "import sys, ctrcl.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0


def assert_close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype))
