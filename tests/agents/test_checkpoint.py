import copy
import json
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_rms.agents import A2C, ActorCriticPolicy, MetaConfig, PolicyConfig, Reinforce, storage
from rl_rms.agents.checkpoint import read
from rl_rms.envs import make_vec
from tests.agents import networks
from tests.naming import naming


def test_load_of_a_foreign_file_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=naming("checkpoint", "missing.safetensors")):
        A2C.load(tmp_path / "missing")
    storage.write(tmp_path / "other", {"some": "thing"})
    with pytest.raises(ValueError, match=naming("rl_rms")):
        A2C.load(tmp_path / "other")
    path = Reinforce("CartPole-v1").save(tmp_path / "reinforce")
    with pytest.raises(ValueError, match=naming("'reinforce'", "'a2c'")):
        A2C.load(path)


def test_load_into_another_environment_raises(tmp_path):
    path = A2C("CartPole-v1").save(tmp_path / "cartpole")
    with pytest.raises(ValueError, match=naming("env", "observation_space")):
        A2C.load(path, env="Pendulum-v1")


def test_load_does_not_import_an_optimizer_named_by_the_file(tmp_path):
    path = A2C("CartPole-v1", optimizer=torch.optim.SGD).save(tmp_path / "sgd")
    contents = read(path, "a2c")
    contents["config"]["optimizer"] = "antigravity.SGD"
    storage.write(path, contents)
    with pytest.raises(ValueError, match=naming("optimizer=")):
        A2C.load(path)
    assert isinstance(A2C.load(path, optimizer=torch.optim.SGD).optimizer, torch.optim.SGD)


@pytest.mark.parametrize("field", ["encoder", "module"])
def test_load_does_not_import_a_network_named_by_the_file(tmp_path, field):
    policy = PolicyConfig(**{field: f"{networks.__name__}.{'Encoder' if field == 'encoder' else 'Policy'}"})
    path = A2C("CartPole-v1", policy=policy, seed=0).learn(20).save(tmp_path / "agent")
    loaded = A2C.load(path, "CartPole-v1", policy=policy)
    assert loaded.learn(20).num_updates > 4
    assert A2C.load(loaded.save(tmp_path / "again"), policy=policy).config.policy == policy
    contents = read(path)
    contents["config"]["policy"][field] = "antigravity.Network"
    storage.write(path, contents)
    for wrong in (None, networks.Encoder):  # Encoder is a class, not a network
        with pytest.raises(ValueError, match=naming("antigravity.Network", "policy=")):
            A2C.load(path, policy=wrong)
    with pytest.raises(ValueError, match=naming("antigravity.Network", networks.__name__)):
        A2C.load(path, policy=policy)
    assert "antigravity" not in sys.modules


def test_load_of_a_custom_policy_without_the_policy_raises(tmp_path):
    policy = ActorCriticPolicy(gym.spaces.Box(-1, 1, (4,), np.float32), gym.spaces.Discrete(2))
    path = A2C("CartPole-v1", policy=policy).save(tmp_path / "own")
    with pytest.raises(ValueError, match=naming("policy=...")):
        A2C.load(path)
    assert A2C.load(path, policy=policy).policy is policy


def paths_in(value, path=()):
    """Paths of all keys and entries of nested data."""
    if isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from paths_in(part, (*path, key))


def mutated(value, how):
    """Return a wrong value: another type or shape, nan, a negative number, or None."""
    if how == "type":
        return "of another type" if not isinstance(value, str) else 0.5
    if isinstance(value, torch.Tensor):
        other = torch.zeros(value.numel() + 1) if how == "shape" else torch.full_like(value, -1)
        return torch.full_like(value, float("nan")) if how == "nan" and value.is_floating_point() else other
    if how == "shape":
        return [value, value]
    if how == "nan":
        return float("nan")
    return -abs(value) - 1 if isinstance(value, (int, float)) else None


KINDS = {
    "a2c": lambda: A2C("CartPole-v1", seed=0, normalize_observation=True, normalize_reward=True),
    "adam": lambda: A2C("CartPole-v1", seed=0, optimizer="torch.optim.Adam", policy=PolicyConfig(recurrent="gru")),
    "meta": lambda: A2C(
        "CartPole-v1", seed=0, policy=PolicyConfig(hidden_sizes=(4,)), meta=MetaConfig(window=2), on_change="reset"
    ),
    "forget": lambda: A2C("CartPole-v1", seed=0, on_change="forget"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Contents of a checkpoint of each kind of agent."""
    contents = {}
    for kind, make in KINDS.items():
        agent = make().learn(60)
        contents[kind] = read(agent.save(tmp_path_factory.mktemp("saved") / kind))
        agent.env.close()
    return contents


@pytest.mark.parametrize("kind", KINDS)
def test_load_of_unchanged_contents_continues_training(saved, tmp_path, kind):
    agent = A2C.load(storage.write(tmp_path / "agent", saved[kind]), gym.make_vec("CartPole-v1"))
    assert agent.learn(15).num_updates > saved[kind]["num_updates"]
    agent.env.close()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_load_of_mutated_contents_raises_a_value_error_of_one_sentence(saved, tmp_path_factory, kind, data):
    contents = copy.deepcopy(saved[kind])
    path = data.draw(st.sampled_from(sorted(paths_in(contents), key=str)), "path")
    how = data.draw(st.sampled_from(["delete", "shape", "type", "sign", "nan"]), "how")
    owner = contents
    for key in path[:-1]:
        owner = owner[key]
    if how == "delete":
        del owner[path[-1]]
    else:
        owner[path[-1]] = mutated(owner[path[-1]], how)
    file = storage.write(tmp_path_factory.mktemp("mutated") / "agent", contents)
    env = gym.make_vec("CartPole-v1")
    try:
        A2C.load(file, env).learn(15)
    except (ValueError, FloatingPointError) as error:
        said = str(error)
        assert said
        assert "\n" not in said
    env.close()


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("num_timesteps", -1, ["num_timesteps", "-1"]),
        ("num_updates", 2.5, ["num_updates", "2.5"]),
        ("seed", True, ["seed", "True"]),
        ("optimizer", None, ["optimizer", "dictionary", "None"]),
        ("episodes", [[1.0, 2]], ["episodes", "list"]),
    ],
)
def test_read_of_a_wrong_field_names_it(saved, tmp_path, name, value, named):
    path = storage.write(tmp_path / "agent", {**saved["a2c"], name: value})
    with pytest.raises(ValueError, match=naming("agent.safetensors", *named, "earlier checkpoint")):
        A2C.load(path)


def test_read_without_a_field_names_it(saved, tmp_path):
    contents = {name: value for name, value in saved["a2c"].items() if name != "episodes"}
    path = storage.write(tmp_path / "agent", contents)
    with pytest.raises(ValueError, match=naming("no episodes", "earlier checkpoint")):
        read(path)


def test_load_of_nan_weights_names_the_parameter(saved, tmp_path):
    contents = copy.deepcopy(saved["a2c"])
    name = next(iter(contents["policy"]))
    contents["policy"][name].fill_(float("nan"))
    path = storage.write(tmp_path / "agent", contents)
    with pytest.raises(ValueError, match=naming(name, "nan", "earlier checkpoint")):
        A2C.load(path)


def test_load_of_a_wrong_shape_leaves_a_user_policy_unchanged(tmp_path):
    policy = ActorCriticPolicy(gym.spaces.Box(-1, 1, (4,), np.float32), gym.spaces.Discrete(2))
    contents = read(A2C("CartPole-v1", policy=policy).save(tmp_path / "own"))
    *_, last = contents["policy"]
    contents["policy"][last] = torch.zeros(77)
    for weights in list(contents["policy"].values())[:-1]:
        weights.add_(1.0)
    before = copy.deepcopy(policy.state_dict())
    with pytest.raises(ValueError, match=naming(f"policy.{last}", "finite", "(77,)")):
        A2C.load(storage.write(tmp_path / "own", contents), policy=policy)
    assert all(map(torch.equal, policy.state_dict().values(), before.values()))


@pytest.mark.parametrize("optimizer", ["rl_rms.RMSprop", "torch.optim.Adam", "torch.optim.Adafactor"])
def test_load_with_any_optimizer_continues_training(tmp_path, optimizer):
    path = A2C("Pendulum-v1", n_steps=5, seed=0, optimizer=optimizer).learn(20).save(tmp_path / "agent")
    assert A2C.load(path, "Pendulum-v1").learn(20).num_updates == 8


@pytest.mark.parametrize("optimizer", ["rl_rms.RMSprop", "torch.optim.Adam"])
def test_load_of_optimizer_state_of_another_shape_names_the_entry(tmp_path, optimizer):
    contents = read(A2C("CartPole-v1", seed=0, optimizer=optimizer).learn(20).save(tmp_path / "agent"))
    entry = next(name for name, value in contents["optimizer"]["state"][0].items() if value.numel() > 1)
    contents["optimizer"]["state"][0][entry] = torch.zeros(3)
    with pytest.raises(ValueError, match=naming("damaged", entry, "shape")):
        A2C.load(storage.write(tmp_path / "agent", contents))


@pytest.mark.parametrize(
    ("kind", "path", "value", "named"),
    [
        ("forget", ("changes", "updates_left"), 3, ["half_lives", "parameter group"]),
        ("a2c", ("normalizers", "reward"), {"weight": 1.0}, ["reward", "variance"]),
        ("a2c", ("normalizers", "reward", "variance"), -1.0, ["variance", "-1"]),
        ("a2c", ("normalizers", "reward", "weight"), -1.0, ["weight", "-1"]),
        ("a2c", ("normalizers", "reward", "mean"), float("nan"), ["reward.mean", "nan"]),
        ("a2c", ("normalizers", "observation", "parts"), [], ["observation.parts", "1"]),
        (
            "adam",
            ("optimizer", "param_groups"),
            [{}],
            ["param_groups[0]", "[]"],
        ),
        ("adam", ("optimizer", "state", 0, "step"), torch.tensor(-1.0), ["state[0].step", "-1"]),
        ("adam", ("optimizer", "state", 0, "step"), "one", ["state[0].step", "'one'"]),
        ("meta", ("meta", "window", 0, "state"), "none", ["meta.window.state", "policy", "'none'"]),
        (
            "meta",
            ("meta", "window", 0, "coefficients", "gamma"),
            "one",
            ["meta.window.coefficients.gamma", "'one'"],
        ),
        (
            "meta",
            ("meta", "window", 0, "groups", 0, "momentum"),
            0.5,
            ["meta.window.groups.momentum", "0.5"],
        ),
        (
            "meta",
            ("meta", "steps", "param_groups", 0, "capturable"),
            True,
            ["meta.steps.param_groups[0].capturable", "True"],
        ),
        ("meta", ("meta", "steps", "param_groups", 0, "lr"), "fast", ["lr", "fast"]),
        ("meta", ("meta", "path", 0), ["none"] * 2, ["meta.path[0][0]", "'none'"]),
        ("meta", ("meta", "path"), "none", ["meta.path", "list", "'none'"]),
        ("meta", ("meta", "logs"), torch.zeros(9), ["meta.logs", "finite", "(2,)"]),
        ("a2c", ("config", "device"), ["cpu"], ["config", "device", "['cpu']"]),
        ("a2c", ("config", "policy", "shared_trunk"), 2, ["shared_trunk", "2"]),
    ],
)
def test_load_of_a_wrong_part_names_it(saved, tmp_path, kind, path, value, named):
    contents = copy.deepcopy(saved[kind])
    owner = contents
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = value
    file = storage.write(tmp_path / "agent", contents)
    with pytest.raises(ValueError, match=naming("damaged", *named)):
        A2C.load(file)


def test_load_of_a_missing_device_names_it_and_accepts_another(saved, tmp_path):
    contents = copy.deepcopy(saved["a2c"])
    contents["config"]["device"] = "cuda:77"
    file = storage.write(tmp_path / "agent", contents)
    with pytest.raises(ValueError, match=naming("device", "'cuda:77'", 'device="cpu"')):
        A2C.load(file)
    assert A2C.load(file, device="cpu").device.type == "cpu"


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    """Contents of a checkpoint that was saved within an episode."""
    agent = A2C(gym.make("CartPole-v1"), seed=0).learn(20)
    return read(agent.save(tmp_path_factory.mktemp("placed") / "agent"))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("env_state",), None, ["place"]),
        (("env_state", "environment"), [], ["place.env_state.environment", "dictionary"]),
        (("env_state", "environment", "each"), 5, ["environment", "restored"]),
        (("env_state", "environment", "each", 0, "known", "attributes"), {"dict": [["step", 1]]}, ["'step'"]),
        (("env_state", "environment", "each", 0, "known", "generator"), {}, ["environment", "restored"]),
        (("env_state", "environment", "each", 0, "wrappers"), 5, ["environment", "restored"]),
        (("episodes",), None, ["place.episodes.resetting", "booleans"]),
        (("episodes", "dict", 4), ["returns", [1.0]], ["place.episodes.returns", "float64"]),
        (
            ("episodes", "dict", 0),
            ["observations", 1.0],
            ["place.episodes.observations", "float32"],
        ),
    ],
)
def test_load_of_a_malformed_env_state_raises_value_error_and_keeps_the_agent(
    placed, tmp_path, path, value, named
):
    place = json.loads(placed["place"].numpy().tobytes())
    owner = place
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = value
    text = torch.frombuffer(bytearray(json.dumps(place).encode()), dtype=torch.uint8)
    file = storage.write(tmp_path / "agent", {**placed, "place": text})
    loaded = []

    def go_on():
        if not loaded:
            loaded.append(A2C.load(file, gym.make("CartPole-v1")))
        loaded[0].learn(10)

    for _ in range(2):
        with pytest.raises(ValueError, match=naming(*named)) as raised:
            go_on()
        assert "\n" not in str(raised.value)
    for agent in loaded:
        assert agent.num_timesteps == placed["num_timesteps"]
        assert all(map(torch.equal, agent.policy.state_dict().values(), placed["policy"].values()))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_save_takes_less_than_1_kb_for_each_known_sub_environment(env_id, tmp_path):
    def size(num_envs):
        env = make_vec(env_id, num_envs, vectorization_mode="sync")
        return read(A2C(env, seed=0).learn(20).save(tmp_path / str(num_envs)))["place"].numel()

    assert 0 < size(9) - size(1) < 8 * 1_000
