import numpy as np
import pytest
import torch
from scipy.linalg import hadamard

from idim.errors import RequestError
from idim.kernels.walsh import fwht

SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 512, 1024, 2048]


@pytest.mark.parametrize("n", SIZES)
def test_reference_is_sylvesters_matrix(n):
    x = torch.from_numpy(np.random.default_rng(n).standard_normal((3, n)))
    assert torch.allclose(fwht(x), x @ torch.from_numpy(hadamard(n).astype(float)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("n", SIZES)
def test_its_own_inverse_up_to_n(n):
    x = torch.from_numpy(np.random.default_rng(n).standard_normal(n))
    assert torch.allclose(fwht(fwht(x)), n * x, rtol=0, atol=1e-9)


def test_any_leading_shape():
    x = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fwht(x)[1, 2, 3], fwht(x[1, 2, 3]))


@pytest.mark.parametrize("n", [0, 3, 12])
def test_length_must_be_a_power_of_two(n):
    with pytest.raises(RequestError, match=f"received {n}"):
        fwht(torch.zeros(2, n))
