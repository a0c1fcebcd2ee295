import numpy as np
import pytest

from rl_rms.studies.forgetting import CHANGES, REFERENCE, cells, effects, gain, schedules, summary, table, training
from rl_rms.studies.frame import Results

OFFSETS, SCALE = CHANGES


def results(*lengths):
    """Results of four seeds for each change in three settings.

    The settings are the reference, normalized observations that forget at jumps, and normalized rewards with a
    half-life.
    """
    settings = [REFERENCE, {**REFERENCE, "observations": "jumps"}, {**REFERENCE, "rewards": "5_000 steps"}]
    found = [{"changes": changes, **one} for changes in (OFFSETS, SCALE) for one in settings]
    return Results(
        range(4), found, [{"length": np.array(values, dtype=float)} for values in lengths[: len(found)]]
    )


@pytest.fixture
def measured():
    pytest.importorskip("rliable")
    return results(
        [10, 20, 30, 40], [15, 25, 35, 45], [9, 18, 29, 38], [50, 60, 70, 80], [50, 60, 70, 80], [50, 61, 69, 80]
    )


def test_cells_of_the_full_study_change_one_statistic_at_a_time():
    full = cells(quick=False)
    assert len(full) == len({tuple(cell.items()) for cell in full}) == 24
    for cell in full:
        assert sum(cell[name] != setting for name, setting in REFERENCE.items()) <= 1


def test_schedules_of_jumps_are_constant_within_a_regime_only():
    schedule = schedules(SCALE, 1_000)["reward.scale"]
    values = [schedule.value(step, np.random.default_rng(0)) for step in (0, 999, 1_000, 1_999, 2_000)]
    assert values == [100.0, 100.0, 1.0, 1.0, 100.0]
    assert list(schedules(OFFSETS, 1_000)) == ["observation.offset"]


@pytest.mark.parametrize(
    ("statistic", "setting"),
    [("observations", "none"), ("observations", "2_000 steps"), ("rewards", "none"), ("RMSprop", "20 updates")],
)
def test_training_with_another_half_life_has_another_episode_length(statistic, setting):
    reference = training(0, SCALE, num_steps=2_048, **REFERENCE)["length"]
    assert training(0, SCALE, num_steps=2_048, **{**REFERENCE, statistic: setting})["length"] != reference
    assert training(0, SCALE, num_steps=2_048, **REFERENCE)["length"] == reference > 8


def test_gain_is_the_interquartile_mean_of_differences_of_each_seed(measured):
    assert gain(measured, OFFSETS, "observations", "jumps").middle == 5.0
    assert gain(measured, OFFSETS, "rewards", "5_000 steps").middle == -1.5
    assert gain(measured, SCALE, "observations", "jumps") == (0.0, 0.0, 0.0)


def test_effects_are_the_changes_whose_interval_excludes_zero(measured):
    assert effects(measured, "observations", "jumps") == ([OFFSETS], [])
    assert effects(measured, "rewards", "5_000 steps") == ([], [OFFSETS])


def test_summary_has_the_helpful_memory_and_the_harmful_one(measured):
    sentence, helpful = summary(measured)
    assert len(helpful) == 1
    assert "observations" in helpful[0]
    assert OFFSETS in helpful[0]
    longer, shorter = sentence.split("shorter")
    assert helpful[0] in longer
    assert "rewards" not in longer
    assert "rewards" in shorter


def test_table_has_a_row_for_each_memory_and_no_gain_of_the_reference(measured):
    rows = table(measured).rows
    assert [row[0] for row in rows] == [
        "observations: never forget",
        "observations: forget at jumps",
        "rewards: never forget",
        "rewards: 5,000 steps",
        "RMSprop: 200 updates",
    ]
    assert rows[0][1:] == ["25", "", "65", ""]
    assert rows[1][1] == "30"
