"""Federated learning without a transport: reports of clients and steps of servers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rl_rms.agents import A2C, PPO, storage
from rl_rms.agents.federated import Client, Report, Server, norm
from rl_rms.agents.federated_config import FederationConfig
from rl_rms.envs import make_vec
from tests.naming import naming

CONFIG = FederationConfig(local_updates=3, local_learning_rate=0.1, learning_rate=0.02, half_life=5.0)


PLAIN = {"optimizer": torch.optim.SGD, "learning_rate": 0.1, "n_steps": 5, "gae_lambda": 1.0}
NOT_NORMALIZED = {"normalize_observation": False, "normalize_reward": False}


def client(seed=0, config=CONFIG, **changes):
    env = make_vec("CartPole-v1", 4, changes, seed=seed)
    return Client(A2C(env, **PLAIN, **NOT_NORMALIZED, seed=seed), config)


def params_of(one):
    return {name: param.detach().clone() for name, param in one.agent.policy.named_parameters()}


def report(direction, env_steps=10.0, episodes=1.0, mean_return=5.0):
    metrics = {"env_steps": env_steps, "episodes": episodes, "mean_return": mean_return}
    return Report({"w": torch.as_tensor(direction)}, metrics)


def server(placement, **options):
    options = {"learning_rate": 0.1, "half_life": 1.0, "eps": 0.0, "weighted": False, **options}
    return Server({"w": torch.tensor([1.0, 1.0])}, FederationConfig(placement=placement, **options))


# -- clients ----------------------------------------------------------------------------------------------


def test_client_direction_equals_its_local_change():
    one = client(config=replace(CONFIG, placement="none"))
    start = params_of(one)
    result = one.train(start)
    assert one.agent.num_updates == 3
    assert result.metrics["env_steps"] == one.agent.num_timesteps > 0
    assert norm(result.direction) > 0
    for name, param in one.agent.policy.named_parameters():
        assert torch.allclose(start[name] - 0.3 * result.direction[name], param, atol=1e-6)
    # With one update, the direction is the gradient.
    one = client(config=replace(CONFIG, placement="none", local_updates=1))
    result = one.train(params_of(one))
    for name, param in one.agent.policy.named_parameters():
        assert torch.allclose(result.direction[name], param.grad, atol=1e-5)


def test_client_with_ppo_completes_a_rollout_and_reports_its_mean_direction():
    env = make_vec("CartPole-v1", 4, {}, seed=0)
    options = {"n_steps": 8, "batch_size": 16, "n_epochs": 2, "optimizer": torch.optim.SGD, **NOT_NORMALIZED}
    one = Client(PPO(env, learning_rate=0.1, seed=0, **options), replace(CONFIG, placement="none"))
    start = params_of(one)
    told = one.train(start)
    assert one.agent.training.num_rollouts == 1
    assert one.agent.num_updates == 4
    for name, param in one.agent.policy.named_parameters():
        assert torch.allclose(start[name] - 0.4 * told.direction[name], param, atol=1e-6)


def test_client_continues_its_environment_with_the_servers_parameters():
    one = client()
    start = params_of(one)
    one.train(start)
    num_timesteps = one.agent.num_timesteps
    one.train(start)
    assert one.agent.num_updates == 6
    assert one.agent.num_timesteps > num_timesteps
    first, second = client(seed=1), client(seed=2)
    start = params_of(first)
    assert not torch.equal(*(one.train(start).direction["actor_network.0.weight"] for one in (first, second)))


def test_client_with_its_own_normalizer_reports_normalized_directions():
    plain, own = client(config=replace(CONFIG, placement="none")), client()
    start = params_of(plain)
    first, normalized = plain.train(start), own.train(start)
    for name, g in first.direction.items():
        # At the first update, the bias-corrected v is the square of the direction.
        assert torch.allclose(normalized.direction[name], g / (g.abs() + CONFIG.eps), atol=1e-5)
    assert all(state["step"] == 1 for state in own.state.values())
    # The second direction is divided by the root of the bias-corrected average of both squares.
    second, normalized = plain.train(start), own.train(start)
    rho = 2 ** (-1 / 5)
    for name, g in second.direction.items():
        before = first.direction[name]
        v = (rho * (1 - rho) * before**2 + (1 - rho) * g**2) / (1 - rho**2)
        assert torch.allclose(normalized.direction[name], g / (v.sqrt() + CONFIG.eps), atol=1e-4)


def test_client_state_saved_and_loaded_is_bit_identical(tmp_path):
    one = client()
    start = params_of(one)
    one.train(start)
    one.save(tmp_path)
    env = make_vec("CartPole-v1", 4, seed=0)
    other = Client(A2C.load(tmp_path / "agent.safetensors", env), CONFIG)
    other.load_state(tmp_path)
    ours, theirs = one.train(start), other.train(start)
    assert ours.metrics == theirs.metrics
    assert all(torch.equal(ours.direction[name], theirs.direction[name]) for name in start)


def test_client_with_a_wrong_agent_raises():
    with pytest.raises(ValueError, match=naming("optimizer=torch.optim.SGD", "RMSprop")):
        Client(A2C("CartPole-v1", seed=0), CONFIG)
    with pytest.raises(ValueError, match=naming("normalize_observation=False", "True")):
        Client(A2C("CartPole-v1", **PLAIN), CONFIG)
    plain = {**PLAIN, **NOT_NORMALIZED}
    with pytest.raises(ValueError, match=naming("momentum=0", "0.9")):
        Client(A2C("CartPole-v1", **plain, optimizer_kwargs={"momentum": 0.9}), CONFIG)
    with pytest.raises(ValueError, match=naming("constant learning rate", "linear")):
        Client(
            A2C("CartPole-v1", **{**plain, "learning_rate": {"linear": {"start": 0.1, "end": 0.0, "over": 100}}}),
            CONFIG,
        )
    Client(A2C("FrozenLake-v1", **PLAIN), CONFIG)  # Discrete observations have no normalizer
    with pytest.raises(ValueError, match=naming("policy")):
        client().train({"w": torch.zeros(1)})


# -- server -----------------------------------------------------------------------------------------------


def test_server_step_of_every_placement_equals_hand_computed_values():
    reports = [report([1.0, 4.0]), report([3.0, -4.0])]
    one = server("none")
    result = one.step(reports)
    assert one.params["w"].tolist() == pytest.approx([1 - 0.1 * 2, 1.0])
    assert result["update_norm"] == pytest.approx(0.2)
    assert (result["clients"], result["rejected"], result["mean_return"]) == (2, 0, 5)
    # The clients divide by the root of their own v, so the server uses the mean direction unchanged.
    one = server("client")
    one.step(reports)
    assert one.params["w"].tolist() == pytest.approx([0.8, 1.0])
    # The mean direction is (2, 0). Division by the root of its own square gives (1, 0).
    one = server("server", eps=1e-12)
    one.step(reports)
    assert one.params["w"].tolist() == pytest.approx([0.9, 1.0])
    # The mean direction (2, 0) is divided by the root of the mean squares (5, 16).
    one = server("pooled")
    one.step(reports)
    assert one.params["w"].tolist() == pytest.approx([1 - 0.1 * 2 / 5**0.5, 1.0])
    # The half-life is one round, so the square 5 of the first round has half the weight of the second round's
    # square 1. The first component of v is (5 + 2 * 1) / 3.
    one.step([report([1.0, 1.0])])
    v = torch.tensor([(0.25 * 5 + 0.5 * 1) / 0.75, (0.25 * 16 + 0.5 * 1) / 0.75])
    assert one.params["w"].tolist() == pytest.approx(
        [1 - 0.2 / 5**0.5 - 0.1 / float(v[0].sqrt()), 1 - 0.1 / float(v[1].sqrt())]
    )


def test_server_step_weights_clients_by_env_steps_or_equally():
    reports = [report([1.0, 0.0], env_steps=30.0), report([0.0, 1.0], env_steps=10.0)]
    one = server("none", weighted=True)
    one.step(reports)
    assert one.params["w"].tolist() == pytest.approx([1 - 0.075, 1 - 0.025])
    one = server("none")
    one.step(reports)
    assert one.params["w"].tolist() == pytest.approx([0.95, 0.95])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_server_step_nonfinite_report_is_rejected_and_counted(bad):
    one = server("none")
    result = one.step([report([1.0, bad]), report([2.0, 2.0]), report([1.0, 1.0], env_steps=bad)])
    assert one.params["w"].tolist() == pytest.approx([0.8, 0.8])
    assert (result["clients"], result["rejected"], one.rejected) == (1, 2, 2)
    assert one.step([report([bad, bad])])["clients"] == 0
    assert one.params["w"].tolist() == pytest.approx([0.8, 0.8])
    assert (one.round, one.rejected) == (2, 3)


def test_server_step_huge_or_misshapen_report_is_rejected():
    good = [report([1.0, 1.0]), report([1.2, 0.8]), report([0.8, 1.2])]
    one = server("none")
    result = one.step([*good, report([1e6, 0.0])])
    assert result["rejected"] == 1
    assert one.params["w"].tolist() == pytest.approx([0.9, 0.9])
    one = server("none", max_norm_ratio=None)
    assert one.step([*good, report([1e6, 0.0])])["rejected"] == 0
    one = server("pooled")
    assert one.step([report([1.0, 1.0, 1.0]), report([1.0, 1.0])])["rejected"] == 1


@pytest.mark.parametrize("placement", ["server", "client"])
@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (report(torch.tensor([1j, 1.0])), ["direction", "w", "torch.float32"]),
        (report(torch.tensor([1.0, 1.0], dtype=torch.float64)), ["torch.float64"]),
        (report(torch.tensor([1, 1])), ["torch.int64"]),
        (report([[1.0, 1.0]]), ["torch.float32", "(1, 2)"]),
        (report([3e38, 1.0]), ["direction", "w", "finite", "1e+18"]),
        (report([math.nan, 1.0]), ["direction", "w", "finite"]),
        (Report({}, report([1.0, 1.0]).metrics), ["1 parameters"]),
        (Report({"w": torch.ones(2), "v": torch.ones(2)}, report([1.0, 1.0]).metrics), ["others"]),
        (Report({"w": torch.ones(2)}, {"env_steps": 1.0}), ["metrics", "episodes", "mean_return"]),
        (report([1.0, 1.0], env_steps=1e18), ["env_steps", "100", "1e+18"]),
        (report([1.0, 1.0], env_steps=0.0), ["env_steps", "1", "0.0"]),
        (report([1.0, 1.0], env_steps=1.5), ["env_steps", "1.5"]),
        (report([1.0, 1.0], env_steps=[3.0]), ["env_steps", "[3.0]"]),
        (report([1.0, 1.0], episodes=11.0), ["episodes", "10", "11.0"]),
        (report([1.0, 1.0], episodes=-1.0), ["episodes", "-1.0"]),
        (report([1.0, 1.0], mean_return=math.nan), ["mean_return", "nan"]),
        (report([1.0, 1.0], mean_return=math.inf), ["mean_return", "inf"]),
        (report([1.0, 1.0], mean_return=1e308), ["mean_return", "1e+308"]),
        (report([1.0, 1.0], mean_return="9"), ["mean_return", "'9'"]),
        (report([1.0, 1.0], mean_return=[1.0], episodes=0.0), ["mean_return", "[1.0]"]),
        (report(torch.ones(2).to_sparse()), ["direction", "w", "dense"]),
        (report(torch.ones(2, device="meta")), ["direction", "w", "cpu"]),
        (Report({"w": [1.0, 1.0]}, report([1.0, 1.0]).metrics), ["direction", "w", "list"]),
        (Report(None, report([1.0, 1.0]).metrics), ["1 parameters"]),
        (Report({"w": torch.ones(2)}, None), ["metrics", "NoneType"]),
    ],
)
def test_step_rejects_and_counts_a_report_out_of_range(placement, bad, named):
    one = server(placement, weighted=True)
    one.most_env_steps = 100
    with pytest.raises((ValueError, TypeError), match=naming(*named)):
        one.check(bad)
    other = server(placement, weighted=True)
    good = report([1.0, 2.0])
    assert (one.step([bad, good])["rejected"], other.step([good])["rejected"]) == (1, 0)
    assert torch.equal(one.params["w"], other.params["w"])
    assert one.params["w"].dtype == torch.float32
    assert one.params["w"].isfinite().all()


def test_step_with_the_largest_accepted_direction_keeps_the_state_finite():
    for placement in ("server", "pooled"):
        one = server(placement)
        one.step([report([1e18, -1e18])])
        one.step([report([1.0, 1.0])])
        assert all(state["square_avg"].isfinite().all() for state in one.state.values())
        assert one.params["w"].isfinite().all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"round": -1}, ["round"]),
        ({"rejected": "many"}, ["rejected"]),
        ({"params": None}, ["policy"]),
        ({"params": {"w": torch.tensor([math.nan, 1.0])}}, ["parameter", "w", "finite"]),
        ({"state": {"v": {}}}, ["second moments", "policy"]),
        ({"state": {"w": {}}}, ["step", "w", "finite"]),
        ({"state": {"w": None}}, ["step", "w", "finite"]),
        ({"state": {"w": {"step": 1, "square_avg": torch.ones(3), "initial_weight": 1.0}}}, ["square_avg", "w"]),
        ({"state": {"w": {"step": 1, "square_avg": -torch.ones(2), "initial_weight": 1.0}}}, ["square_avg", "w"]),
    ],
)
def test_load_state_dict_of_a_wrong_state_names_the_part(change, named):
    one = server("server")
    one.step([report([1.0, 2.0])])
    with pytest.raises(ValueError, match=naming(*named)):
        server("server").load_state_dict({**one.state_dict(), **change})
    with pytest.raises(ValueError, match=naming("state", "round")):
        server("server").load_state_dict({"params": one.params, "rejected": 0})


def test_client_interrupted_while_saving_leaves_no_agent_without_a_second_moment(tmp_path, monkeypatch):
    written = []

    def write(path, contents):
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        return save(path, contents)

    save = storage.write
    monkeypatch.setattr(storage, "write", write)
    with pytest.raises(KeyboardInterrupt):
        client().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["normalizer.safetensors"]


def test_client_load_state_of_another_policy_raises(tmp_path):
    one = client()
    one.train(params_of(one))
    one.state.pop(next(iter(one.state)))
    one.save(tmp_path)
    with pytest.raises(ValueError, match=naming("second moments", "policy")):
        client().load_state(tmp_path)


def test_server_state_saved_and_loaded_continues():
    first = server("server")
    first.step([report([1.0, 2.0])])
    second = server("server")
    second.load_state_dict(first.state_dict())
    for one in (first, second):
        one.step([report([-1.0, 1.0])])
    assert torch.equal(first.params["w"], second.params["w"])
    assert (second.round, second.rejected) == (2, 0)
    with pytest.raises(ValueError, match=naming("policy")):
        first.load_state_dict({**second.state_dict(), "params": {"v": torch.zeros(2)}})


# -- clients and server -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("placement", "rate"), [("server", 0.01), ("pooled", 0.03), ("client", 0.01), ("none", 0.5)]
)
def test_federation_of_different_environments_increases_the_return(placement, rate):
    config = FederationConfig(
        local_updates=5, local_learning_rate=0.1, learning_rate=rate, placement=placement, half_life=20.0
    )
    clients = [client(seed, config, length=length) for seed, length in enumerate((0.3, 0.5, 1.0))]
    one = Server(params_of(clients[0]), config)
    rounds = [one.step([own.train(one.params) for own in clients])["mean_return"] for _ in range(120)]
    returns = np.array(rounds).reshape(-1, 20)
    early, best = np.nanmean(returns[0, :5]), np.nanmean(returns, axis=1).max()
    assert early < 30
    assert best > 2 * early
