"""Tuning by meta-gradient, from a configuration to one that trains."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.agents.config import A2CConfig
from rl_rms.cli import tune
from rl_rms.cli.config import read_config
from rl_rms.cli.main import main

FALLING = "{linear: {start: 1, end: 0, over: 9}}"
QUICK = ["--total_timesteps=3000", "--env.num_envs=4", "--log_interval=20", "--runs_dir=runs"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_a_configuration_to_one_that_trains(elsewhere, capsys):
    words = ["--tune.lives", "2", "--agent.half_life", "2_000 steps", "--seed", "3"]
    assert main(["tune", "cartpole_a2c", *QUICK, *words]) == 0
    printed = capsys.readouterr().out
    (folder,) = (elsewhere / "runs" / "cartpole_a2c-tune").iterdir()
    assert "windows of 4 updates that hold at most 256 MB" in printed
    assert "life 1: mean return" in printed
    assert f"rl-rms train {folder.relative_to(elsewhere)}/tuned.yaml" in printed
    before, after = read_config(folder / "config.yaml").agent, read_config(folder / "tuned.yaml").agent
    assert after.meta is None
    assert after.learning_rate != before.learning_rate
    assert after.half_life != before.half_life
    assert after.half_life.endswith(" steps")
    assert after.optimizer_kwargs["eps"] != 1e-5
    assert after.n_steps == before.n_steps
    for life in ("life0", "life1"):
        events = EventAccumulator(str(folder / life)).Reload()
        for name in ("learning_rate", "half_life", "eps"):
            assert events.Scalars(f"meta/{name}")
            assert events.Scalars(f"meta/agreement/{name}")
        assert events.Scalars("meta/loss")
        assert events.Scalars("meta/gradient_norm")
    assert main(["train", str(folder / "tuned.yaml"), "--total_timesteps=500"]) == 0


def life(monkeypatch, scores, collapsed=()):
    """Lives that end with these scores, each finding ten times the learning rate that it began with."""
    began = []

    def live(config, tuning, ratios, folder):
        began.append(ratios["learning_rate"])
        number, found = len(began) - 1, {"learning_rate": 10.0 * ratios["learning_rate"]}
        return tune.Life(ratios, found, scores[number], number in collapsed)

    monkeypatch.setattr(tune, "live", live)
    return began


ONLY_RATE = ["--agent.learning_rate=1e-6", "--tune.adapt=[learning_rate]"]


def tuned_rate(folder):
    (tuned,) = (folder / "runs").glob("*/*/tuned.yaml")
    return read_config(tuned).agent.learning_rate


def test_every_life_begins_with_what_the_one_before_has_found(monkeypatch, elsewhere, capsys):
    began = life(monkeypatch, [5.0, 9.0, 7.0, 8.0])
    assert main(["tune", "cartpole_a2c", *QUICK, *ONLY_RATE]) == 0
    assert began == pytest.approx([1.0, 10.0, 100.0, 1000.0])
    # Between what the last two have found.
    assert tuned_rate(elsewhere) == pytest.approx(1e-6 * (1e3 * 1e4) ** 0.5, rel=1e-3)
    assert "life 2: mean return 7.0; learning_rate 0.0001 -> 0.001\n" in capsys.readouterr().out


def test_a_life_that_collapsed_has_gone_too_far(monkeypatch, elsewhere, capsys):
    began = life(monkeypatch, [5.0, 9.0, 4.0, 8.0], collapsed=[2])
    assert main(["tune", "cartpole_a2c", *QUICK, *ONLY_RATE]) == 0
    # The third began with 100, the best with 10.
    halfway = (100.0 * 10.0) ** 0.5
    assert began == pytest.approx([1.0, 10.0, 100.0, halfway])
    assert tuned_rate(elsewhere) == pytest.approx(1e-6 * (100.0 * 10.0 * halfway) ** 0.5, rel=1e-3)
    assert "learning_rate 0.0001 -> 0.001, left, since it ended worse than it began" in capsys.readouterr().out


def test_where_all_lives_collapse_nothing_was_found(monkeypatch, elsewhere):
    began = life(monkeypatch, [5.0] * 4, collapsed=range(4))
    assert main(["tune", "cartpole_a2c", *QUICK, *ONLY_RATE]) == 0
    assert began == pytest.approx([1.0] * 4)
    assert tuned_rate(elsewhere) == pytest.approx(1e-6)


def test_a_life_at_a_rate_that_is_far_too_large_collapses():
    config = read_config("cartpole_a2c", ["--total_timesteps=20000", "--seed=1", "--progress=none"])
    tuning = tune.TuneConfig(adapt=["learning_rate"])
    good, bad = (tune.live(config, tuning, {"learning_rate": ratio}, None) for ratio in (1.0, 300.0))
    assert not good.collapsed
    assert bad.collapsed
    assert bad.score < good.score


def test_interrupted_it_keeps_what_it_has_found(monkeypatch, elsewhere):
    began = life(monkeypatch, [5.0])
    interrupted = tune.live

    def live(*arguments):
        if len(began) == 1:
            raise KeyboardInterrupt
        return interrupted(*arguments)

    monkeypatch.setattr(tune, "live", live)
    assert main(["tune", "cartpole_a2c", *QUICK, *ONLY_RATE]) == 130
    assert tuned_rate(elsewhere) == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("stated", "ratio", "found"),
    [(None, 0.5, "100 updates"), (69, 2.0, "138 updates"), ("20_000 steps", 0.1, "2000 steps")],
)
def test_half_lives_keep_their_unit(stated, ratio, found):
    assert tune.scaled(A2CConfig(half_life=stated), {"half_life": ratio}).half_life == found


def test_the_critics_rate_and_eps_are_scaled_too():
    agent = A2CConfig(
        learning_rate=1e-3, critic_learning_rate=4e-3, optimizer_kwargs={"eps": 1e-3, "centered": True}
    )
    found = tune.scaled(agent, {"learning_rate": 0.5, "eps": 10.0})
    assert (found.learning_rate, found.critic_learning_rate) == (5e-4, 2e-3)
    assert found.optimizer_kwargs == {"eps": 1e-2, "centered": True}
    assert tune.scaled(A2CConfig(), {"eps": 2.0}).optimizer_kwargs == {"eps": 2e-5}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "rl-rms tune needs a configuration"),
        (["cartpole_a2c", "--tune.lives=0"], "tune.lives must be >= 1, got 0"),
        (["cartpole_a2c", "--tune.live=2"], "did you mean --tune.lives"),
        (["cartpole_a2c", "--tune.window=0"], "meta.window must be"),
        (["cartpole_a2c", "--agent.half_lif=2"], "did you mean agent.half_life"),
        (["cartpole_a2c", f"--agent.learning_rate={FALLING}"], "tune needs a number for agent.learning_rate"),
        (["cartpole_a2c", f"--agent.critic_learning_rate={FALLING}"], "a number for agent.critic_learning_rate"),
        (["cartpole_a2c", "--agent.half_life=auto"], "meta adapts a half-life that is stated"),
        (
            ["cartpole_a2c", "--agent.optimizer=torch.optim.Adam", "--agent.half_life=null"],
            "meta adapts rl_rms.RMSprop, not Adam",
        ),
        (["cartpole_a2c", "--agent.meta={window: 3}"], "agent.meta adapts the hyperparameters already"),
    ],
)
def test_wrong_words_write_nothing(words, sentence, elsewhere, capsys):
    assert main(["tune", *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(elsewhere.iterdir())
