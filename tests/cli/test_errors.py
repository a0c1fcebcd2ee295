import sys

import pytest

from rl_rms.cli.errors import UserError, require_plots, suggestion
from tests.naming import mentions, naming


def test_suggestion_of_a_close_word_names_it():
    assert mentions(suggestion("trian", ["train", "plot"]), "train")


@pytest.mark.parametrize(("word", "known"), [("zzz", ["train", "plot"]), ("train", [])])
def test_suggestion_without_a_close_word_is_empty(word, known):
    assert suggestion(word, known) == ""


def test_require_plots_without_the_extra_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rliable", None)
    with pytest.raises(UserError, match=naming("Studies", "rliable", "pip install 'rl_rms[plots]'")):
        require_plots("Studies")
