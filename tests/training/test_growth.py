"""A grown network computes the same as the smaller one."""

import pytest
import torch
from spandrel.architectures.Compact import Compact

from training.growth import grow_weights


@pytest.mark.parametrize(("features", "convolutions"), [(6, 2), (9, 2), (6, 4), (9, 4)])
def test_a_grown_network_computes_the_same(features: int, convolutions: int) -> None:
    torch.manual_seed(3)
    small = Compact(num_feat=6, num_conv=2, upscale=2)
    large = Compact(num_feat=features, num_conv=convolutions, upscale=2)
    large.load_state_dict(grow_weights(small.state_dict(), large.state_dict()))
    picture = torch.rand(1, 3, 12, 10)
    assert torch.allclose(small(picture), large(picture), atol=1e-5)


def test_added_weights_can_learn() -> None:
    torch.manual_seed(3)
    large = Compact(num_feat=9, num_conv=4, upscale=2)
    large.load_state_dict(
        grow_weights(Compact(num_feat=6, num_conv=2, upscale=2).state_dict(), large.state_dict())
    )
    for _ in range(2):  # the incoming weights of a new channel learn once somebody listens to it
        large(torch.rand(1, 3, 12, 10)).square().sum().backward()
        with torch.no_grad():
            for parameter in large.parameters():
                parameter -= 1e-4 * parameter.grad
    assert all(bool((parameter.grad != 0).any()) for parameter in large.parameters())


def test_a_network_cannot_become_smaller() -> None:
    with pytest.raises(ValueError, match="smaller"):
        grow_weights(
            Compact(num_feat=6, num_conv=2, upscale=2).state_dict(),
            Compact(num_feat=4, num_conv=2, upscale=2).state_dict(),
        )
