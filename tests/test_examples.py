"""The examples run and print their results."""

import json
import re
import runpy
import sys
from pathlib import Path

import gymnasium as gym
import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_train_from_a_script_trains_and_saves(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(EXAMPLES / "train_from_a_script.py"))["main"]
    assert main(total_timesteps=3_000) > 5
    assert "tensorboard --logdir runs/script" in capsys.readouterr().out
    assert (tmp_path / "runs" / "script" / "agent.safetensors").is_file()


@pytest.mark.xdist_group("ray")
@pytest.mark.filterwarnings("ignore")  # warnings of RLlib
def test_rllib_trains_with_the_optimizer(capsys):
    pytest.importorskip("ray.rllib.algorithms")
    main = runpy.run_path(str(EXAMPLES / "rllib.py"))["main"]
    main(env_steps=1_000)
    printed = capsys.readouterr().out
    assert "PPO: mean return" in printed
    assert "rl_rms.optim.rmsprop.RMSprop, half-life 200 updates = 10000 env steps" in printed
    assert "half-life 100 updates = 50000 env steps" in printed


def test_sb3_half_life_is_the_same_for_all_algorithms(capsys):
    main = runpy.run_path(str(EXAMPLES / "sb3_half_life.py"))["main"]
    rows = main(total_timesteps=100, half_life="4_000 steps")
    # 69 updates of 5 env steps, of 16 x 5, and of 4 x 2,048 divided by 10 epochs of 128 minibatches.
    assert [usual for _, usual, _ in rows] == pytest.approx([344.8, 5517.4, 441.4], abs=0.1)
    assert [stated for _, _, stated in rows] == pytest.approx([4_000] * 3)
    assert "A2C, 16 environments" in capsys.readouterr().out


def test_sb3_forgetting_normalizer_compares_both_normalizers(capsys):
    main = runpy.run_path(str(EXAMPLES / "sb3_forgetting_normalizer.py"))["main"]
    theirs, ours = main(total_timesteps=11_000)
    printed = capsys.readouterr().out
    assert f"Stable-Baselines3's VecNormalize: {theirs:.1f}" in printed
    assert f"and 1 detected jumps: {ours:.1f}" in printed


@pytest.fixture
def rooms():
    """Removes the example's environment from the registry after the test."""
    yield
    gym.registry.pop("Room-v0", None)


@pytest.mark.usefixtures("rooms")
def test_custom_environment_drifts_and_its_return_increases(capsys):
    main = runpy.run_path(str(EXAMPLES / "custom_environment.py"))["main"]
    before, after = main(total_timesteps=60_000)
    assert after > before + 50
    printed = capsys.readouterr().out
    # The power jumps at 30,000 and at 60,000 env steps. The outside temperature has a period of 100,000.
    assert "environment at env step 60,0" in printed
    assert "regime 2" in printed


def test_curriculum_reaches_the_last_level(capsys):
    main = runpy.run_path(str(EXAMPLES / "curriculum.py"))["main"]
    path = main(total_timesteps=40_000, success_return=20.0)
    assert path[0] == (0, 0)
    assert 2 in [level for _, level in path]
    assert "level 2, {'length': 0.25}" in capsys.readouterr().out


def test_compare_half_lives_prints_intervals(capsys):
    pytest.importorskip("rliable")
    main = runpy.run_path(str(EXAMPLES / "compare_half_lives.py"))["main"]
    table = main(half_lives=(2, 200), seeds=2, total_timesteps=6_000)
    length, more = table["200"]
    assert length.low <= length.middle <= length.high
    assert table["2"][1] == (0, 0, 0)
    assert more.middle == pytest.approx(length.middle - table["2"][0].middle)
    header = capsys.readouterr().out.splitlines()[0]
    assert header.split() == ["half-life", "episode", "length", "difference", "from", "half-life", "2"]


@pytest.mark.slow
def test_federated_increases_the_return(capsys):
    main = runpy.run_path(str(EXAMPLES / "federated.py"))["main"]
    results = main(rounds=30)
    assert set(results) == {"server", "client"}
    assert all(after > before + 10 for before, after in results.values())
    assert "placement client" in capsys.readouterr().out


def test_resume_after_a_kill_gives_the_same_weights(capfd):
    main = runpy.run_path(str(EXAMPLES / "resume_after_a_kill.py"))["main"]
    assert main(total_timesteps=60_000, every=5_000)
    printed = capfd.readouterr().out
    (checkpoint,) = re.findall(
        r"killed after the checkpoint at env step ([\d,]+), before the end of the run", printed
    )
    assert 5_000 <= int(checkpoint.replace(",", "")) < 60_000
    assert "weights are bit-identical" in printed


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """The running interpreter as a Jupyter kernel, with all its files in the folder of the test."""
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("JUPYTER_NO_CONFIG", "1")
    folder = tmp_path / "JUPYTER_DATA_DIR" / "kernels" / "here"
    folder.mkdir(parents=True)
    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": words, "display_name": "here", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    return "here"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of Jupyter
def test_notebook_runs_and_has_its_outputs(kernel, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    path = EXAMPLES / "rl_rms.ipynb"
    committed, notebook = nbformat.read(path, 4), nbformat.read(path, 4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        notebook, kernel_name=kernel, timeout=120, record_timing=False, resources=where
    ).execute()
    for old, new in zip(committed.cells, notebook.cells, strict=True):
        if old.cell_type == "code":
            assert [kinds(output) for output in old.outputs] == [kinds(output) for output in new.outputs]
            assert old.execution_count == new.execution_count
    # The committed output of the half-lives equals the new one exactly.
    assert committed.cells[2].outputs == notebook.cells[2].outputs
    assert path.stat().st_size < 200_000


def kinds(output):
    """The type of an output: printed text, a value or an image."""
    return output.output_type, sorted(output.get("data", {}))


def test_every_example_has_a_test():
    tests = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    for example in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")]:
        assert f'"{example.name}"' in tests, example.name


def test_every_example_is_on_its_page():
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text()
    named = set(re.findall(r"`examples/([\w.]+)`", page))
    assert named == {path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".ipynb"}}
