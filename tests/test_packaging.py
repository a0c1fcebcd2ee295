"""Each way of installing the package installs all modules. The installed package trains outside the clone."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import rl_rms

pytestmark = pytest.mark.slow

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


def committed():
    """Names of the tracked files that exist, so without leftovers of an earlier build."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if files.returncode != 0:
        pytest.skip("the sources are not in a git repository")
    return [name for name in files.stdout.split("\0") if name and os.path.lexists(ROOT / name)]


def copy_sources(to):
    """Copy the sources with links as text files, as in a zip archive or with ``core.symlinks=false``."""
    for name in committed():
        copy = to / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            copy.write_text(str((ROOT / name).readlink()))
        else:
            copy.write_bytes((ROOT / name).read_bytes())


def zip_sources(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name in committed():
            source = ROOT / name
            archive.writestr(name, str(source.readlink()) if source.is_symlink() else source.read_bytes())


def new_environment(folder):
    """A virtual environment with the dependencies of this one, without an editable install of this clone."""
    venv.create(folder, with_pip=False)
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    # The new environment does not process the .pth files in the folders of the dependencies.
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return folder / "bin" / "python", site


def modules_in(folder):
    return {path.relative_to(folder).as_posix() for path in (folder / "rl_rms").rglob("*.py")}


def build(source, to, **settings):
    """The sdist and the wheel. Without --sdist and --wheel, build makes the wheel from the sdist."""
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


def test_citation_names_the_version():
    assert f"\nversion: {rl_rms.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_wheel_has_one_package_and_its_configurations(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        top_level = archive.read(next(name for name in names if name.endswith("top_level.txt"))).decode().split()
    assert top_level == ["rl_rms"]
    packages = {name.split("/")[0] for name in names}
    assert packages == {"rl_rms", next(name for name in packages if name.endswith(".dist-info"))}
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rl_rms" / "configs").rglob("*.yaml")}
    assert configs <= set(names)
    for name in (
        "py.typed",
        "agents/a2c.py",
        "envs/schedules/base.py",
        "cli/main.py",
        "studies/__init__.py",
    ):
        assert f"rl_rms/{name}" in names


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """A clone from a zip archive, with text files instead of links."""
    base = tmp_path_factory.mktemp("zip")
    zip_sources(base / "source.zip")
    with zipfile.ZipFile(base / "source.zip") as archive:
        archive.extractall(base / "source")
    return base / "source"


def test_checkout_without_links_has_text_files(unpacked):
    assert (unpacked / "agents").read_text() == "rl_rms/agents"


@pytest.mark.parametrize("way", ["wheel", "sdist", "zip", "editable"])
def test_install_without_links_has_every_module_and_trains(way, archives, unpacked, tmp_path):
    python, site = new_environment(tmp_path / "venv")
    source = {"wheel": archives[1], "sdist": archives[0]}.get(way, unpacked)
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    if way == "editable":
        # Without --ignore-installed, pip uninstalls the package from the environment that runs the tests.
        words.append("--ignore-installed")
        run(sys.executable, *words, "--prefix", tmp_path / "venv", "--editable", source, cwd=tmp_path)
        run(sys.executable, "-c", "import rl_rms", cwd=tmp_path)
        home = unpacked
    else:
        run(sys.executable, *words, "--target", site, source, cwd=tmp_path)
        home = site
    assert modules_in(home) == modules_in(ROOT)
    run(python, "-c", SMOKE.format(site=str(home)), cwd=tmp_path)


@pytest.mark.parametrize("name", ["agents", "envs", "configs"])
def test_links_at_the_root_point_into_the_package(name):
    assert (ROOT / name).is_symlink()
    assert (ROOT / name).resolve() == ROOT / "rl_rms" / name


@pytest.mark.parametrize("name", ["agents", "envs", "configs"])
def test_import_through_a_root_link_raises_import_error(name):
    code = f"import {name}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"rl_rms.{name}" in done.stderr.splitlines()[-1]


def test_build_of_the_same_sources_gives_the_same_bytes(archives, tmp_path):
    """Builds in another folder, with other file times and another umask, time zone, locale and hash seed."""
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


def test_sdist_has_no_trace_of_its_builder(archives):
    with tarfile.open(archives[0]) as archive:
        members = archive.getmembers()
    assert {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in members} == {
        (0, 0, "", "", 1_700_000_000)
    }
    assert {one.mode for one in members} <= {0o644, 0o755}
