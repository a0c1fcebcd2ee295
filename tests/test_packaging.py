"""What a user gets: the wheel, built from the sdist, in an environment of its own outside this folder."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

SMOKE = """
import rl_rms, rl_rms.studies
from pathlib import Path
from rl_rms.agents import A2C
from rl_rms.cli.main import main
assert Path(rl_rms.__file__).is_relative_to({site!r}), rl_rms.__file__
agent = A2C("CartPole-v1", half_life="500 steps", seed=0).learn(200)
assert agent.num_timesteps >= 200
assert main(["train", "drifting_cartpole", "--total_timesteps", "500", "--env.num_envs", "2"]) == 0
assert len(list(Path("runs").glob("drifting_cartpole/*/summary.json"))) == 1
"""


def run(*words, cwd):
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    base = tmp_path_factory.mktemp("dist")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    source = ROOT
    if files.returncode == 0:
        # Only what is committed or about to be, so that no leftover of an earlier build slips into this one.
        source = base / "source"
        for name in filter(None, files.stdout.split("\0")):
            copy = source / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_symlink():
                copy.symlink_to((ROOT / name).readlink())
            elif (ROOT / name).is_file():
                copy.write_bytes((ROOT / name).read_bytes())
    # With neither --sdist nor --wheel, build makes the wheel from the sdist.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", base, source, cwd=base)
    (built,) = base.glob("*.whl")
    return built


def test_the_wheel_holds_one_package_and_its_configurations(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        top_level = archive.read(next(name for name in names if name.endswith("top_level.txt"))).decode().split()
    assert top_level == ["rl_rms"]
    packages = {name.split("/")[0] for name in names}
    assert packages == {"rl_rms", next(name for name in packages if name.endswith(".dist-info"))}
    for name in (
        "py.typed",
        "configs/drifting_cartpole.yaml",
        "agents/a2c.py",
        "envs/schedules/base.py",
        "cli/main.py",
        "studies/__init__.py",
    ):
        assert f"rl_rms/{name}" in names


def test_the_wheel_trains_outside_the_clone(wheel, tmp_path):
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    site = environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel, cwd=tmp_path)
    # The dependencies are those of the tests' own environment; a path file there is not followed from here, so
    # that an editable install of this clone stays out of sight.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    run(python, "-c", SMOKE.format(site=str(site)), cwd=tmp_path)
