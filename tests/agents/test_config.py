import json
import subprocess
import sys

import numpy as np
import pytest

from rl_rms import HalfLife
from rl_rms.agents import A2C, A2CConfig, ReinforceConfig
from rl_rms.agents.config_parts import NormalizerConfig
from rl_rms.agents.description import flat_hyperparameters
from tests.naming import naming


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("gamma", 1.5),
        ("gae_lambda", -0.1),
        ("ent_coef", -1.0),
        ("vf_coef", -1.0),
        ("max_grad_norm", 0.0),
        ("n_steps", 0),
        ("n_steps", 2.5),
        ("half_life", -3.0),
        ("half_life", "69 epochs"),
    ],
)
def test_agent_config_value_out_of_range_names_it(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        A2CConfig(**{name: value})
    assert "got" in str(caught.value)


@pytest.mark.parametrize("name", ["normalize_observation", "normalize_reward"])
@pytest.mark.parametrize(
    "value",
    [
        0,
        -1.0,
        float("nan"),
        "",
        "match",
        "10 episodes",
        None,
        [1],
        {"half_life": 0},
        {"half_lif": 3},
        {3: 4},
        {"on_jump": "reset"},
    ],
)
def test_normalizer_wrong_half_life_names_it(name, value):
    with pytest.raises(ValueError, match=naming(name, '"10_000 steps"', repr(value))):
        A2CConfig(**{name: value})


@pytest.mark.parametrize("value", [{"half_life": 69}, {"on_jump": "forget"}, {}, NormalizerConfig()])
def test_reward_normalizer_mapping_raises_with_the_allowed_values(value):
    with pytest.raises(
        ValueError, match=naming("normalize_reward", "true", "false", '"10_000 steps"', "inf", repr(value))
    ):
        A2CConfig(normalize_reward=value)


@pytest.mark.parametrize("value", [True, False, 69, "69 updates", "10_000 steps", "inf", float("inf")])
def test_normalizer_is_restored_from_plain_data(value):
    for given in (value, *([] if isinstance(value, bool) else [NormalizerConfig(half_life=value)])):
        config = A2CConfig(normalize_observation=given)
        assert A2CConfig.from_dict(config.to_dict()) == config


def test_reinforce_config_value_out_of_range_names_it():
    with pytest.raises(ValueError, match=naming("episodes_per_env", "1", "0")):
        ReinforceConfig(episodes_per_env=0)


def test_agent_with_numpy_hyperparameters_is_saved(tmp_path):
    # In NumPy 2, a float64 discount would make the advantages float64.
    given = {"n_steps": np.int64(5), "gamma": np.float64(0.5), "half_life": np.int64(20), "seed": np.int64(3)}
    agent = A2C("CartPole-v1", learning_rate=np.float32(0.25), **given).learn(np.int64(20))
    loaded = A2C.load(agent.save(tmp_path / "agent"))
    assert (loaded.config.n_steps, loaded.config.gamma, loaded.config.learning_rate) == (5, 0.5, 0.25)
    assert flat_hyperparameters(loaded)["half_life"] == "20 updates"


@pytest.mark.parametrize(("half_life", "plain"), [(HalfLife(0.1), 0.1), (HalfLife(300, "steps"), "300 steps")])
def test_half_life_object_becomes_plain_data_that_a_checkpoint_can_hold(half_life, plain):
    config = A2CConfig(half_life=half_life)
    assert config.half_life == plain
    assert A2CConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_agent_config_does_not_import_torch():
    code = "import sys, rl_rms.agents.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "mend"), [("lr", "learning_rate"), ("params", "policy"), ("half_life", "half_life")]
)
def test_optimizer_kwargs_with_an_agent_argument_names_it(name, mend):
    with pytest.raises(ValueError, match=naming("optimizer_kwargs", name, "0.5", mend)):
        A2CConfig(optimizer_kwargs={name: 0.5})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("fused", "no", ["fused", "'no'"]),
        ("device", 3, ["device", "3"]),
    ],
)
def test_agent_config_wrong_type_names_the_field(name, value, said):
    with pytest.raises(ValueError, match=naming(*said)):
        A2CConfig(**{name: value})
