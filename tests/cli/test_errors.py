import sys

import pytest

from rl_rms.cli.errors import UserError, require, suggestion
from tests.naming import mentions, naming


def test_suggestion_of_a_close_word_names_it():
    assert mentions(suggestion("trian", ["train", "plot"]), "train")


@pytest.mark.parametrize(("word", "known"), [("zzz", ["train", "plot"]), ("train", [])])
def test_suggestion_without_a_close_word_is_empty(word, known):
    assert suggestion(word, known) == ""


def test_require_without_a_module_names_the_need_the_module_and_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rliable", None)
    with pytest.raises(UserError, match=naming("studies", "rliable", "pip install 'rl_rms[plots]'")):
        require("plots", "studies need intervals", "json", "rliable")


def test_require_of_installed_modules_passes():
    require("plots", "studies need intervals", "json")
