"""Settings and fixtures of the whole suite."""

import gc
import os
import tempfile

# Small products on many threads mostly wait for each other; before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# No deadline: shared machines stall now and then, and a stall is not a failure.
quiet = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", max_examples=25, derandomize=True, **quiet)
settings.register_profile("default", max_examples=50, **quiet)
settings.register_profile("thorough", max_examples=1000, **quiet)
# By hand, for the figures of a release: --hypothesis-profile=reliability.
settings.register_profile("reliability", max_examples=10_000, **quiet)
settings.load_profile("default")  # another one by --hypothesis-profile


def has_cuda():
    try:
        import cupy

        return cupy.cuda.runtime.getDeviceCount() > 0
    except Exception:  # any failure of a driver, a library or an import means no GPU
        return False


# A library named here that cannot start is a failure, not a skip.
BACKENDS = os.environ.get("STRUCTMAT_TEST_BACKENDS", "numpy,array_api_strict,torch").split(",")
if has_cuda():
    BACKENDS.append("cupy")


def pytest_configure(config):
    """Leave the user's cache alone: figures measured there would decide what tests meet."""
    folder = tempfile.TemporaryDirectory(prefix="structmat-tests-")
    config.add_cleanup(folder.cleanup)
    os.environ["XDG_CACHE_HOME"] = folder.name


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for no garbage meanwhile, nor ever after among what is there until the end.

    A search through the modules and tests of the whole suite takes half a second each time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_sessionfinish():
    """Let libraries in compiled code see all of their objects go."""
    gc.unfreeze()


def pytest_collection_modifyitems(items):
    """Without a CUDA device, skip what needs one and say so."""
    for item in items:
        if item.get_closest_marker("gpu") and not has_cuda():
            item.add_marker(pytest.mark.skip(reason="needs CuPy and a CUDA device; none here"))


@pytest.fixture
def user_cache(tmp_path, monkeypatch):
    """A user's cache of the test's own: figures of kernels measured there are for it alone."""
    from structmat.kernels.cost_model.coefficients import forget

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget()
    yield tmp_path
    forget()


@pytest.fixture
def own_kinds(monkeypatch):
    """Forget the kinds and the rules that a test adds."""
    from structmat.kinds import registry, rules

    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))


@pytest.fixture
def rng():
    return np.random.default_rng(20231018)


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Name of an array library, each in turn."""
    return request.param
