"""One family of tests for all methods, from the line in `params.yaml` to the exported student."""

import math

import pytest
import torch
from refusals import refused
from safetensors.torch import load_file

from ctrcl import config, ctkd, dice, kd, kdcl_minlogit, kl, methods, rectify
from ctrcl.engine.train import TrainingModule
from ctrcl.losses.targets import IGNORE
from ctrcl.methods.base import Shape, Step
from ctrcl.methods.dual import multi_scale
from ctrcl.methods.hfd_bsd import better
from ctrcl.methods.mcl import drawn
from ctrcl.models.students import Design, Prediction, Student, Teacher, load, save


def assert_close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype))


WIDTHS = {"a": [8, 12, 16, 20], "b": [6, 8, 10, 12]}
THEIRS = {"a": [10, 14, 18, 22], "b": [4, 6, 8, 16]}
COMPOSED = config.compose("laptop") | {"tables": {}, "balance": "constant"}


def experiment(values, name="x"):
    """One line of the configuration, resolved."""
    lines = {"t": {"method": "alone"}, name: values}
    values = COMPOSED | {"experiments": methods.completed(lines)}
    return config.parse(values, "laptop").experiment(name)


EXPERIMENTS = COMPOSED["experiments"]
ALL = {
    name: values | ({"teacher": "t"} if "teacher" in values else {})
    for name, values in EXPERIMENTS.items()
    if "students" not in values
}
# one of each method, and what differs in more than a number
KINDS = {values["method"]: name for name, values in reversed(ALL.items())}
KINDS |= {"ctrcl": "ctrcl", "ctrcl_offline": "ctrcl-offline"}  # with all of their terms
EACH = [*KINDS.values(), "cfcl-response", "cfcl-prototype", "kdcl-linear", "kdcl-general", "at-paper"]
TWO_SIDED = ("mcl",)  # methods whose terms are of both students together
ON_FEATURES = ("cfcl", "cfcl-response", "cfcl-prototype", "mcl", "afd", "hfd-bsd", "acw-skd")
CLASSES = 3


def predictions(widths, seed=0, classes=CLASSES, size=16, images=2):
    torch.manual_seed(seed)
    return {
        name: Prediction(
            (3 * torch.randn(images, classes, size, size)).requires_grad_(),
            [torch.randn(images, w, size >> i, size >> i, requires_grad=True) for i, w in enumerate(channels)],
        )
        for name, channels in widths.items()
    }


def target():
    torch.manual_seed(9)
    y = torch.randint(0, CLASSES, (2, 16, 16))
    y[:, :2] = IGNORE
    return y


def built(values, classes=CLASSES):
    torch.manual_seed(1)
    theirs = THEIRS if values.get("teacher") else {}
    return methods.build(experiment(values), Shape(WIDTHS, classes, theirs))


def seen(y=None, done=0.5, epoch=5):
    return Step(predictions(WIDTHS), target() if y is None else y, predictions(THEIRS, 5), done, epoch)


@pytest.mark.parametrize("name", ALL)
def test_terms_are_named_finite_scalars_that_reach_both_students_and_no_teacher(name):
    step = seen()
    terms = built(ALL[name])(step)
    assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
    assert {"seg_a", "seg_b"} <= set(terms)
    assert (len(terms) > 2) == (ALL[name]["method"] != "alone")
    torch.stack(list(terms.values())).sum().backward()
    for prediction in step.predictions.values():
        assert prediction.logits.grad is not None
        assert name not in ON_FEATURES or any(f.grad is not None and f.grad.any() for f in prediction.features)
    for prediction in step.teachers.values():
        assert all(t.grad is None or not t.grad.any() for t in (prediction.logits, *prediction.features))


@pytest.mark.parametrize("name", [name for name in EACH if ALL[name]["method"] not in TWO_SIDED])
def test_a_students_terms_send_no_gradient_into_its_peer(name):
    for mine, other in (("a", "b"), ("b", "a")):
        step = seen()
        terms = built(ALL[name])(step)
        sum(term for key, term in terms.items() if key.endswith(f"_{mine}")).backward()
        peer = step.predictions[other]
        assert all(t.grad is None or not t.grad.any() for t in (peer.logits, *peer.features))
        assert step.predictions[mine].logits.grad.any()


def small():
    """One image of two classes, with one pixel of the second."""
    y = torch.zeros(1, 32, 32, dtype=torch.long)
    y[0, 5, 6] = 1
    groups = [predictions(widths, seed, 2, 32, images=1) for widths, seed in ((WIDTHS, 0), (THEIRS, 5))]
    return Step(groups[0], y, groups[1])


def halved():
    """Features in half precision, as networks give them under autocast."""
    step = seen()
    for prediction in (*step.predictions.values(), *step.teachers.values()):
        prediction.features[:] = [f.detach().bfloat16().requires_grad_() for f in prediction.features]
    return step


@pytest.mark.parametrize("step", [lambda: seen(torch.full((2, 16, 16), IGNORE)), small, halved])
@pytest.mark.parametrize("name", EACH)
def test_terms_and_gradients_are_finite_where_all_is_ignored_or_small_or_in_half_precision(name, step):
    step = step()
    with torch.autocast("cpu", torch.bfloat16, enabled=step.predictions["a"].features[0].dtype == torch.bfloat16):
        terms = built(ALL[name], classes=step.predictions["a"].logits.shape[1])(step)
    sum(term.float() for term in terms.values()).backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert all(torch.isfinite(prediction.logits.grad).all() for prediction in step.predictions.values())


@pytest.fixture(scope="module")
def lesson():
    """A batch of blocks and the two frozen teachers."""
    torch.manual_seed(0)
    y = torch.randint(0, 4, (4, 4, 4)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = y[:, None].float() + 0.3 * torch.randn(4, 1, 32, 32)
    teachers = {n: Teacher(student(n)) for n in "ab"}
    return images, y, teachers


def student(name, decoder="light"):
    torch.manual_seed(7)
    return Student(Design({"a": "resnet10t", "b": "pvt_v2_b0"}[name], 1, 4, 32, 16, decoder))


@pytest.mark.parametrize("name", EACH)
def test_three_steps_lower_the_loss_with_all_that_is_trained_and_the_student_is_deployed_alone(name, lesson, tmp_path):
    images, y, teachers = lesson
    values = ALL[name]
    decoder = methods.options(experiment(values)).decoder
    students = {n: student(n, decoder) for n in "ab"}
    lone = set(students["a"].state_dict())
    taught = teachers if values.get("teacher") else {}
    widths = [{n: one.widths for n, one in group.items()} for group in (students, taught)]
    team = TrainingModule(students, methods.build(experiment(values), Shape(widths[0], 4, widths[1])), taught)
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
    assert not [key for key, parameter in team.objective.named_parameters() if parameter.grad is None]
    for n, teacher in taught.items():  # nothing of a teacher moves, not even its batch statistics
        assert all(torch.equal(p, q) for p, q in zip(before[n], teacher.student.state_dict().values(), strict=True))
    assert not any("teacher" in key.split(".")[0] for key in team.state_dict())
    save(students["a"], tmp_path / "a.safetensors", {})
    again = load(tmp_path / "a.safetensors")[0]
    assert set(load_file(tmp_path / "a.safetensors")) == set(again.state_dict()) == lone
    torch.testing.assert_close(again(images).logits, students["a"].eval()(images).logits)


@pytest.mark.parametrize(
    ("values", "alpha", "temperature", "label"),
    [
        ({"method": "dml", "alpha": 0.7}, 0.7, 1, lambda own, peer, y: peer.softmax(1)),
        (
            {"method": "ctrcl", "alpha": 2.0, "temperature": 3.0, "factors": ["alignment"]},
            *(2, 3, lambda own, peer, y: rectify(peer, y, ["alignment"], temperature=3.0).label),
        ),
        ({"method": "kdcl"}, 1, 2, lambda own, peer, y: (kdcl_minlogit([own, peer], y) / 2).softmax(1)),
    ],
)
def test_each_student_is_pulled_towards_a_label_where_pixels_count(values, alpha, temperature, label):
    step = seen()
    terms = built(values)(step)
    a, b = (step.predictions[name].logits.detach() for name in "ab")
    for name, own, peer in (("a", a, b), ("b", b, a)):
        softened = (own / temperature).log_softmax(1)
        expected = alpha * temperature**2 * kl(label(own, peer, step.target), softened, step.valid)
        assert_close(terms[f"logits_{name}"], expected)


def test_kd_learns_from_the_teacher_of_the_other_kind_or_of_its_own():
    for pairing, teacher in (("cross", "b"), ("same", "a")):
        step = seen()
        terms = built({"method": "kd", "teacher": "t", "pairing": pairing})(step)
        own, theirs = step.predictions["a"].logits, step.teachers[teacher].logits
        assert_close(terms["kd_a"], kd(own, theirs, 2.0, step.valid))


def test_rectified_learning_offline_is_the_online_term_with_a_frozen_peer():
    step = seen()
    offline = built({"method": "ctrcl_offline", "beta": 0.0, "teacher": "t"})(step)
    peers = {"a": step.predictions["a"], "b": step.teachers["b"]}
    online = built({"method": "ctrcl", "beta": 0.0})(Step(peers, step.target))
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
    label = b.softmax(1) * better(a, b, step.target).unsqueeze(1)
    assert_close(terms["pixels_a"], kl(label, a.log_softmax(1), step.valid) / 2)  # the other half: regions


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
    ctkd(step.predictions["a"].logits, step.teachers["b"].logits, tau, step.valid).backward()
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


def test_weights_of_zero_leave_their_terms_and_modules_out():
    rlcl, cfcl = built({"method": "ctrcl", "beta": 0.0}), built({"method": "ctrcl", "alpha": 0.0})
    assert not list(rlcl.parameters())
    assert list(cfcl.parameters())
    assert set(rlcl(seen())) == {"seg_a", "seg_b", "logits_a", "logits_b"}
    assert {"alignment_a", "supervision_b"} <= set(cfcl(seen()))
    assert "logits_a" not in cfcl(seen())
    assert not list(built({"method": "ctrcl", "variant": "prototype"}).parameters())


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"method": "ctlcr"}, ["experiments.x.method", "ctlcr", "ctrcl"]),
        ({}, ["experiments.x", "method"]),
        ({"method": "ctrcl", "alhpa": 1.0}, ["experiments.x", "alhpa", "alpha"]),
        ({"method": "ctrcl", "alpha": -1.0}, ["experiments.x", "alpha = -1.0"]),
        ({"method": "ctrcl", "factors": ["luck"]}, ["experiments.x", "factors.0 = 'luck'"]),
        ({"method": "ctrcl", "stages": [5]}, ["experiments.x", "stages.0 = 5"]),
        ({"method": "ctrcl", "balance": "even"}, ["experiments.x", "balance = 'even'"]),
        ({"method": "kd"}, ["experiments.x.teacher is missing"]),
        ({"method": "dml", "teacher": "t"}, ["experiments.x.teacher is set"]),
    ],
)
def test_a_wrong_option_is_one_line_that_names_its_key(values, parts):
    line = refused(lambda: methods.options(experiment(values)))
    assert all(part in line for part in parts), line


def test_no_two_experiments_have_one_label():
    labels = [values["label"] for values in methods.completed(EXPERIMENTS).values()]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("name", ["ctrcl", "mcl", "dkd", "cross-teaching"])
@pytest.mark.parametrize("done", [0.0, 0.25, 0.5, 0.7, 1.0])
def test_ramped_terms_rise_over_the_first_half_to_the_constant_ones(name, done):
    found, ramp = {}, math.exp(-5 * (1 - min(1, 2 * done)) ** 2)
    for balance in ("constant", "ramped"):
        torch.manual_seed(3)
        found[balance] = built(ALL[name] | {"balance": balance})(seen(done=done))
    for key, term in found["constant"].items():
        assert_close(found["ramped"][key], term * (1 if key.startswith("seg_") else ramp))


def crossentropy(step):
    """Of student a."""
    return torch.nn.functional.cross_entropy(step.predictions["a"].logits, step.target, ignore_index=IGNORE)


@pytest.mark.parametrize(
    ("name", "soft"), [("dml", "logits"), ("ctrcl", "logits"), ("kd", "kd"), ("hfd-bsd", "pixels")]
)
def test_balanced_halves_cross_entropy_and_soft_labels_beside_an_undivided_dice(name, soft):
    step = seen()
    found = {b: built(ALL[name] | {"balance": b})(step) for b in ("constant", "balanced")}
    overlap = dice(step.predictions["a"].logits.softmax(1), step.target)
    assert_close(found["balanced"]["seg_a"], crossentropy(step) / 2 + overlap)
    assert_close(found["balanced"][f"{soft}_a"], found["constant"][f"{soft}_a"] / 2)
    assert_close(found["constant"]["seg_a"], crossentropy(step) + overlap)


@pytest.mark.parametrize("name", ["cfcl", "mcl", "fitnet", "cross-teaching"])
def test_without_a_soft_label_balanced_is_constant(name):
    found = []
    for balance in ("constant", "balanced"):
        torch.manual_seed(3)
        found.append(built(ALL[name] | {"balance": balance})(seen()))
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_the_cross_entropy_of_alone_can_be_weighted(weight):
    step = seen()
    expected = weight * crossentropy(step) + dice(step.predictions["a"].logits.softmax(1), step.target)
    assert_close(built({"method": "alone", "cross_entropy": weight})(step)["seg_a"], expected)


@pytest.mark.parametrize("name", methods.names())
def test_every_method_is_an_experiment_states_its_source_and_formats_its_equation(name):
    method = methods.get(name)
    assert name in {values["method"] for values in EXPERIMENTS.values()}
    values = {key: field.default for key, field in method.Options.model_fields.items()}
    assert "{" not in method.equation.format(**values)
    assert ("(after " in method.label) == (method.fidelity == "interpretation")
