import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from rl_rms.agents import A2CConfig, ReinforceConfig
from rl_rms.cli.config import RunConfig, ScaleConfig, find_config, parse_config, read_config, read_yaml
from rl_rms.cli.errors import UserError

PACKAGED = sorted(
    Path(file.name).stem for file in resources.files("rl_rms.configs").iterdir() if file.name.endswith(".yaml")
)


def test_the_configurations_that_a_newcomer_wants_are_packaged():
    assert {
        "drifting_cartpole",
        "cartpole_a2c",
        "cartpole_reinforce",
        "pendulum_a2c",
        "curriculum_cartpole",
        "lunarlander_a2c",
        "annealed_cartpole",
    } <= set(PACKAGED)


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_configurations_are_valid_and_survive_being_written(name):
    config = read_config(name)
    assert parse_config(read_yaml(config.to_yaml(), name)) == config


def test_the_algorithm_decides_the_agents_keys():
    assert type(parse_config({}).agent) is A2CConfig
    assert type(parse_config({"agent": {"algorithm": "reinforce"}}).agent) is ReinforceConfig
    assert type(parse_config({}, ["--agent.algorithm=reinforce"]).agent) is ReinforceConfig
    assert type(parse_config({}, ["--agent.algorithm", "reinforce"]).agent) is ReinforceConfig
    with pytest.raises(UserError, match=r"n_steps"):
        parse_config({"agent": {"algorithm": "reinforce", "n_steps": 3}})


def test_every_key_can_be_overridden():
    config = read_config(
        "drifting_cartpole",
        [
            "--agent.half_life",
            "1_000 steps",
            "--agent.policy.hidden_sizes=[8]",
            "--agent.optimizer_kwargs.eps=1e-3",
            "--env.num_envs=2",
            "--env.changes.gravity.sinusoid.period",
            "500",
            "--env.changes.reward.scale",
            "3.0",
            "--seed=4",
        ],
    )
    assert config.agent.half_life == "1_000 steps"
    assert config.agent.policy.hidden_sizes == (8,)
    assert config.agent.optimizer_kwargs == {"eps": 0.001}
    assert (config.env.num_envs, config.seed) == (2, 4)
    assert config.env.changes["gravity"] == {"sinusoid": {"mean": 9.8, "amplitude": 4.0, "period": 500}}
    assert config.env.changes["reward.scale"] == 3.0


@pytest.mark.parametrize(
    ("tree", "overrides", "named"),
    [
        ({}, ["--agent.half_lif", "3"], ["agent.half_lif", "did you mean --agent.half_life"]),
        ({"agent": {"half_lif": 3}}, [], ["half_lif", "did you mean agent.half_life"]),
        ({}, ["--agent.learning_rate=fast"], ["agent.learning_rate", "fast"]),
        ({}, ["--agent.learning_rate=-1"], ["learning_rate must be a finite number >= 0, got -1.0"]),
        ({}, ["--total_timesteps=0"], ["total_timesteps must be >= 1, got 0"]),
        ({}, ["--seed=-1"], ["seed must be >= 0"]),
        ({}, ["--checkpoint_every=0"], ["checkpoint_every must be >= 1 env steps"]),
        ({}, ["--stop_at=100"], ["stop_at and patience go by evaluations; set eval_every too"]),
        ({}, ["--eval_every=10", "--patience=0"], ["patience must be >= 1 evaluations"]),
        ({}, ["--eval_clocks=[-5]"], ["eval_clocks must be >= 0 env steps, got [-5]"]),
        ({"agent": {"learning_rate": {"linaer": {}}}}, [], ["learning_rate", "a schedule must be one of"]),
        ({}, ["--agent.policy.norm=leyer"], ["norm", "leyer"]),
        ({}, ["--agent.algorithm=a2d"], ["a2d", "did you mean a2c"]),
        (
            {"env": {"changes": {"gravity": {"sinusoid": {"ampltude": 3}}}}},
            [],
            ["gravity", "ampltude", "amplitude"],
        ),
        ({"env": {"changes": {"gravity": {"sinusiod": {}}}}}, [], ["gravity", "sinusiod"]),
        ({"agents": {}}, [], ["agents"]),
        ({}, ["--env.changes.gravity"], ["env.changes.gravity needs a value"]),
    ],
)
def test_a_wrong_key_type_or_range_is_named(tree, overrides, named):
    with pytest.raises(UserError) as caught:
        parse_config(tree, overrides)
    for words in named:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        (RunConfig, {"progress": "loud"}, "progress must be auto, lines, json or none, got 'loud'"),
        (ScaleConfig, {"engine": "spark"}, "scale.engine must be torchrun or ray, got 'spark'"),
        (ScaleConfig, {"where": "here"}, "scale.where must be global or local, got 'here'"),
    ],
)
def test_a_wrong_word_is_named_to_those_who_build_configurations_themselves(kind, wrong, said):
    with pytest.raises(ValueError, match=said):
        kind(**wrong)


def test_configurations_are_found_by_path_and_by_name(tmp_path):
    (tmp_path / "mine.yaml").write_text("seed: 3\nagent: {learning_rate: 7e-4}\n")
    config = read_config(tmp_path / "mine.yaml")
    assert (config.seed, config.agent.learning_rate) == (3, 7e-4)
    with pytest.raises(UserError, match="drifting_cartpol'.*did you mean drifting_cartpole"):
        find_config("drifting_cartpol")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is not YAML"),
        ("99:", "is not YAML"),
        ("- 1", "must hold keys"),
        ("3", "must hold keys"),
    ],
)
def test_files_that_hold_no_configuration_are_refused(text, said):
    with pytest.raises(UserError, match=said):
        read_yaml(text, "mine.yaml")


def test_help_imports_nothing_heavy():
    heavy = "torch gymnasium stable_baselines3 tensorboard ray flwr matplotlib pandas"
    for words in (["--help"], ["train", "--help"], ["plot", "--help"], ["evaluate", "--help"]):
        code = (
            "import sys\nfrom rl_rms.cli.main import main\n"
            f"try: main({words!r})\nexcept SystemExit: pass\n"
            f"loaded = [name for name in {heavy!r}.split() if name in sys.modules]\n"
            "sys.exit(', '.join(loaded) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)


BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "spells out more than 100,000 values, counting all that aliases stand for"),
        ("env: &env {kwargs: *env}", "is nested more than 100 levels deep"),
        ("a: " + "[" * 900 + "]" * 900, "is nested more than 100 levels deep"),
    ],
    ids=["aliases", "a circle", "nesting"],
)
def test_files_that_would_fill_the_memory_are_refused(text, said):
    with pytest.raises(UserError, match=f"mine.yaml {said}"):
        read_yaml(text, "mine.yaml")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [owned]", "!!python/name:os.system", "!mine {}"])
def test_yaml_makes_no_objects(tag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is not YAML"):
        read_yaml(f"env: {tag}", "mine.yaml")
    assert not Path("owned").exists()


def test_at_least_one_checkpoint_is_kept():
    with pytest.raises(UserError, match="keep_checkpoints must be >= 1, or null for all, got 0"):
        parse_config({"keep_checkpoints": 0})
    assert parse_config({"keep_checkpoints": None}).keep_checkpoints is None
