"""Features for observations of each space."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_rms.agents import ActorCriticPolicy
from rl_rms.agents.encoders import Flatten, NatureCNN, OneHot, make_encoder, orthogonal
from tests.naming import naming

IMAGE = spaces.Box(0, 255, (36, 40, 3), np.uint8)


def test_flatten_of_any_shape_gives_float32_rows():
    encoder = make_encoder(spaces.Box(-1, 1, (2, 3), np.float64), 8)
    assert isinstance(encoder, Flatten)
    features = encoder(torch.arange(12, dtype=torch.float64).reshape(2, 2, 3))
    assert features.dtype == torch.float32
    assert features.tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert encoder.num_features == 6


def test_one_hot_of_a_discrete_space_with_a_start_counts_from_it():
    encoder = make_encoder(spaces.Discrete(3, start=-1), 8)
    assert isinstance(encoder, OneHot)
    assert encoder(torch.tensor([-1, 1])).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_one_hot_of_several_components_concatenates_them():
    encoder = make_encoder(spaces.MultiDiscrete([2, 3], start=[5, 0]), 8)
    assert encoder.num_features == 5
    assert encoder(torch.tensor([[6, 2], [5, 0]])).tolist() == [[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]]


def test_multi_binary_is_flattened():
    assert make_encoder(spaces.MultiBinary([2, 2]), 8)(torch.ones(1, 2, 2)).tolist() == [[1.0] * 4]


@pytest.mark.parametrize(
    ("shape", "to_channels_first"),
    [
        ((36, 40, 3), lambda image: image.permute(0, 3, 1, 2)),
        ((3, 36, 40), lambda image: image),
        ((2, 36, 40, 3), lambda image: image.permute(0, 1, 4, 2, 3).flatten(1, 2)),
    ],
)
def test_nature_cnn_of_every_layout_sees_channels_scaled_to_one(shape, to_channels_first):
    encoder = make_encoder(spaces.Box(0, 255, shape, np.uint8), 8)
    assert isinstance(encoder, NatureCNN)
    image = torch.randint(0, 256, (2, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = encoder(image)
    assert features.shape == (2, encoder.num_features) == (2, 8)
    torch.testing.assert_close(features, encoder.network(to_channels_first(image).float() / 255))
    assert not torch.equal(features[0], features[1])


def test_nature_cnn_of_small_images_names_size_and_wrapper():
    with pytest.raises(ValueError, match=naming("36 by 36", "ResizeObservation")):
        make_encoder(spaces.Box(0, 255, (35, 40, 3), np.uint8), 8)


def test_dictionary_concatenates_its_parts_without_the_action_mask():
    space = spaces.Dict(
        {
            "z.dotted": spaces.Discrete(2),
            "a": spaces.Box(-1, 1, (2,), np.float32),
            "action_mask": spaces.MultiBinary(4),
        }
    )
    encoder = make_encoder(space, 8)
    assert encoder.num_features == 4
    observations = {
        "action_mask": torch.ones(1, 4),
        "a": torch.tensor([[0.25, 0.5]]),
        "z.dotted": torch.tensor([1]),
    }
    assert encoder(observations).tolist() == [[0.25, 0.5, 0.0, 1.0]]


def test_tuple_concatenates_its_parts_in_order():
    encoder = make_encoder(spaces.Tuple((spaces.Discrete(2), IMAGE)), 5)
    features = encoder((torch.tensor([1]), torch.zeros(1, 36, 40, 3, dtype=torch.uint8)))
    assert features.shape == (1, 7)
    assert features[0, :2].tolist() == [0.0, 1.0]


def test_dictionary_of_the_action_mask_alone_names_it():
    with pytest.raises(ValueError, match=naming("'action_mask'", "observation space")):
        make_encoder(spaces.Dict({"action_mask": spaces.MultiBinary(4)}), 8)


@pytest.mark.parametrize("space", [spaces.Text(4), spaces.Sequence(spaces.Discrete(2)), spaces.Graph(IMAGE, None)])
def test_make_encoder_of_another_space_names_it_and_a_wrapper(space):
    with pytest.raises(ValueError, match=naming(type(space).__name__, "FlattenObservation")):
        make_encoder(space, 8)


def test_orthogonal_scales_the_weights_and_zeroes_the_biases():
    layer = orthogonal(torch.nn.Linear(4, 3), 2.0)
    torch.testing.assert_close(layer.weight @ layer.weight.T, 4 * torch.eye(3))
    assert not layer.bias.any()


def test_policy_distinguishes_discrete_observations():
    policy = ActorCriticPolicy(spaces.Discrete(3, start=1), spaces.Discrete(2))
    assert len(set(policy(torch.tensor([1, 2, 3]))[1].tolist())) == 3
