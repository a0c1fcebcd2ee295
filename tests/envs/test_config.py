import json
from dataclasses import asdict

import pytest

from rl_rms.envs.config import EnvConfig
from rl_rms.envs.schedules import Constant, Sinusoid
from tests.naming import naming

STAGED = {"staged": {"stages": [{"length": 1.0}, {"length": 0.5}], "threshold": 400}}


def test_config_holds_schedules_and_curriculum_in_their_yaml_form():
    config = EnvConfig(
        changes={"gravity": {"sinusoid": {"mean": 9.8, "amplitude": 4, "period": 20_000}}, "reward.scale": 2},
        curriculum=STAGED,
    )
    assert config.schedules() == {"gravity": Sinusoid(9.8, 4, 20_000), "reward.scale": Constant(2)}
    first, second = config.make_curriculum(), config.make_curriculum()
    assert first is not second
    assert first.targets == ("length",)
    assert EnvConfig(**json.loads(json.dumps(asdict(config)))) == config
    assert EnvConfig().make_curriculum() is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"changes": {"gravity": {"sinusoid": {"ampltude": 4}}}},
            ("env.changes.gravity", "sinusoid", "'ampltude'", "mean", "amplitude", "period", "phase"),
        ),
        ({"changes": {"gravity": {"sinusiod": {}}}}, ("env.changes.gravity", "schedule", "sinusoid")),
        (
            {"changes": {"length": {"redraw": {"low": 1, "high": 2, "every": 0}}}},
            ("env.changes.length", "Redraw", "every", ">= 1", "0"),
        ),
        ({"changes": [1]}, ("env.changes", "keys")),
        ({"curriculum": {"stagd": {}}}, ("env.curriculum", "staged")),
        (
            {"curriculum": STAGED, "changes": {"length": 1}},
            ("'length'", "env.changes", "env.curriculum"),
        ),
        (
            {"curriculum": STAGED, "vectorization_mode": "async", "autoreset_mode": "SameStep"},
            ("env.curriculum", "env.vectorization_mode async", "env.autoreset_mode SameStep"),
        ),
        ({"num_envs": 0}, ("env.num_envs", ">= 1", "0")),
        ({"drift_seed": -1}, ("env.drift_seed", ">= 0", "-1")),
        ({"sharing": "both"}, ("env.sharing", "shared", "phase", "independent", "'both'")),
        (
            {"vectorization_mode": "fast"},
            ("env.vectorization_mode", "native", "sync", "async", "null"),
        ),
        ({"autoreset_mode": "Never"}, ("env.autoreset_mode", "NextStep", "SameStep", "Disabled", "null")),
    ],
)
def test_config_with_a_wrong_value_names_it(arguments, said):
    with pytest.raises(ValueError, match=naming(*said)):
        EnvConfig(**arguments)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"success_key": 3}, ("success_key", "3", "is_success")),
        ({"wrappers": "ClipAction"}, ("env.wrappers", "ClipAction", "list")),
        ({"wrappers": {"ClipAction": {}}}, ("env.wrappers", "ClipAction", "list")),
        ({"wrappers": [None]}, ("env.wrappers[0]", "None", "module:Class")),
        ({"wrappers": [["ClipAction", {}]]}, ("env.wrappers[0]", "ClipAction", "module:Class")),
        ({"wrappers": [{"ClipAction": {}, "FlattenObservation": {}}]}, ("env.wrappers[0]", "ClipAction")),
        ({"wrappers": ["ClipAction", "ClipActoin"]}, ("env.wrappers[1]", "ClipActoin", "ClipAction")),
        ({"wrappers": [{"TimeLimit": {"max_step": 3}}]}, ("TimeLimit", "max_step", "3", "max_episode_steps")),
        ({"wrappers": [{"TimeLimit": 3}]}, ("env.wrappers[0]", "TimeLimit", "3")),
        ({"wrappers": ["TimeLimit"]}, ("TimeLimit", "max_episode_steps")),
        (
            {"wrappers": [{"RecordVideo": {"video_folder": "x"}}]},
            ("env.wrappers[0]", "RecordVideo", "video_every"),
        ),
        ({"wrappers": ["Autoreset"]}, ("env.wrappers[0]", "Autoreset", "autoreset_mode")),
        ({"wrappers": ["drift", "ClipAction", "drift"]}, ("env.wrappers", "drift")),
        (
            {"wrappers": ["ClipAction"], "vectorization_mode": "native"},
            ("env.wrappers", "ClipAction", "env.vectorization_mode", "sync", "async"),
        ),
    ],
)
def test_config_with_wrong_wrappers_or_keys_names_them(given, named):
    with pytest.raises(ValueError, match=naming(*named)):
        EnvConfig(**given)
