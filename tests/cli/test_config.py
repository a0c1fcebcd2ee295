import copy
import inspect
import json
import math
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rl_rms.agents import A2C, PPO, A2CConfig, PPOConfig, Reinforce, ReinforceConfig
from rl_rms.cli.build import build, make_env
from rl_rms.cli.config import ALGORITHMS, RunConfig, find_config, parse_config, read_config
from rl_rms.cli.errors import UserError
from rl_rms.cli.overrides import with_values
from rl_rms.cli.scale import ScaleConfig
from rl_rms.cli.yaml_files import read_yaml
from tests.naming import naming

PACKAGED = sorted(
    Path(file.name).stem for file in resources.files("rl_rms.configs").iterdir() if file.name.endswith(".yaml")
)


def test_packaged_configurations_include_the_documented_names():
    assert {
        "drifting_cartpole",
        "cartpole_a2c",
        "cartpole_reinforce",
        "pendulum_a2c",
        "curriculum_cartpole",
        "lunarlander_a2c",
        "annealed_cartpole",
        "cartpole_ppo",
        "drifting_cartpole_ppo",
        "hopper_ppo",
        "lunarlander_ppo",
        "pendulum_ppo",
    } <= set(PACKAGED)


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_configuration_written_and_read_is_equal(name):
    config = read_config(name)
    assert parse_config(read_yaml(config.to_yaml(), name)) == config


def test_agent_keys_follow_the_algorithm():
    assert type(parse_config({}).agent) is A2CConfig
    assert type(parse_config({"agent": {"algorithm": "reinforce"}}).agent) is ReinforceConfig
    assert type(parse_config({}, ["--agent.algorithm=ppo", "--agent.clip_range=0.1"]).agent) is PPOConfig
    assert type(parse_config({}, ["--agent.algorithm=reinforce"]).agent) is ReinforceConfig
    assert type(parse_config({}, ["--agent.algorithm", "reinforce"]).agent) is ReinforceConfig
    with pytest.raises(UserError, match=r"n_steps"):
        parse_config({"agent": {"algorithm": "reinforce", "n_steps": 3}})


def test_override_of_every_key_is_applied():
    config = read_config(
        "drifting_cartpole",
        [
            "--agent.half_life",
            "1_000 steps",
            "--agent.policy.hidden_sizes=[8]",
            "--agent.policy.critic_hidden_sizes=[9, 1e1]",
            "--agent.policy.encoder=impala",
            "--agent.policy.module=mine.Policy",
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
    assert config.agent.policy.critic_hidden_sizes == (9, 10)
    assert (config.agent.policy.encoder, config.agent.policy.module) == ("impala", "mine.Policy")
    assert config.agent.optimizer_kwargs == {"eps": 0.001}
    assert (config.env.num_envs, config.seed) == (2, 4)
    assert config.env.changes["gravity"] == {"sinusoid": {"mean": 9.8, "amplitude": 4.0, "period": 500}}
    assert config.env.changes["reward.scale"] == 3.0


@pytest.mark.parametrize(
    ("tree", "overrides", "named"),
    [
        ({"agent": {"algorithm": "ppo"}}, ["--agent.clip_range=0"], ["clip_range", "> 0", "0"]),
        ({"agent": {"algorithm": "ppo"}}, ["--agent.batch_size=1"], ["batch_size", "> 1", "normalize_advantage"]),
        ({"agent": {"algorithm": "ppo", "meta": {}}}, [], ["meta", "PPO", "A2C"]),
        ({}, ["--agent.half_lif", "3"], ["agent.half_lif", "did you mean agent.half_life"]),
        ({}, ["--agent.lr", "3"], ["agent.lr", "did you mean agent.learning_rate"]),
        ({}, ["--half_life", "3"], ["half_life", "did you mean agent.half_life"]),
        ({}, ["--agent.n_envs", "3"], ["agent.n_envs", "did you mean env.num_envs"]),
        ({}, ["--agent.seed", "3"], ["agent.seed", "did you mean seed"]),
        ({}, ["--agent.alpha", "3"], ["agent.alpha", "did you mean agent.half_life"]),
        ({}, ["--agent.rms_prop_eps", "3"], ["rms_prop_eps", "did you mean agent.optimizer_kwargs.eps"]),
        ({}, ["--agent.clip_coef", "3"], ["agent.clip_range", "ppo", "remove agent.clip_coef"]),
        ({"agent": {"half_lif": 3}}, [], ["half_lif", "did you mean agent.half_life"]),
        ({}, ["--agent.learning_rate=fast"], ["learning_rate", "fast"]),
        ({}, ["--agent.learning_rate=-1"], ["learning_rate must be a finite number > 0, got -1"]),
        ({}, ["--total_timesteps=0"], ["total_timesteps must be a whole number >= 1, got 0"]),
        ({}, ["--seed=-1"], ["seed", "-1"]),
        (
            {},
            ["--checkpoint_every=0"],
            ["checkpoint_every", "null", "1 env steps", "0"],
        ),
        ({}, ["--stop_at=100"], ["stop_at", "patience", "eval_every"]),
        (
            {},
            ["--eval_every=10", "--patience=0"],
            ["patience", "null", "1", "0"],
        ),
        ({}, ["--eval_clocks=[-5]"], ["eval_clocks", "env steps", "-5"]),
        ({"agent": {"learning_rate": {"linaer": {}}}}, [], ["learning_rate", "schedule", "linaer"]),
        ({}, ["--agent.policy.norm=leyer"], ["norm", "leyer"]),
        ({}, ["--agent.policy.encoder=impalla"], ["encoder", "impalla", "small_cnn", "import path"]),
        ({}, ["--agent.policy.critic_hidden_sizes=[a]"], ["agent.policy.critic_hidden_sizes", "null", "a"]),
        ({}, ["--agent.algorithm=a2d"], ["a2d", "a2c"]),
        (
            {"agent": {"algorithm": "a2c", "n_steps": 5}},
            ["--agent.algorithm=reinforce"],
            ["agent.n_steps exists only for agent.algorithm a2c", "remove agent.n_steps"],
        ),
        (
            {"env": {"changes": {"gravity": {"sinusoid": {"ampltude": 3}}}}},
            [],
            ["gravity", "ampltude", "amplitude"],
        ),
        ({"env": {"changes": {"gravity": {"sinusiod": {}}}}}, [], ["gravity", "sinusiod"]),
        ({"agents": {}}, [], ["agents"]),
        ({}, ["--env.changes.gravity"], ["env.changes.gravity", "value"]),
        ({}, ["--agent.n_steps=few"], ["agent.n_steps", "few"]),
        ({}, ["--agent.gamma=[2, 3]"], ["agent.gamma", "[2, 3]"]),
        ({}, ["--stop_at=high"], ["stop_at", "high"]),
        ({}, ["--eval_clocks=[a]"], ["eval_clocks", "['a']"]),
        ({}, ["--progress=loud"], ["progress", "auto", "lines", "json", "none", "loud"]),
        ({}, ["--agent.meta.rate=fast"], ["agent.meta.rate", "fast"]),
        ({}, ["--agent.meta.rate=-1"], ["meta.rate", "-1"]),
    ],
)
def test_wrong_key_type_or_range_names_it(tree, overrides, named):
    with pytest.raises(UserError, match=naming(*named)) as caught:
        parse_config(tree, overrides)
    assert "class '" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        (RunConfig, {"progress": "loud"}, ["progress", "auto", "lines", "json", "none", "'loud'"]),
        (ScaleConfig, {"engine": "spark"}, ["scale.engine", "torchrun", "ray", "'spark'"]),
        (ScaleConfig, {"sync": "here"}, ["scale.sync", "global", "local", "'here'"]),
    ],
)
def test_config_constructor_wrong_choice_names_it(kind, wrong, said):
    with pytest.raises(ValueError, match=naming(*said)):
        kind(**wrong)


def test_read_config_by_path_or_name_finds_it(tmp_path):
    (tmp_path / "mine.yaml").write_text("seed: 3\nagent: {learning_rate: 7e-4}\n")
    config = read_config(tmp_path / "mine.yaml")
    assert (config.seed, config.agent.learning_rate) == (3, 7e-4)
    with pytest.raises(UserError, match=naming("drifting_cartpole")):
        find_config("drifting_cartpol")


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


def test_keep_checkpoints_of_zero_raises():
    with pytest.raises(UserError, match=naming("keep_checkpoints", "1", "0")):
        parse_config({"keep_checkpoints": 0})
    assert parse_config({"keep_checkpoints": None}).keep_checkpoints is None


# -- generated configurations -----------------------------------------------------------------------------

COUNTS = st.integers(1, 50)
RATES = st.one_of(
    st.floats(1e-6, 1.0),
    st.builds(
        lambda start, over: {"linear": {"start": start, "end": 0.0, "over": over}}, st.floats(1e-6, 1.0), COUNTS
    ),
)
UNITS = st.sampled_from(["", " updates", " steps", " env steps"])
MEMORIES = st.one_of(
    st.none(), st.floats(0.1, 1e6), st.sampled_from(["match", "auto"]), st.builds("{}{}".format, COUNTS, UNITS)
)
OFTEN = st.none() | st.integers(1, 10**7)
POLICY = {
    "encoder": st.sampled_from(["auto", "mlp"]),
    "hidden_sizes": st.lists(st.integers(1, 8), max_size=3),
    "critic_hidden_sizes": st.none() | st.lists(st.integers(1, 8), max_size=3),
    "shared_trunk": st.booleans(),
    "activation": st.sampled_from(["tanh", "relu", "elu", "silu"]),
    "norm": st.sampled_from(["none", "layer", "batch"]),
    "recurrent": st.sampled_from(["none", "gru", "lstm"]),
    "recurrent_size": st.integers(1, 8),
    "log_std_init": st.floats(-3, 3),
    "orthogonal_init": st.booleans(),
}
HALF_LIVES = st.floats(0.1, 1e6) | st.just(math.inf) | st.sampled_from(["10_000 steps", "3 updates", "inf"])
NORMALIZERS = st.booleans() | HALF_LIVES | st.fixed_dictionaries({}, optional={"half_life": HALF_LIVES})
ON_JUMP = st.fixed_dictionaries({"half_life": HALF_LIVES, "on_jump": st.sampled_from(["keep", "forget"])})
AGENT = {
    "learning_rate": RATES,
    "critic_learning_rate": st.none() | RATES,
    "gamma": st.floats(0, 1),
    "ent_coef": RATES,
    "vf_coef": st.floats(0, 10),
    "max_grad_norm": st.none() | st.floats(1e-3, 10),
    "normalize_advantage": st.booleans(),
    "normalize_observation": NORMALIZERS | ON_JUMP,
    "normalize_reward": NORMALIZERS,
    "half_life": MEMORIES,
    "on_change": st.sampled_from(["keep", "reset", "forget"]),
    "forget_half_life": st.floats(0.1, 100),
    "forget_updates": COUNTS,
    "optimizer_kwargs": st.fixed_dictionaries(
        {}, optional={"eps": st.floats(0, 1), "momentum": st.floats(0, 0.9)}
    ),
    "policy": st.fixed_dictionaries({}, optional=POLICY).filter(
        lambda one: not (one.get("shared_trunk") and one.get("critic_hidden_sizes") is not None)
    ),
}
OWN = {
    "a2c": {"n_steps": COUNTS, "gae_lambda": st.floats(0, 1)},
    "ppo": {
        "n_steps": COUNTS,
        "gae_lambda": st.floats(0, 1),
        "batch_size": st.integers(2, 50),
        "n_epochs": COUNTS,
        "clip_range": RATES,
        "clip_range_vf": st.none() | RATES,
        "target_kl": st.none() | st.floats(1e-3, 1.0),
    },
    "reinforce": {"episodes_per_env": COUNTS, "baseline": st.booleans()},
}
ENV = {
    "num_envs": st.integers(1, 4),
    "vectorization_mode": st.sampled_from([None, "sync", "vector_entry_point"]),
    "sharing": st.sampled_from(["shared", "phase", "independent"]),
    "changes": st.dictionaries(
        st.sampled_from(["gravity", "length", "reward.scale"]),
        st.floats(0.1, 10) | st.builds(lambda every: {"redraw": {"low": 1, "high": 2, "every": every}}, COUNTS),
    ),
    "observe": st.none() | st.lists(st.sampled_from(["params", "time", "change"]), min_size=1, unique=True),
    "drift_seed": st.none() | st.integers(0, 10**9),
}
RUN = {
    "total_timesteps": st.integers(1, 10**9),
    "seed": st.integers(0, 10**9),
    "log_interval": st.none() | COUNTS,
    "checkpoint_every": OFTEN,
    "keep_checkpoints": st.none() | COUNTS,
    "eval_every": OFTEN,
    "eval_deterministic": st.sampled_from([True, False, "both"]),
    "eval_clocks": st.none() | st.lists(st.integers(0, 10**6), max_size=3),
    "histogram_every": OFTEN,
    "progress": st.sampled_from(["auto", "lines", "json", "none"]),
}


def agents(algorithm):
    return st.fixed_dictionaries({"algorithm": st.just(algorithm)}, optional={**AGENT, **OWN[algorithm]})


TREES = st.fixed_dictionaries(
    {}, optional={**RUN, "env": st.fixed_dictionaries({}, optional=ENV), "agent": st.one_of(map(agents, OWN))}
)


@given(tree=TREES)
def test_any_configuration_written_and_read_is_equal_and_makes_an_agent(tree):
    config = parse_config(copy.deepcopy(tree))
    assert parse_config(read_yaml(config.to_yaml(), "written.yaml")) == config
    for key, value in {**tree, "env": {}, "agent": {}}.items():
        if value != {}:
            assert getattr(config, key) == value
    if "params" in (config.env.observe or ()) and not config.env.changes:
        with pytest.raises(UserError, match=naming("observe", "changes", "curriculum")):
            make_env(config)
        return
    env = make_env(config)
    try:
        agent = build(config, env)
        assert agent.num_timesteps == 0
        assert agent.env.num_envs == config.env.num_envs
    finally:
        env.close()


WILD = st.one_of(
    st.sampled_from(
        [None, True, math.nan, math.inf, -math.inf, -1, 0, 0.5, 10**30, 10**400, "", "\0", "1e400", "ñ"]
    ),
    st.text(max_size=4),
    st.lists(st.integers(-1, 1), max_size=2),
    st.dictionaries(st.text(max_size=3) | st.sampled_from(["sinusoid", "policy"]), st.integers(-1, 1), max_size=2),
)
PLACES = [
    *((key,) for key in [*RUN, "stop_at", "patience", "eval_episodes", "num_threads", "video_every", "nonsense"]),
    *(("env", key) for key in [*ENV, "id", "curriculum", "wrappers", "autoreset_mode", "kwargs", "nonsense"]),
    *(("agent", key) for key in [*AGENT, "n_steps", "gae_lambda", "meta", "optimizer", "device", "nonsense"]),
    *(("agent", "policy", key) for key in POLICY),
    *(("agent", "meta", key) for key in ["adapt", "window", "fresh", "rate", "fluctuation", "memory_mb"]),
    *(("scale", key) for key in ["engine", "workers", "sync", "timeout", "restarts", "address"]),
    ("env",),
    ("agent",),
    ("scale",),
]


@pytest.mark.parametrize("name", ["läufe", "\U0001f680", "\x7f", "a\nb", '"\\', "1e3", "null", "2020-01-01"])
def test_text_written_and_read_stays_text(name):
    config = parse_config({"runs_dir": name})
    assert config.runs_dir == name
    assert parse_config(read_yaml(config.to_yaml(), "written.yaml")) == config


@pytest.mark.parametrize(("algorithm", "expected"), [("a2c", 100), ("ppo", 1), ("reinforce", 100)])
def test_log_interval_null_uses_the_algorithms_interval(algorithm, expected):
    assert parse_config({"agent": {"algorithm": algorithm}}).rollouts_per_entry == expected
    assert parse_config({"agent": {"algorithm": algorithm}, "log_interval": 7}).rollouts_per_entry == 7


@pytest.mark.parametrize("key", ["total_timesteps", "eval_episodes", "num_threads", "seed"])
def test_null_in_place_of_a_number_names_the_key(key):
    with pytest.raises(UserError, match=naming(key, "None")):
        parse_config({key: None})


@pytest.mark.parametrize(
    "key", ["env", "agent", "scale", "agent.policy", "agent.optimizer_kwargs", "env.kwargs", "env.changes"]
)
@pytest.mark.parametrize("value", [None, [1], 3])
def test_section_of_another_type_names_it(key, value):
    place, _, part = key.partition(".")
    with pytest.raises(UserError) as refused:
        parse_config({place: {part: value}} if part else {place: value})
    said = str(refused.value)
    assert "optimizer_kwargs" in said if part == "optimizer_kwargs" else key in said
    assert str(value) in said


@pytest.mark.parametrize("key", ["", " lr", "a\tb"])
@pytest.mark.parametrize("part", ["env", "agent", "agent.policy", "agent.meta"])
def test_key_of_a_wrong_type_names_it(part, key):
    tree = {key: 0}
    for name in reversed(part.split(".")):
        tree = {name: tree}
    with pytest.raises(UserError, match=naming(repr(f"{part}.{key}"), "word")):
        parse_config(tree)


def test_number_that_overflows_names_it():
    huge = 10**400
    for tree, words, named in (
        ({"env": {}, "scale": {"timeout": huge}}, [], "scale.timeout"),
        ({"agent": {"gamma": -huge}}, [], "agent.gamma"),
        ({}, [f"--scale.timeout={huge}"], "scale.timeout"),
    ):
        with pytest.raises(UserError, match=naming(named, "number")):
            parse_config(tree, words)


@given(place=st.sampled_from(PLACES), value=WILD)
def test_any_values_make_a_configuration_or_raise_a_named_error(place, value):
    tree = value
    for key in reversed(place):
        tree = {key: tree}
    config, said = None, ""
    try:
        config = parse_config(tree)
    except UserError as error:
        said = str(error)
    if config is None:
        assert place[-1] in said or place[0] in said
        return
    assert parse_config(read_yaml(config.to_yaml(), "written.yaml")) == config


# -- overrides --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--agent.algorithm", "reinforce"], ["--agent.algorithm=a2c"] * 2])
def test_algorithm_given_last_on_the_command_line_is_used(words):
    other = [*words, "--agent.algorithm", "reinforce"]
    assert type(parse_config({"agent": {"algorithm": "a2c", "gamma": 0.5}}, other).agent) is ReinforceConfig


def test_whole_float_for_an_integer_key_is_an_integer():
    tree = {"total_timesteps": 1e6, "env": {"num_envs": 4.0}, "agent": {"policy": {"hidden_sizes": [8.0]}}}
    config = parse_config(tree, ["--eval_every=2e3", "--eval_clocks=[1e3]", "--scale.timeout=3e1"])
    assert (config.total_timesteps, config.env.num_envs, config.agent.policy.hidden_sizes) == (1_000_000, 4, (8,))
    assert (config.eval_every, config.eval_clocks) == (2_000, [1_000])
    assert type(config.total_timesteps) is int
    assert type(config.scale.timeout) is float
    with pytest.raises(UserError, match=naming("total_timesteps", "1.5")):
        parse_config({"total_timesteps": 1.5})


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["half_life"], ["'half_life'", "--KEY VALUE"]),
        (["--seed"], ["--seed", "value"]),
        (["--seed", "--agent.gamma=1"], ["--seed", "value"]),
        (["--env.kwargs={a: 1, a: 2}"], ["--env.kwargs", "'a'", "twice"]),
        (["--env.kwargs={a"], ["--env.kwargs", "YAML"]),
    ],
)
def test_argument_that_is_not_an_override_names_it(words, named):
    with pytest.raises(UserError, match=naming(*named)):
        parse_config({}, words)


def test_print_config_prints_overridden_free_form_keys(capsys):
    with pytest.raises(SystemExit) as end:
        parse_config({}, ["--print_config", "--env.kwargs.gravity=3"])
    assert end.value.code == 0
    assert read_yaml(capsys.readouterr().out, "printed")["env"]["kwargs"] == {"gravity": 3}


# -- untrusted files --------------------------------------------------------------------------------------

FREE_FORM = [
    "env.changes",
    "env.changes.gravity",
    "env.curriculum",
    "env.kwargs",
    "agent.optimizer_kwargs",
    "agent.learning_rate",
    "agent.critic_learning_rate",
    "agent.ent_coef",
]
DATACLASSES = ["env", "agent", "agent.policy", "agent.meta", "scale"]


@pytest.mark.parametrize("form", [lambda one: one, lambda one: {"x": one}, lambda one: {"x": [one]}, json.dumps])
@pytest.mark.parametrize("key", [*FREE_FORM, *DATACLASSES])
def test_class_path_in_a_configuration_does_not_build_an_object(key, form, tmp_path):
    command = {"class_path": "subprocess.run", "init_args": {"args": ["touch", str(tmp_path / "built")]}}
    with pytest.raises(UserError):
        parse_config(with_values({}, {key: form(command)}))
    with pytest.raises(UserError):
        parse_config({}, [f"--{key}", json.dumps(form(command))])
    assert not (tmp_path / "built").exists()


@pytest.mark.parametrize("key", FREE_FORM)
def test_class_path_in_a_configuration_names_its_key(key):
    with pytest.raises(UserError, match=naming(f"{key}.x.0.class_path", "'os.system'")):
        parse_config(with_values({}, {f"{key}.x": [{"class_path": "os.system"}]}))


@pytest.mark.parametrize("text", ["{class_path: os.system}", "os.system", "config.yaml"])
def test_free_form_value_of_text_stays_text(text):
    kept = parse_config({"env": {"kwargs": {"x": text}}, "agent": {"optimizer_kwargs": {"x": {"y": text}}}})
    assert kept.env.kwargs == {"x": text}
    assert kept.agent.optimizer_kwargs == {"x": {"y": text}}


def test_scale_address_in_a_file_raises():
    words = ["--scale.engine=ray", "--scale.address=ray://elsewhere:10001"]
    config = parse_config({}, words)
    assert config.scale.address == "ray://elsewhere:10001"
    assert "elsewhere" not in config.to_yaml()
    tree = {"scale": {"engine": "ray", "address": "ray://elsewhere:10001"}}
    with pytest.raises(UserError, match=naming("scale.address", "file", "ray://elsewhere", "--scale.address")):
        parse_config(tree)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_yaml_has_every_hyperparameter_with_its_default(algorithm):
    constructor = {"a2c": A2C, "ppo": PPO, "reinforce": Reinforce}[algorithm]
    written = yaml.safe_load(RunConfig(agent=ALGORITHMS[algorithm]()).to_yaml())["agent"]
    assert written.pop("algorithm") == algorithm
    parameters = inspect.signature(constructor).parameters
    beside = {"env", "config", "seed", "observation_space", "action_space"}
    assert set(written) == set(parameters) - beside
    for name in set(written) - {"policy", "optimizer"}:
        default = parameters[name].default
        assert written[name] == (list(default) if isinstance(default, tuple) else default), name
