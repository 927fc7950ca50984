# SPDX-License-Identifier: Apache-2.0
"""Tests of the entropy, against numpy's logarithms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.inferers import normalised_entropy


def entropy(p, base, axis):
    return -(p * np.log(p)).sum(axis, keepdims=True) / np.log(base)


def test_sigmoid_is_the_entropy_in_bits():
    p = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = normalised_entropy(p, "sigmoid")
    both = np.stack([p.numpy(), 1 - p.numpy()])
    np.testing.assert_allclose(found, entropy(both, 2, 0)[0], atol=1e-6)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("classes", [2, 5])
def test_softmax_is_a_share_of_the_largest_entropy(dim, classes):
    shape = [3, 4, 6]
    shape[dim] = classes
    p = torch.randn(shape, generator=torch.Generator().manual_seed(0)).softmax(dim)
    found = normalised_entropy(p, "softmax", dim)
    expected = entropy(p.numpy(), classes, dim)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_ends_of_the_range():
    assert normalised_entropy(torch.full((4, 2), 0.25), "softmax").tolist() == [[1, 1]]
    certain = torch.tensor([[1.0], [0], [0]])
    assert normalised_entropy(certain, "softmax").item() == 0
    # Averages may round a little beyond 0 and 1, where the logarithm is not defined.
    beyond = torch.tensor([1 + 2e-7, -2e-7])
    assert normalised_entropy(beyond, "sigmoid").tolist() == [0, 0]


def test_what_has_no_entropy():
    with pytest.raises(ConfigError, match="single channel"):
        normalised_entropy(torch.ones(1, 4), "softmax")
    with pytest.raises(ConfigError, match="got activation 'identity'"):
        normalised_entropy(torch.ones(2, 4), "identity")
