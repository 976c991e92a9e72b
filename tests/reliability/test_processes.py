"""Products and files in processes of every kind, in threads, and with odd caches of Numba."""

import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from cases import CASES, contents

import structmat

METHODS = multiprocessing.get_all_start_methods()


def work(folder):
    """Load a matrix, multiply by it, and save it again; True if all is right."""
    matrix = structmat.load(f"{folder}/a.npz")
    x = np.load(f"{folder}/x.npy")
    right = np.allclose(matrix @ x, matrix.to_dense() @ x, rtol=1e-4, atol=1e-4)
    structmat.save(f"{folder}/{os.getpid()}-{threading.get_ident()}.npz", matrix)
    return right


@pytest.fixture
def folder(tmp_path):
    matrix, _ = CASES["gblr-prime"](contents("float32"))
    structmat.save(tmp_path / "a.npz", matrix)
    np.save(tmp_path / "x.npy", np.ones((matrix.shape[1], 40), np.float32))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_processes_after_the_parent_multiplied(method, folder):
    assert work(folder)
    with multiprocessing.get_context(method).Pool(3) as pool:
        assert all(pool.map_async(work, [folder] * 12).get(timeout=240))


def test_threads_load_multiply_and_save(folder):
    found = []
    threads = [threading.Thread(target=lambda: found.append(work(folder))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["read-only", "missing", "a file"])
def test_products_without_a_cache_that_numba_can_use(cache, folder):
    """Kernels are then compiled in each process; a read-only cache is one of another user."""
    pytest.importorskip("numba")
    place = folder / "cache"
    if cache == "read-only":
        if os.name != "posix" or os.geteuid() == 0:
            pytest.skip("the superuser may write to any folder")
        place.mkdir(mode=0o555)
    elif cache == "a file":
        place.write_text("no folder")
    code = (
        "import structmat, numpy as np\n"
        "rng = np.random.default_rng(0)\n"
        "w = rng.integers(1, 60, (2, 90)); s = rng.integers(0, 300, (2, 90))\n"
        "c = [rng.standard_normal(k.sum()) for k in w]\n"
        "A = structmat.GBLR(s[0], w[0], c[0], s[1], w[1], c[1], shape=(300, 300))\n"
        "x = np.ones((300, 20))\n"
        "with structmat.kernels.using('tiles'):\n"
        "    assert np.allclose(A @ x, A.to_dense() @ x)\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(place)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-800:]
