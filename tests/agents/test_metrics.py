import pytest

from rl_rms.agents.metrics import STEP, read_metrics

WHOLE = f"{STEP},a,b\n100,1.0,2.0\n200,,4.0\n300,5.0,6.0\n"
ROWS = [
    {STEP: "100", "a": "1.0", "b": "2.0"},
    {STEP: "200", "a": "", "b": "4.0"},
    {STEP: "300", "a": "5.0", "b": "6.0"},
]


def read(tmp_path, content):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_metrics(path)


def test_read_metrics_of_a_whole_file_returns_all_rows(tmp_path):
    metrics = read(tmp_path, WHOLE)
    assert (metrics.columns, metrics.rows, metrics.problems) == ([STEP, "a", "b"], ROWS, [])
    assert read_metrics(tmp_path / "none.csv").rows == []
    assert read(tmp_path, "").rows == []


@pytest.mark.parametrize(
    "damaged",
    [
        "\0" * 64,
        "200,4.0",
        "200,,4.0,5.0",
        "word,,4.0",
        "nan,,4.0",
        ",,4.0",
        "\x00\x00\x00",
        "",
    ],
)
def test_read_metrics_of_a_damaged_row_names_it_and_returns_the_others(tmp_path, damaged):
    metrics = read(tmp_path, WHOLE.replace("200,,4.0", damaged))
    assert metrics.rows == [ROWS[0], ROWS[2]]
    (problem,) = metrics.problems
    assert "metrics.csv, line 3" in problem


def test_read_metrics_of_a_bad_cell_names_it_and_returns_the_rest_of_the_row(tmp_path):
    metrics = read(tmp_path, WHOLE.replace("200,,4.0", "200,,4.0.0").encode() + b"400,\xff\xfe,inf\n")
    assert metrics.rows[1] == {STEP: "200", "a": "", "b": ""}
    assert metrics.rows[3] == {STEP: "400", "a": "", "b": "inf"}
    assert [problem.split(": ")[1].split()[0] for problem in metrics.problems] == ["b", "a"]


@pytest.mark.parametrize("header", ["a,b,c", "\0\0\0", f"{STEP},a,a"])
def test_read_metrics_of_a_damaged_header_returns_no_rows_and_names_it(tmp_path, header):
    metrics = read(tmp_path, WHOLE.replace(f"{STEP},a,b", header))
    assert (metrics.columns, metrics.rows) == ([], [])
    assert "line 1" in metrics.problems[0]
