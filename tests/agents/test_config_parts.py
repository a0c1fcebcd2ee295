import math
import re

import pytest

from rl_rms.agents.config_parts import (
    MetaConfig,
    NormalizerConfig,
    PolicyConfig,
    normalizer_config,
    reward_half_life,
)
from rl_rms.half_life import AverageHalfLife
from tests.naming import naming


@pytest.mark.parametrize("name", ["hidden_sizes", "critic_hidden_sizes"])
@pytest.mark.parametrize("sizes", [[0], [64.0], [True]])
def test_policy_config_fractional_hidden_size_raises(name, sizes):
    with pytest.raises(ValueError, match=naming(name)):
        PolicyConfig(**{name: sizes})


def test_policy_config_sizes_of_the_critic_with_a_shared_trunk_raise():
    with pytest.raises(ValueError, match=naming("critic_hidden_sizes", "shared_trunk")):
        PolicyConfig(critic_hidden_sizes=(8,), shared_trunk=True)


@pytest.mark.parametrize("name", ["encoder", "module"])
@pytest.mark.parametrize("value", ["natur_cnn", "", "a-b.C", "a..C", ".C"])
def test_policy_config_invalid_encoder_or_module_names_it(name, value):
    with pytest.raises(ValueError, match=rf"^{name} .*my_networks.*{re.escape(repr(value))}"):
        PolicyConfig(**{name: value})


def test_policy_config_user_classes_are_the_import_paths():
    assert PolicyConfig(encoder="impala").user_classes == {}
    config = PolicyConfig(encoder="mine.Encoder", module="mine.Policy")
    assert config.user_classes == {"encoder": "mine.Encoder", "module": "mine.Policy"}


@pytest.mark.parametrize(("name", "value"), [("activation", "gelu"), ("norm", "group"), ("recurrent", "rnn")])
def test_policy_config_unknown_choice_names_it_and_the_choices(name, value):
    with pytest.raises(ValueError, match=naming(name, value, {"activation": "silu"}.get(name, "none"))):
        PolicyConfig(**{name: value})


def test_meta_config_unknown_or_repeated_hyperparameter_is_named():
    with pytest.raises(ValueError, match=naming("meta.adapt", "gamma", "eps")):
        MetaConfig(adapt=["gamma"])
    with pytest.raises(ValueError, match=naming("meta.adapt", "eps")):
        MetaConfig(adapt=["eps", "eps"])


def test_normalizer_config_takes_a_flag_a_half_life_or_a_configuration():
    assert normalizer_config(False) is None
    assert normalizer_config(True) == NormalizerConfig(half_life=math.inf, on_jump="forget")
    assert normalizer_config("10_000 steps") == NormalizerConfig(half_life="10_000 steps", on_jump="forget")
    config = NormalizerConfig(half_life=69, on_jump="keep")
    assert normalizer_config(config) is config
    assert str(config.parsed_half_life) == "69 updates"


def test_reward_half_life_takes_a_flag_or_a_half_life():
    assert reward_half_life(False) is None
    assert reward_half_life(True) == AverageHalfLife(math.inf)
    assert str(reward_half_life("10_000 steps")) == "10000 steps"
    assert str(reward_half_life(69)) == "69 updates"
