"""The same commit on another CPU: which instruction sets are used, and whether three steps end in known bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctrcl.config import Machine
from ctrcl.engine import machine

KNOWN = Path(__file__).with_name("three_steps.json")  # sha256 of the weights after three steps, by CPU and torch
THREE_STEPS = """
import hashlib, sys
from ctrcl.config import Machine
from ctrcl.engine import machine
machine.cap(Machine(workers=1, threads=1, accelerator="cpu", precision="32-true", portable=True,
                    checkpoint_seconds=1.0))
import torch
from ctrcl.methods.base import Objective, Step
from ctrcl.models.students import Design, Student
torch.set_num_threads(1)
torch.manual_seed(0)
students = {n: Student(Design(network, 1, 4, 64, 16)) for n, network in (("a", "resnet10t"), ("b", "pvt_v2_b0"))}
parameters = [p for student in students.values() for p in student.parameters()]
optimizer, objective = torch.optim.AdamW(parameters, 1e-3), Objective(None)
for step in range(3):
    images = torch.randn(4, 1, 64, 64)
    target = (images[:, 0] > 0).long() + 2 * (images[:, 0] > 1).long()
    terms = objective(Step({name: student(images) for name, student in students.items()}, target.clamp(max=3)))
    optimizer.zero_grad()
    sum(terms.values()).backward()
    optimizer.step()
digest = hashlib.sha256()
for parameter in parameters:
    digest.update(parameter.detach().numpy().tobytes())
print(torch.backends.cpu.get_cpu_capability(), torch.__version__.partition("+")[0], digest.hexdigest())
"""


def settings(**values) -> Machine:
    defaults = {"workers": 1, "threads": 1, "accelerator": "cpu", "precision": "32-true"}
    return Machine(**defaults | {"portable": False, "checkpoint_seconds": 1.0} | values)


def three_steps() -> list[str]:
    done = subprocess.run([sys.executable, "-c", THREE_STEPS], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_three_short_steps_end_in_the_bytes_known_for_this_cpu(record_property):
    """An unknown CPU adds itself to the report of this test instead of failing."""
    capability, version, digest = three_steps()
    assert capability in ("AVX2", "DEFAULT", "NO AVX")
    key = f"{machine.cpu()}, torch {version}"
    known = json.loads(KNOWN.read_text())
    if key not in known:
        record_property("unknown CPU", json.dumps({key: digest}))
        assert three_steps()[2] == digest, "two runs on one machine differ"
        pytest.skip(f"CPU not known yet; to add it to {KNOWN.name}: {json.dumps({key: digest})}")
    assert digest == known[key]


def test_the_cap_is_set_where_asked_for_and_taken_back_where_not(monkeypatch):
    for name in machine.CAP:
        monkeypatch.delenv(name, raising=False)
    machine.cap(settings(portable=True))
    assert {name: os.environ[name] for name in machine.CAP} == machine.CAP
    machine.cap(settings(portable=False))
    assert not set(machine.CAP) & set(os.environ)


def test_numbers_depend_on_the_cap_and_not_on_the_workers():
    assert settings(portable=True).numerics() != settings().numerics()
    assert settings(workers=3).numerics() == settings().numerics()
