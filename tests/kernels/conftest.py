"""CUDA kernels without a GPU: compiled once for all tests."""

import shutil
import sys

import pytest
from fake_cupy import FakeCupy


@pytest.fixture(scope="session")
def cuda(tmp_path_factory):
    if shutil.which("g++") is None or sys.platform != "linux":
        pytest.skip("kernels are emulated by g++ on Linux; one of them is not here")
    return FakeCupy(tmp_path_factory.mktemp("kernels"))
