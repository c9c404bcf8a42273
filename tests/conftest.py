"""Shapes are checked in the losses; a test that takes `device` runs on the CPU and, where there is one, on a GPU."""

import gc
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# two workers and the kernels and commands that they start share few cores: one thread each, before torch is imported
os.environ["OMP_NUM_THREADS"] = "1"
sys.path.append(str(Path(__file__).parent.parent / "notebooks/paper"))  # as a page finds figures/, in its folder
install_import_hook(["ctrcl.losses", "ctrcl.methods"], "shapes.checked")  # before anything imports them
settings.register_profile("steady", deadline=None, derandomize=True)  # the same examples in every run
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that two workers end together."""
    items.sort(key=lambda item: item.path.stem not in ("test_pipeline", "test_runs"))


def pytest_collection_finish() -> None:
    gc.freeze()  # statsmodels collects garbage at every correction, and what is imported by now is none


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # else nanobind reports what it misses


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """One thread, so that sums are added in one order; torch is not imported for the tests that do without it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory):
    """Drawn results of the smoke preset, opened, that no test changes."""
    import results_factory

    return results_factory.opened(tmp_path_factory.mktemp("project"))


@pytest.fixture
def place(results, tmp_path: Path) -> Path:
    """A folder with the same results, to be changed."""
    return Path(shutil.copytree(results.folder, tmp_path / "results/smoke"))


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """Where tensors live."""
    if request.param == "cuda":
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
    return request.param
