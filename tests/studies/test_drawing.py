from matplotlib.figure import Figure

from rl_rms.studies.drawing import draw_band, draw_estimates
from rl_rms.studies.intervals import Estimate

ESTIMATES = [Estimate(2.0, 1.0, 4.0), Estimate(3.0, 3.0, 5.0)]


def test_draw_band_of_estimates_fills_their_intervals():
    axis = Figure().subplots()
    draw_band(axis, [10, 20], ESTIMATES, color="#0072B2")
    assert axis.lines[0].get_xydata().tolist() == [[10, 2], [20, 3]]
    corners = {tuple(corner) for corner in axis.collections[0].get_paths()[0].vertices.tolist()}
    assert corners == {(10, 1), (10, 4), (20, 3), (20, 5)}


def test_draw_estimates_reaches_the_ends_of_the_intervals():
    axis = Figure().subplots()
    draw_estimates(axis, [10, 20], ESTIMATES)
    (bars,) = axis.containers
    assert [segment.tolist() for segment in bars.lines[2][0].get_segments()] == [
        [[10, 1], [10, 4]],
        [[20, 3], [20, 5]],
    ]
