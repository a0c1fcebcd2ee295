import subprocess
import sys

import pytest

from rl_rms.cli.main import main
from rl_rms.envs.schedules import Key, PoissonJumps, Redraw, Sinusoid, plotting, stream_of

SWING = "{sinusoid: {mean: 9.8, amplitude: 4, period: 2.0e4}}"


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Records the schedules, ranges and keys of plots, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    calls = []
    original = plotting.draw

    def spy(schedule, axes, until, keys):
        calls.append((schedule, until, list(keys)))
        original(schedule, axes, until, keys)

    monkeypatch.setattr(plotting, "draw", spy)
    return calls


def test_plot_schedule_inline_writes_a_figure(drawn, tmp_path, capsys):
    assert main(["plot-schedule", SWING]) == 0
    assert capsys.readouterr().out == "schedule.png\n"
    assert (tmp_path / "schedule.png").read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["schedule.png"]
    schedule, until, keys = drawn[0]
    assert schedule == Sinusoid(9.8, 4, 20_000)
    assert 20_000 <= until <= 10**5
    assert [key.seed for key in keys] == [0, 1, 2]


def test_plot_schedule_options_set_range_seeds_and_file(drawn, tmp_path, capsys):
    jumps = "{poisson_jumps: {low: 0, high: 1, mean_dwell: 100}}"
    assert main(["plot-schedule", jumps, "--until", "5e3", "--seeds=2", "--output", "pictures/jumps.svg"]) == 0
    picture = (tmp_path / "pictures" / "jumps.svg").read_text()
    assert "<svg" in picture
    schedule, until, keys = drawn[0]
    assert (schedule, until, len(keys)) == (PoissonJumps(0, 1, 100), 5_000, 2)
    assert capsys.readouterr().out == "pictures/jumps.svg\n"
    assert main(["plot-schedule", "9.8", "--output=constant.png"]) == 0


def test_plot_schedule_of_a_configuration_draws_every_change(drawn, tmp_path):
    assert main(["plot-schedule", "drifting_cartpole", "--seeds", "1"]) == 0
    assert [schedule for schedule, _, _ in drawn] == [
        Sinusoid(9.8, 4, 200_000),
        Redraw(0.1, 2, every=150_000),
        Redraw(values=[-10, 10], every=300_000),
    ]
    assert {until for _, until, _ in drawn} == {1_000_000}
    targets = ("gravity", "length", "force_mag")
    assert [keys for _, _, keys in drawn] == [[Key(0, stream_of(target))] for target in targets]


def test_plot_schedule_of_a_file_uses_its_clocks(drawn, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "env: {num_envs: 4, sharing: independent, drift_seed: 8, changes: {gravity: "
        "{random_walk: {start: 9.8, std: 0.1, low: 5, high: 15}}}}\ntotal_timesteps: 8000\n"
    )
    assert main(["plot-schedule", "mine.yaml", "--seeds=2"]) == 0
    _, until, keys = drawn[0]
    assert until == 2_000
    assert keys == [Key(8, stream_of("gravity")), Key(9, stream_of("gravity"))]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "spec"),
        (["{sinusiod: {}}"], "a schedule must be one of"),
        (["{sinusoid: {mean: 1}}"], "sinusoid needs amplitude and period"),
        (["{sinusoid: "], "the schedule is not YAML"),
        (["[1, 2]"], "a schedule must be one of"),
        (["nothing"], "there is no configuration 'nothing'"),
        (["cartpole_a2c"], "cartpole_a2c has no env.changes"),
        ([SWING, "--until=0"], "--until must be >= 1 env steps"),
        ([SWING, "--until=1e30"], "--until must be >= 1 env steps and below 2**62, got 1e+30"),
        ([SWING, "--until=soon"], "until"),
        ([SWING, "--seeds=0"], "--seeds must be >= 1, got 0"),
        ([SWING, "--output=schedule.pdf"], "--output must end in .png or .svg, got 'schedule.pdf'"),
    ],
)
def test_plot_schedule_wrong_input_prints_one_sentence_and_returns_2(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plot-schedule", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_plot_schedule_output_without_write_access_names_it(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["plot-schedule", SWING, "--output", str(tmp_path / "file" / "a.png")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_plot_schedule_help_does_not_import_matplotlib(capsys):
    program = (
        "import sys\n"
        "from rl_rms.cli.main import main\n"
        "main(['--help'])\n"
        "assert not {'gymnasium', 'matplotlib', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "  plot-schedule draw a schedule" in done.stdout
    with pytest.raises(SystemExit, match="0"):
        main(["plot-schedule", "--help"])
    assert "Last value of the environment's clock" in capsys.readouterr().out
