"""BLAS has one thread where threads of the pool call it, and its own number again afterwards."""

import os
import threading

import numpy as np
import pytest
import threadpoolctl

import structmat
from structmat.kernels.cpu import blas_threads
from structmat.kernels.cpu.blas_threads import one_blas_thread, shared_out_to_blas


@pytest.fixture(autouse=True)
def two_threads():
    """Two threads of BLAS before each test, and after it."""
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        yield
        assert numbers() == {2}


def numbers():
    pools = threadpoolctl.threadpool_info()
    return {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"}


def test_a_section_has_one_thread():
    with one_blas_thread():
        assert numbers() == {1}
    assert numbers() == {2}


def test_sections_inside_each_other_end_with_the_first():
    with one_blas_thread():
        with one_blas_thread():
            assert numbers() == {1}
        assert numbers() == {1}
    assert numbers() == {2}


def test_an_error_restores():
    with pytest.raises(ValueError, match="wrong"), one_blas_thread():
        raise ValueError("wrong")
    assert numbers() == {2}


def test_an_error_in_a_thread_of_the_pool_restores():
    def work(first, last):
        assert numbers() == {1}
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        shared_out_to_blas(work, 6, 3)
    assert numbers() == {2}


def test_overlapping_sections_of_two_threads():
    entered, leave = threading.Event(), threading.Event()

    def other():
        with one_blas_thread():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        assert entered.wait(30)
    # The first has ended, the second has not.
    assert numbers() == {1}
    leave.set()
    thread.join()
    assert numbers() == {2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_leaves_the_sections_of_its_parent():
    reads, writes = os.pipe()
    with one_blas_thread():
        child = os.fork()
        if not child:
            # The section goes on in the child's only thread, and its end changes nothing.
            os.write(writes, bytes(numbers()))
            os._exit(0)
        assert numbers() == {1}
    os.waitpid(child, 0)
    assert os.read(reads, 8) == bytes({2})


def test_work_is_shared_out_in_a_section():
    found = np.zeros(7, np.int64)

    def work(first, last):
        found[first:last] += max(numbers())

    shared_out_to_blas(work, 7, 3)
    assert found.tolist() == [1] * 7


def test_other_libraries_keep_their_threads(monkeypatch):
    blas_threads._libraries.cache_clear()
    monkeypatch.setattr(blas_threads, "_LINKED", ("json", "no.such.module"))
    with one_blas_thread():
        assert numbers() == {2}
    blas_threads._libraries.cache_clear()


@pytest.mark.parametrize("shift", [1.0, 1.0 + 0.5j])
def test_solves_have_the_same_bits_with_any_number_of_threads(shift, monkeypatch):
    rng = np.random.default_rng(0)
    K = structmat.KernelMatrix(rng.random((1200, 2)), "exponential", length=0.1)
    A = structmat.compress(K, "hierarchical", tol=1e-4, rng=0).matrix
    b, found = rng.standard_normal((1200, 3)), []
    for threads in (1, 2, 3):
        monkeypatch.setenv("STRUCTMAT_NUM_THREADS", str(threads))
        F = structmat.factorize(A, shift=shift)
        assert F.method == "hierarchical"
        found.append((F.solve(b), F.logdet().logabsdet))
    for x, logabsdet in found[1:]:
        np.testing.assert_array_equal(x, found[0][0])
        assert logabsdet == found[0][1]
