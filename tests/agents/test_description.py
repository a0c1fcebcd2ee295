import torch

from rl_rms.agents import A2C
from rl_rms.agents.config import A2CConfig
from rl_rms.agents.config_parts import PolicyConfig
from rl_rms.agents.description import describe_half_lives, device_note, flat_hyperparameters
from rl_rms.agents.optimizers import make_optimizer
from rl_rms.envs import make_vec


def parts(**hyperparameters):
    """A configuration and its optimizer."""
    config = A2CConfig(**hyperparameters)
    return config, make_optimizer(torch.nn.Linear(1, 1), config)


def test_describe_half_lives_has_updates_and_env_steps():
    described = describe_half_lives(*parts(half_life=69), 80)
    assert all(words in described for words in ("69.0 updates", "5,520 env steps", "80 env steps per update"))
    by_steps = parts(half_life="20_000 steps")
    assert describe_half_lives(*by_steps, 80).startswith("half-life 250.0 updates = 20,000 env steps")
    assert "half-life 20000 steps" in describe_half_lives(*by_steps, None)


def test_describe_half_lives_of_an_optimizer_without_memory_is_zero():
    described = describe_half_lives(*parts(optimizer_kwargs={"rho": 0}), 80)
    assert described.startswith("half-life 0.0 updates = 0 env steps")


def test_describe_half_lives_estimated_has_its_bounds():
    assert "between 32 and 10,000 updates" in describe_half_lives(*parts(half_life="auto"), 80)
    config, optimizer = parts(half_life="match", optimizer_kwargs={"half_life_bounds": (8, 99)})
    assert "between 8 and 99 updates" in describe_half_lives(config, optimizer, 80)
    optimizer.timescale = "50_000 steps"
    described = describe_half_lives(config, optimizer, None)
    assert "a timescale of 50,000 env steps, between 8 and 99 updates" in described
    optimizer.timescale = float("inf")
    assert "99 updates, the longest allowed" in describe_half_lives(config, optimizer, 80)


def test_describe_half_lives_has_the_normalizers_that_forget():
    adam = {"optimizer": "torch.optim.Adam"}
    assert describe_half_lives(*parts(**adam), 80) is None
    assert describe_half_lives(*parts(**adam, normalize_observation="inf"), 80) is None
    both = parts(**adam, normalize_observation="8_000 steps", normalize_reward=50)
    assert describe_half_lives(*both, 80) == (
        "observations: half-life 100.0 updates = 8,000 env steps; "
        "rewards: half-life 50.0 updates = 4,000 env steps"
    )


def test_flat_hyperparameters_have_dotted_names_and_the_current_half_life():
    network, options = PolicyConfig(hidden_sizes=(8,)), {"rho": 0.5}
    flat = flat_hyperparameters(A2C(make_vec("CartPole-v1", 2), policy=network, optimizer_kwargs=options, seed=3))
    assert flat["policy.hidden_sizes"] == [8]
    assert flat["optimizer.rho"] == 0.5
    assert flat["half_life"] == "1 updates"
    assert (flat["env"], flat["num_envs"], flat["seed"]) == ("CartPole-v1", 2, 3)


def test_device_note_explains_the_cpu_for_small_networks_with_cuda(monkeypatch):
    agent, stated = A2C("CartPole-v1", seed=0), A2C("CartPole-v1", seed=0, device="cpu")
    assert device_note(agent) is None or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "CPU" in str(device_note(agent))
    assert 'device="cuda"' in str(device_note(agent))
    assert device_note(stated) is None
