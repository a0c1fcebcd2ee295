import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from rl_rms.envs.config import EnvConfig
from rl_rms.envs.schedules import Constant, Sinusoid

STAGED = {"staged": {"stages": [{"length": 1.0}, {"length": 0.5}], "threshold": 400}}


def test_it_holds_schedules_and_a_curriculum_in_their_yaml_form():
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
            "env.changes.gravity: sinusoid has no argument 'ampltude'; it takes mean, amplitude, period, phase",
        ),
        ({"changes": {"gravity": {"sinusiod": {}}}}, "env.changes.gravity: a schedule must be one of .*sinusoid"),
        (
            {"changes": {"length": {"redraw": {"low": 1, "high": 2, "every": 0}}}},
            "env.changes.length: Redraw: every must be a whole number >= 1 env steps, got 0",
        ),
        ({"changes": [1]}, "env.changes must hold keys"),
        ({"curriculum": {"stagd": {}}}, "env.curriculum: a curriculum must be one of .*staged"),
        (
            {"curriculum": STAGED, "changes": {"length": 1}},
            "'length' is set by both env.changes and env.curriculum",
        ),
        (
            {"curriculum": STAGED, "vectorization_mode": "async", "autoreset_mode": "SameStep"},
            "env.curriculum cannot be with env.vectorization_mode async and env.autoreset_mode SameStep",
        ),
        ({"num_envs": 0}, "env.num_envs must be a whole number >= 1, got 0"),
        ({"drift_seed": -1}, "env.drift_seed must be a whole number >= 0, got -1"),
        ({"sharing": "both"}, "env.sharing must be one of shared, phase, independent, got 'both'"),
        (
            {"vectorization_mode": "fast"},
            "env.vectorization_mode must be one of vector_entry_point, sync, async, null",
        ),
        ({"autoreset_mode": "Never"}, "env.autoreset_mode must be one of NextStep, SameStep, Disabled, null"),
        (
            {"autoreset_mode": "SameStep", "vectorization_mode": "vector_entry_point"},
            "set env.vectorization_mode to sync or async",
        ),
    ],
)
def test_what_is_wrong_is_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        EnvConfig(**arguments)


def test_configurations_and_schedules_load_without_gymnasium():
    program = "import sys, rl_rms.envs.config, rl_rms.envs.drift; print('gymnasium' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"frame_stack": 0}, "env.frame_stack must be a whole number >= 1"),
        ({"frame_stack": 2, "vectorization_mode": "vector_entry_point"}, "env.frame_stack cannot be with"),
        ({"frame_stack": 2, "id": "rl_rms/DriftingCartPole-v0"}, "env.frame_stack cannot be with the ready-made"),
    ],
)
def test_frames_that_cannot_be_stacked_are_named(given, named):
    with pytest.raises(ValueError, match=named):
        EnvConfig(**given)
