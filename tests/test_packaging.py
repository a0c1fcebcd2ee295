"""What a user gets: the wheel, built from the sdist, in an environment of its own outside this folder."""

import os
import subprocess
import sys
import sysconfig
import tarfile
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


def run(*words, cwd, **settings):
    environment = os.environ | settings
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def copy_sources(to):
    """Only what is committed or about to be, so that no leftover of an earlier build slips into this one."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if files.returncode != 0:
        pytest.skip("the sources are not in a git repository")
    for name in filter(None, files.stdout.split("\0")):
        copy = to / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            copy.symlink_to((ROOT / name).readlink())
        elif (ROOT / name).is_file():
            copy.write_bytes((ROOT / name).read_bytes())


def build(source, to, **settings):
    """The sdist and the wheel: with neither --sdist nor --wheel, build makes the wheel from the sdist."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", to, source, cwd=source.parent, **settings)
    (sdist,), (wheel,) = to.glob("*.tar.gz"), to.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    base = tmp_path_factory.mktemp("dist")
    copy_sources(base / "source")
    return build(base / "source", base, SOURCE_DATE_EPOCH="1700000000")


@pytest.fixture(scope="module")
def wheel(archives):
    return archives[1]


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


def test_the_same_sources_give_the_same_archives(archives, tmp_path):
    """Somebody else's folder, umask, clock, time zone and order of hashing change no byte."""
    source = tmp_path / "somebody's" / "clone"
    before = os.umask(0o077)
    try:
        copy_sources(source)
        for path in source.rglob("*.py"):
            os.utime(path, (1_500_000_000, 1_500_000_000))
        again = build(
            source, tmp_path, SOURCE_DATE_EPOCH="1700000000", TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="3"
        )
    finally:
        os.umask(before)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in archives]


def test_an_sdist_tells_nothing_of_who_built_it(archives):
    with tarfile.open(archives[0]) as archive:
        members = archive.getmembers()
    assert {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in members} == {
        (0, 0, "", "", 1_700_000_000)
    }
    assert {one.mode for one in members} <= {0o644, 0o755}
