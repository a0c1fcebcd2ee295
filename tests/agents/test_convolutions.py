import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_rms.agents.convolutions import ConvolutionalEncoder, Residual, automatic_network
from tests.naming import naming

SIDES = [3, 4, 5, 7, 8, 10, 16, 28, 35, 36, 64, 84, 96]


def images(shape, dtype=np.uint8):
    return spaces.Box(0, 255 if dtype == np.uint8 else 1, shape, dtype)


def batch(space, num=2):
    space.seed(0)
    return torch.as_tensor(np.stack([space.sample() for _ in range(num)]))


@pytest.mark.parametrize(
    ("network", "side"),
    [(network, side) for network in ("small_cnn", "impala") for side in SIDES]
    + [("nature_cnn", side) for side in SIDES if side >= 36],
)
def test_every_network_of_every_size_gives_features_and_gradients(network, side):
    space = images((side, side + 1, 3))
    encoder = ConvolutionalEncoder(space, network, 8)
    features = encoder(batch(space))
    assert features.shape == (2, encoder.num_features) == (2, 8)
    assert not torch.equal(features[0], features[1])
    features.sum().backward()
    assert all(param.grad.any() for param in encoder.parameters())


@pytest.mark.parametrize(("shape", "network"), [((36, 40, 3), "nature_cnn"), ((35, 40, 3), "small_cnn")])
def test_automatic_network_follows_the_size(shape, network):
    assert automatic_network(images(shape)) == network
    assert automatic_network(images((2, 40, 1))) == "mlp"


@pytest.mark.parametrize(
    ("network", "shape", "named"),
    [("nature_cnn", (35, 40, 3), "36 by 36"), ("small_cnn", (2, 3, 1), "3 by 3"), ("impala", (3, 2, 1), "3 by 3")],
)
def test_images_too_small_for_the_network_name_the_size_and_a_fix(network, shape, named):
    with pytest.raises(ValueError, match=naming(network, named, "auto", "ResizeObservation")):
        ConvolutionalEncoder(images(shape), network, 8)


def to_first(image):
    return image.permute(0, 3, 1, 2)


def frames_to_first(image):
    return image.permute(0, 1, 4, 2, 3).flatten(1, 2)


LAYOUTS = {
    "channels last": ((10, 12, 3), to_first),
    "channels first": ((3, 10, 12), lambda image: image),
    "more channels than pixels, last": ((7, 7, 20), to_first),
    "more channels than pixels, first": ((20, 7, 7), lambda image: image),
    "cube": ((10, 10, 10), to_first),
    "without channels": ((10, 12), lambda image: image.unsqueeze(1)),
    "stacked frames": ((2, 10, 12, 3), frames_to_first),
    "stacked frames, channels first": ((2, 3, 10, 12), lambda image: image.flatten(1, 2)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_converted_to_channels_first_and_scaled(layout):
    shape, to_channels_first = LAYOUTS[layout]
    space = images(shape)
    encoder = ConvolutionalEncoder(space, "small_cnn", 8)
    expected = encoder.network(to_channels_first(batch(space)).float() / 255)
    torch.testing.assert_close(encoder(batch(space)), expected)


@pytest.mark.parametrize("space", [images((7, 7, 3), np.float64), spaces.Box(-4, 9, (7, 7, 3), np.int8)])
def test_images_of_other_dtypes_are_not_scaled(space):
    encoder = ConvolutionalEncoder(space, "small_cnn", 8)
    torch.testing.assert_close(encoder(batch(space)), encoder.network(to_first(batch(space)).float()))


def test_residual_block_without_weights_is_the_identity():
    block = Residual(2)
    for param in block.parameters():
        torch.nn.init.zeros_(param)
    x = torch.randn(1, 2, 3, 3)
    assert torch.equal(block(x), x)


def test_impala_has_three_stages_of_two_residual_blocks():
    encoder = ConvolutionalEncoder(images((64, 64, 3)), "impala", 256)
    convolutions = [layer for layer in encoder.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [16] * 5 + [32] * 10
    assert encoder.network[-2].in_features == 32 * 8 * 8


def test_orthogonal_init_of_images_can_be_left_out():
    torch.manual_seed(0)
    layers = [
        ConvolutionalEncoder(images((7, 7, 3)), "small_cnn", 8, orthogonal_init=flag) for flag in (True, False)
    ]
    orthogonal, plain = (encoder.network[0] for encoder in layers)
    assert not orthogonal.bias.any()
    assert plain.bias.any()
