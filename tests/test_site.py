"""The documentation site: it builds strictly, has everything public, and asks nothing of other hosts."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PUBLIC = ("rl_rms", "rl_rms.envs", "rl_rms.envs.schedules", "rl_rms.envs.curricula", "rl_rms.agents")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def anchors(site):
    return {name for page in site.rglob("*.html") for name in re.findall(r'id="([\w.]+)"', page.read_text())}


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_is_in_the_reference(anchors, name):
    module = importlib.import_module(name)
    missing = []
    for public in module.__all__:
        thing = getattr(module, public)
        home = getattr(thing, "__module__", None)
        is_defined_here = isinstance(home, str) and home.startswith("rl_rms") and hasattr(thing, "__qualname__")
        if is_defined_here and not {f"{home}.{thing.__qualname__}", f"{name}.{public}"} & anchors:
            missing.append(public)
    assert not missing


def test_the_reference_has_methods_with_their_arguments(site):
    page = (site / "api" / "agents.html").read_text()
    assert 'id="rl_rms.agents.base.OnPolicyAgent.learn"' in page
    assert "Env steps, all sub-environments together" in page


def test_nothing_is_loaded_from_other_hosts(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]+src="(https?:[^"]+)"', page.read_text())
        loaded += re.findall(
            r'<link[^>]+rel="(?:stylesheet|preconnect|icon)"[^>]+href="(https?:[^"]+)"', page.read_text()
        )
        assert not loaded, page


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page not in navigation] == []
