import warnings

import pytest

from rl_rms.envs.notices import Notices


def test_give_of_one_message_twice_warns_once_with_any_filters():
    notices = Notices()
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        for message in ("one", "one", "two", "one"):
            notices.give(message)
    assert [str(one.message) for one in given] == ["one", "two"]


def test_give_of_another_object_warns_again():
    for _ in range(2):
        with pytest.warns(UserWarning, match="one"):
            Notices().give("one")
