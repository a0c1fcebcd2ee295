import pytest

from rl_rms.cli.config import find_config
from rl_rms.cli.errors import UserError
from rl_rms.cli.search import Distribution, SweepConfig, label, read_search
from tests.naming import naming

FILE = """
config: cartpole_a2c
vary:
  agent.learning_rate: {low: 1.0e-3, high: 1.0e-2, log: true}
  agent.half_life: [69, 20_000 steps]
"""


def written(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_config_of_a_trial_has_point_fixed_keys_and_seed(tmp_path):
    search = read_search(written(tmp_path, FILE + "fix: {total_timesteps: 7000, env.num_envs: 3}"), {"trials": 4})
    config = search.run_config({"agent.learning_rate": 0.25, "agent.half_life": "20_000 steps"}, 5)
    assert (config.agent.learning_rate, config.agent.half_life, config.seed) == (0.25, "20_000 steps", 5)
    assert (config.total_timesteps, config.env.num_envs) == (7000, 3)
    assert (search.name, search.sweep.trials, search.sweep.seeds) == ("mine", 4, (0, 1, 2))


def test_sweep_finds_a_configuration_in_its_folder(tmp_path):
    (tmp_path / "own.yaml").write_text(
        find_config("cartpole_a2c").read_text().replace("agent:", "agent:\n  n_steps: 3")
    )
    search = read_search(written(tmp_path, FILE.replace("cartpole_a2c", "own.yaml")), {})
    assert search.run_config({}, 0).agent.n_steps == 3


def test_config_of_a_trial_does_not_change_the_shared_environment(tmp_path):
    text = (
        "config: drifting_cartpole\nvary:\n  env.changes.gravity: [9.8, {step: {before: 9.8, after: 20, at: 5}}]"
    )
    search = read_search(written(tmp_path, text), {})
    assert search.run_config({"env.changes.gravity": 1.5}, 0).env.changes["gravity"] == 1.5
    assert isinstance(search.run_config({}, 0).env.changes["gravity"], dict)


@pytest.mark.parametrize("name", ["half_life_cartpole", "half_life_pendulum"])
def test_packaged_sweeps_are_valid(name):
    search = read_search(name, {})
    assert set(search.sweep.vary) == {"agent.half_life", "agent.learning_rate"}


def test_grid_has_at_most_one_trial_per_combination():
    choices = {"a": [1, 2, 3], "b": [4, 5]}
    assert SweepConfig(config="x", vary=choices, sampler="grid", trials=30).num_trials == 6
    assert SweepConfig(config="x", vary=choices, sampler="grid", trials=4).num_trials == 4
    assert SweepConfig(config="x", vary=choices, trials=30).num_trials == 30


class Asked:
    """Imitates an Optuna trial; it suggests the last choice or the upper end of a range."""

    def suggest_categorical(self, key, choices):
        return choices[-1]

    def suggest_float(self, key, low, high, log):
        return ("float", high, log)

    def suggest_int(self, key, low, high, log):
        return ("int", high, log)


@pytest.mark.parametrize(
    ("given", "suggested"),
    [
        ([1, "2 updates"], "2 updates"),
        ({"choices": [[64], [64, 64]]}, [64, 64]),
        ({"low": 1, "high": 9}, ("int", 9, False)),
        ({"low": 1.0, "high": 9, "log": True}, ("float", 9, True)),
    ],
)
def test_distributions_are_read_from_their_yaml_form(given, suggested):
    assert Distribution.of("key", given).suggest(Asked(), "key") == suggested
    assert label([64, 64]) == "[64, 64]"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (3, ["vary.key", "list", "low", "high"]),
        ({"lowest": 3}, ["vary.key", "list", "low", "high"]),
        ([], ["vary.key", "choices", "list"]),
        ([4, 4, 8], ["vary.key", "choices", "[4, 4, 8]"]),
        ([True, 1], ["vary.key", "choices", "[True, 1]"]),
        ({"choices": [1], "low": 2}, ["vary.key", "choices", "list"]),
        ({"low": 3}, ["vary.key.high", "number", "None"]),
        ({"low": True, "high": 3}, ["vary.key.low", "number", "True"]),
        ({"low": 3, "high": 3}, ["vary.key", "low", "high", "3"]),
        ({"low": 0, "high": 3, "log": True}, ["true", "low", "0"]),
    ],
)
def test_wrong_distribution_names_it(given, sentence):
    with pytest.raises(UserError, match=naming(*sentence)):
        Distribution.of("key", given)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("config: cartpole_a2c", ["vary"]),
        ("vary: {agent.half_life: [1]}", ["config"]),
        (FILE + "trails: 3", ["'trails'", "trials"]),
        (FILE + "trials: 0", ["trials", "1", "0"]),
        (FILE + "seeds: [1, 1]", ["seeds", "[1, 1]"]),
        (FILE + "seeds: []", ["seeds"]),
        (
            FILE + "sampler: tpo",
            ["sampler", "'tpo'", "tpe"],
        ),
        (FILE + "pruner: 3", ["pruner", "none", "median"]),
        (FILE + "metric: loss", ["metric", "whole_run", "final", "worst_regime", "'loss'"]),
        (FILE + "sampler: grid", ["sampler", "grid", "vary.agent.learning_rate"]),
        (FILE + "sampler_seed: many", ["sampler_seed", "'many'"]),
        (FILE + "fix: 3", ["fix", "keys"]),
        (FILE + "fix: {env: {num_envs: 4}}", ["fix", "env.num_envs", "'env'"]),
        (FILE + "  agent: [{}]", ["vary", "'agent'"]),
        (
            FILE + "  agent.policy: [{norm: layer}]\nfix: {agent.policy.activation: relu}",
            ["agent.policy replaces", "agent.policy.activation"],
        ),
        (FILE + "fix: {3: 4}", ["fix", "dotted", "3"]),
        (FILE + "fix: {seed: 4}", ["fix.seed", "seeds"]),
        (FILE + "fix: {agent.half_life: 69}", ["agent.half_life", "vary", "fix"]),
        ("config: 3\nvary: {agent.half_life: [1]}", ["config", "configuration"]),
        ("config: cartpole_a2c\nvary: {}", ["vary", "key"]),
        (
            FILE.replace("cartpole_a2c", "cartpole_a3c"),
            ["'cartpole_a3c'", "cartpole_a2c"],
        ),
        (FILE.replace("half_life:", "half_lif:"), ["half_life"]),
        (FILE.replace("[69, 20_000 steps]", "[69, -3]"), ["agent.half_life", "-3", "vary"]),
        (
            FILE.replace("low: 1.0e-3", "low: -1.0e-3").replace(", log: true", ""),
            ["agent.learning_rate", "-0.001"],
        ),
    ],
)
def test_wrong_sweep_file_names_it(tmp_path, text, sentence):
    with pytest.raises(UserError, match=naming(*sentence)):
        read_search(written(tmp_path, text), {})


def test_missing_sweep_names_it():
    with pytest.raises(UserError, match=naming("'half_life_cartpol'", "half_life_cartpole")):
        find_config("half_life_cartpol", "sweep")
