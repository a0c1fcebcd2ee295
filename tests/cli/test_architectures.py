"""Networks ranked under several optimizers: the statistics by hand, and a search from its file to its verdict."""

from pathlib import Path

import numpy as np
import pytest

from rl_rms.cli.config import find_config
from rl_rms.cli.errors import UserError
from rl_rms.cli.main import main

pytest.importorskip("optuna")
pytest.importorskip("scipy")
from rl_rms.cli import architectures, trials

FILE = """
config: cartpole_a2c
networks:
  small: {hidden_sizes: [4]}
  deep: {hidden_sizes: [8, 8], activation: relu}
  shared: {hidden_sizes: [8], shared_trunk: true}
optimizers:
  rms: {half_life: 20, learning_rate: [1.0e-3, 1.0e-2]}
  sgd: {optimizer: torch.optim.SGD, half_life: null, learning_rate: [0.1]}
fix: {total_timesteps: 1000, env.num_envs: 4}
seeds: [0, 1]
"""


@pytest.fixture
def search_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text=FILE):
        (tmp_path / "mine.yaml").write_text(text)
        return "mine.yaml"

    return write


def test_from_a_file_to_a_verdict(search_file, capsys):
    assert main(["architectures", search_file(), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    table = Path("sweeps/mine/architectures.md").read_text()
    assert "| rank | rms | sgd |" in table
    assert "(lr 0.1)" in table
    assert "| rms, sgd |" in table
    assert "winner is" in table
    for line in table.splitlines()[2:-2]:
        assert line in printed
    # What was trained is not trained again.
    trained = Path("sweeps/mine/study.log").read_text().count('"seed ')
    assert trained == 9 * 2
    assert main(["architectures", "mine.yaml", "--workers", "1"]) == 0
    assert Path("sweeps/mine/study.log").read_text().count('"seed ') == trained
    # The same names for other networks are another search.
    search_file(FILE.replace("[4]", "[5]"))
    assert main(["architectures", "mine.yaml"]) == 2
    assert "another networks" in capsys.readouterr().err


def test_names_are_spelled_out(search_file):
    search = architectures.read_architectures(search_file())
    config = search.run_config({"network": "deep", "trained by": "rms, lr 0.01"}, 3)
    assert config.agent.policy.hidden_sizes == (8, 8)
    assert config.agent.policy.activation == "relu"
    assert (config.agent.learning_rate, config.agent.half_life, config.seed) == (0.01, 20, 3)
    other = search.run_config({"network": "shared", "trained by": "sgd, lr 0.1"}, 3)
    assert (other.agent.optimizer, other.agent.half_life) == ("torch.optim.SGD", None)
    assert other.agent.policy.shared_trunk
    assert search.sweep.num_trials == 9


def test_each_network_counts_at_its_best_rate(search_file):
    search = architectures.read_architectures(search_file())
    study = trials.open_study(search, str(Path("study.log").absolute()))
    values = {"rms, lr 0.001": 1.0, "rms, lr 0.01": 2.0, "sgd, lr 0.1": 3.0}
    for _ in range(9):
        trial = study.ask()
        point = {key: one.suggest(trial, key) for key, one in search.sweep.distributions.items()}
        score = values[point["trained by"]] - 4.0 * (point["network"] == "small" and "0.01" in point["trained by"])
        for i, seed in enumerate(search.sweep.seeds):
            trial.set_user_attr(f"seed {seed}", {"score": score + i})
        study.tell(trial, score)
    scores, rates = architectures.scores_at_best_rates(study, search)
    assert rates["rms"] == {"small": 1e-3, "deep": 1e-2, "shared": 1e-2}
    np.testing.assert_allclose(scores["rms"], [[1.0, 2.0], [2.0, 3.0], [2.0, 3.0]])
    np.testing.assert_allclose(scores["sgd"], [[3.0, 4.0]] * 3)


def scores(means, noise, seeds=8):
    rng = np.random.default_rng(5)
    return np.array(means)[:, None] + noise * rng.normal(size=(len(means), seeds))


@pytest.mark.parametrize(
    ("by_optimizer", "sentence"),
    [
        ({"a": scores([1, 5], 0.1), "b": scores([2, 9], 0.1)}, "not the optimizer's doing: it is wide under each"),
        ({"a": scores([1, 5], 0.1), "b": scores([9, 2], 0.1)}, "wide, first under a, falls 7.0 short of the best"),
        ({"a": np.array([[1.0, 9.0], [5.0, 5.5]]), "b": np.array([[6.0, 5.0], [1.0, 9.0]])}, "cannot be told"),
        ({"a": scores([1, 5], 0.1)}, "with one optimizer nothing can be said"),
    ],
)
def test_verdicts(by_optimizer, sentence):
    said = architectures.verdict(by_optimizer, ["thin", "wide"])
    assert sentence in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (FILE.replace("networks:", "netwroks:"), "there is no key 'netwroks'.*did you mean networks"),
        (FILE.replace("config: cartpole_a2c", ""), "config is missing"),
        ("config: cartpole_a2c\nnetworks: {a: {}}\noptimizers: {}", "networks must hold at least 2 by name"),
        (
            FILE.replace("learning_rate: [0.1]", "learning_rate: 0.1"),
            "optimizers.sgd.learning_rate must be a list",
        ),
        (FILE.replace("seeds: [0, 1]", "seeds: [0]"), "seeds must be at least two"),
        (FILE.replace("hidden_sizes: [4]", "hidden_size: [4]"), "with network = 'small', .*hidden_size"),
        (
            FILE.replace("optimizer: torch.optim.SGD", "optimiser: x"),
            "with trained by = 'sgd, lr 0.1', .*optimiser",
        ),
    ],
)
def test_wrong_files(search_file, text, sentence):
    with pytest.raises(UserError, match=sentence):
        architectures.read_architectures(search_file(text))


def test_a_configuration_beside_the_search_is_found(search_file, tmp_path):
    (tmp_path / "own.yaml").write_text(find_config("cartpole_a2c").read_text().replace("n_steps: 8", "n_steps: 3"))
    search = architectures.read_architectures(search_file(FILE.replace("cartpole_a2c", "own.yaml")))
    assert search.run_config({"network": "small", "trained by": "sgd, lr 0.1"}, 0).agent.n_steps == 3


def test_the_packaged_search():
    search = architectures.read_architectures("architectures_cartpole")
    assert search.sweep.num_trials == 9 * 9


def test_the_documentation_shows_the_committed_ranking():
    root = Path(__file__).parents[2]
    committed = (root / "benchmarks" / "results" / "architectures.md").read_text()
    (search,) = {architectures.read_architectures("architectures_cartpole").name}
    assert f"# Networks ranked: {search}" in committed
    rows = [line for line in committed.splitlines() if line.startswith("|")]
    page = (root / "docs" / "tuning.md").read_text()
    assert len(rows) == 2 + 9 + 2 + 3
    assert "\n".join(rows[:11]) in page
    assert "\n".join(rows[11:]) in page
    assert committed.splitlines()[-3].removesuffix(".") in page.replace("\n", " ")
