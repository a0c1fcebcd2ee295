import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_rms.agents import ActorCriticPolicy, PolicyConfig
from rl_rms.agents.convolutions import ConvolutionalEncoder
from rl_rms.agents.encoders import Flatten, OneHot, UserEncoder, make_encoder
from tests.agents import networks
from tests.naming import naming

CONFIG = PolicyConfig(image_features=8)
IMAGE = spaces.Box(0, 255, (36, 40, 3), np.uint8)


def test_flatten_of_any_shape_gives_float32_rows():
    encoder = make_encoder(spaces.Box(-1, 1, (2, 3), np.float64), CONFIG)
    assert isinstance(encoder, Flatten)
    features = encoder(torch.arange(12, dtype=torch.float64).reshape(2, 2, 3))
    assert features.dtype == torch.float32
    assert features.tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert encoder.num_features == 6


def test_one_hot_discrete_space_counts_from_its_start():
    encoder = make_encoder(spaces.Discrete(3, start=-1), CONFIG)
    assert isinstance(encoder, OneHot)
    assert encoder(torch.tensor([-1, 1])).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_one_hot_of_several_components_concatenates_them():
    encoder = make_encoder(spaces.MultiDiscrete([2, 3], start=[5, 0]), CONFIG)
    assert encoder.num_features == 5
    assert encoder(torch.tensor([[6, 2], [5, 0]])).tolist() == [[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]]


def test_multi_binary_is_flattened():
    assert make_encoder(spaces.MultiBinary([2, 2]), CONFIG)(torch.ones(1, 2, 2)).tolist() == [[1.0] * 4]


@pytest.mark.parametrize("shape", [(2, 3, 3), (3, 3, 3), (7, 7, 3), (36, 36, 3), (5, 6)])
def test_mlp_flattens_images_scaled_to_one(shape):
    encoder = make_encoder(spaces.Box(0, 255, shape, np.uint8), PolicyConfig(encoder="mlp"))
    assert isinstance(encoder, Flatten)
    assert set(encoder(torch.full((1, *shape), 255, dtype=torch.uint8)).ravel().tolist()) == {1.0}


@pytest.mark.parametrize(
    ("space", "is_image"),
    [
        (spaces.Box(0, 255, (7, 7, 3), np.uint8), True),
        (spaces.Box(0, 255, (7, 7), np.uint8), True),
        (spaces.Box(0, 1, (7, 7, 3), np.float32), True),
        (spaces.Box(0, 1, (4, 84, 84), np.float64), True),
        (spaces.Box(0, 1, (4, 36, 36, 3), np.float32), True),
        (spaces.Box(0, 1, (8, 8, 20), np.float32), False),
        (spaces.Box(0, 1, (6, 7, 2), np.float32), False),
        (spaces.Box(0, 1, (4, 9, 9, 6), np.float32), False),
        (spaces.Box(0, 1, (7, 7), np.float32), False),
        (spaces.Box(-1, 1, (7, 7, 3), np.float32), False),
        (spaces.Box(0, 10, (7, 7, 3), np.uint8), False),
        (spaces.Box(0, 255, (2, 7, 2), np.uint8), False),
    ],
)
def test_auto_encoder_uses_convolutions_only_for_images(space, is_image):
    assert isinstance(make_encoder(space, CONFIG), ConvolutionalEncoder) is is_image


@pytest.mark.parametrize("encoder", ["small_cnn", "impala"])
def test_explicit_convolutions_accept_any_box_with_three_axes(encoder):
    space = spaces.Box(-1, 1, (7, 7, 3), np.float32)
    made = make_encoder(space, PolicyConfig(encoder=encoder, image_features=5))
    assert made(torch.zeros(2, 7, 7, 3)).shape == (2, 5)


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (4,)), spaces.Dict({"a": spaces.Discrete(2)})])
def test_convolutions_without_an_image_name_the_encoder_and_a_fix(space):
    with pytest.raises(ValueError, match=naming("nature_cnn", "images", "auto", "mlp")):
        make_encoder(space, PolicyConfig(encoder="nature_cnn"))


def test_each_image_of_a_dictionary_has_its_own_encoder():
    space = spaces.Dict(
        {
            "camera": IMAGE,
            "map": spaces.Box(0, 1, (7, 7, 2), np.float32),
            "speed": spaces.Box(-1, 1, (2,), np.float32),
        }
    )
    encoder = make_encoder(space, CONFIG)
    inputs = {"camera": torch.zeros(1, 36, 40, 3), "map": torch.rand(1, 7, 7, 2), "speed": torch.ones(1, 2)}
    features = encoder(inputs)
    assert features.shape == (1, 8 + 8 + 2)
    features.sum().backward()
    assert sum(isinstance(module, ConvolutionalEncoder) for module in encoder.modules()) == 2
    other = encoder({**inputs, "map": torch.zeros(1, 7, 7, 2)})
    assert (features != other).any(0).nonzero().ravel().min() >= 8


def test_dictionary_concatenates_its_parts_without_the_action_mask():
    space = spaces.Dict(
        {
            "z.dotted": spaces.Discrete(2),
            "a": spaces.Box(-1, 1, (2,), np.float32),
            "action_mask": spaces.MultiBinary(4),
        }
    )
    encoder = make_encoder(space, CONFIG)
    assert encoder.num_features == 4
    observations = {
        "action_mask": torch.ones(1, 4),
        "a": torch.tensor([[0.25, 0.5]]),
        "z.dotted": torch.tensor([1]),
    }
    assert encoder(observations).tolist() == [[0.25, 0.5, 0.0, 1.0]]


def test_tuple_concatenates_its_parts_in_order():
    encoder = make_encoder(spaces.Tuple((spaces.Discrete(2), IMAGE)), PolicyConfig(image_features=5))
    features = encoder((torch.tensor([1]), torch.zeros(1, 36, 40, 3, dtype=torch.uint8)))
    assert features.shape == (1, 7)
    assert features[0, :2].tolist() == [0.0, 1.0]


def test_dictionary_of_the_action_mask_alone_names_it():
    with pytest.raises(ValueError, match=naming("'action_mask'", "observation space")):
        make_encoder(spaces.Dict({"action_mask": spaces.MultiBinary(4)}), CONFIG)


@pytest.mark.parametrize("space", [spaces.Text(4), spaces.Sequence(spaces.Discrete(2)), spaces.Graph(IMAGE, None)])
def test_make_encoder_unsupported_space_names_it_and_a_wrapper(space):
    with pytest.raises(
        ValueError, match=naming("observation_space", type(space).__name__, "TransformObservation")
    ):
        make_encoder(space, CONFIG)
    both = spaces.Dict({"image": IMAGE, "mission": space})
    with pytest.raises(ValueError, match=naming("observation_space['mission']", "FilterObservation")):
        make_encoder(both, CONFIG)


def test_policy_distinguishes_discrete_observations():
    policy = ActorCriticPolicy(spaces.Discrete(3, start=1), spaces.Discrete(2))
    assert len(set(policy(torch.tensor([1, 2, 3]))[1].tolist())) == 3


def test_encoder_by_import_path_encodes_whole_observations():
    space = spaces.Box(-1, 1, (3,), np.float32)
    encoder = make_encoder(space, PolicyConfig(encoder=f"{networks.__name__}.Encoder"))
    assert isinstance(encoder.module, networks.Encoder)
    assert encoder(torch.zeros(5, 3)).shape == (5, encoder.num_features) == (5, 4)


@pytest.mark.parametrize(
    ("name", "named"),
    [("Unflattened", ["(2, 1, 3)", "flatten"]), ("Absent", ["Absent"]), ("Policy", ["observation_space"])],
)
def test_encoder_by_import_path_with_a_wrong_shape_names_the_fix(name, named):
    with pytest.raises(ValueError, match=naming("encoder", *named)):
        make_encoder(spaces.Box(-1, 1, (3,)), PolicyConfig(encoder=f"{networks.__name__}.{name}"))


def test_user_encoder_leaves_the_space_and_the_statistics_unchanged():
    space = spaces.Box(-1, 1, (3,), np.float32, seed=1)
    before = space.np_random.bit_generator.state
    norm = torch.nn.BatchNorm1d(3)
    assert UserEncoder(norm, space).num_features == 3
    assert norm.training
    assert not norm.running_mean.any()
    assert space.np_random.bit_generator.state == before
