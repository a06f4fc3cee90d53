"""CSV files as streams: what they may look like, and that no row is lost without a word."""

import io
import os
import subprocess
import sys
import threading
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_files import NAN, files

from rtrl import tables, tasks


def read(text, target: Any = -1, **options):
    """All x, all y and the problems of a text."""
    stream = tables.read(io.StringIO(text, newline=""), target, hold=False, **options)
    given = list(stream)
    assert (stream.rows, stream.skipped) == (len(given), len(stream.problems))
    xs = [x.tolist() for x, *_ in given]
    ys = [None if y is None else y.tolist() for _, y, *_ in given]
    return xs, ys, stream


def names(table):
    return [column.name for column in table.columns]


def xs_of(text, target: Any = -1, **options):
    xs, _, stream = read(text, target, **options)
    assert not stream.problems
    return xs


def same(a, b):
    np.testing.assert_array_equal(np.array(a, float), np.array(b, float))


# One shape of text a row; every one holds the rows (1.5, 2) and (3, -4).
LAYOUTS = {
    "comma": "a,b\n1.5,2\n3,-4\n",
    "no end of line": "a,b\n1.5,2\n3,-4",
    "tab and quotes": '1.5\t"2"\n3\t"-4"\n',
    "semicolon": "a;b\n1.5;2\n3;-4\n",
    "decimal comma": "a;b\n1,5;2\n3;-4\n",
    "decimal comma without a header": "1,5;2,0\n3,0;-4,0\n",
    "tab": "a\tb\n1.5\t2\n3\t-4\n",
    "bar": "a|b\n1.5|2\n3|-4\n",
    "space": "a b\n1.5 2\n3 -4\n",
    "spaces": "  a    b\n1.5   2  \n  3  -4\n",
    "spaces without a header": "1.5   2  \n  3  -4\n",
    "comma and space": "a, b\n1.5, 2\n3, -4\n",
    "no header": "1.5,2\n3,-4\n",
    "byte order mark": "\ufeffa,b\n1.5,2\n3,-4\n",
    "byte order mark without a header": "\ufeff1.5,2\n3,-4\n",
    "CRLF": "a,b\r\n1.5,2\r\n3,-4\r\n",
    "blank lines": "\n\na,b\n\n1.5,2\n   \n3,-4\n\n\n",
    "quoted": '"a","b"\n"1.5","2"\n3,"-4"\n',
    "separator in a name": '"a, left","b"\n1.5,2\n3,-4\n',
    "new line in a name": '"a\nleft","b"\n1.5,2\n3,-4\n',
    "quote in a name": '"a ""left""","b"\n1.5,2\n3,-4\n',
    "spaces in names": "outside temperature,wind speed\n1.5,2\n3,-4\n",
    "comments": "# a sensor\n# since May, in Bonn\na,b\n1.5,2\n3,-4\n",
    "names in a comment": "# a,b\n1.5,2\n3,-4\n",
    "exponents and signs": "a,b\n+15e-1,2.\n.3E1,-4e0\n",
    "date": "day,a,b\n2020-01-01,1.5,2\n2020-01-02,3,-4\n",
    "date and time": "x;a;b\n2020-01-01 10:00;1,5;2\n2020-01-01 10:01;3;-4\n",
    "date without a header": "2020-01-01T10:00:00Z,1.5,2\n2020-01-01T10:00:01Z,3,-4\n",
    "time by name": "Timestamp,a,b\n1577836800,1.5,2\n1577836801,3,-4\n",
    "date and time split by spaces": "1/5/2020 10:00 1.5 2\n1/5/2020 10:01 3 -4\n",
    "row names": ",a,b\nr1,1.5,2\nr2,3,-4\n",
    "separators at the end": "a,b,\n1.5,2,\n3,-4,\n",
}


@pytest.mark.core
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_recognised(layout):
    target = -2 if layout == "separators at the end" else -1
    assert xs_of(LAYOUTS[layout], target) == [[1.5, 2], [3, -4]]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " "])
def test_the_separator_found_is_told(separator):
    lines = [separator.join(row) + "\n" for row in (("a", "b"), ("1", "2"))]
    assert tables.read(lines, "a").separator == separator


@pytest.mark.parametrize(
    "gap", ["", " ", '""', "NA", "N/A", "nan", "NaN", "NULL", "null", "?", "-"]
)
def test_gaps_are_missing_values(gap):
    xs, ys, stream = read(f"a,b\n1,2\n{gap},3\n4,{gap}\n")
    assert not stream.problems
    same(xs, [[1, 2], [NAN, 3], [4, NAN]])
    assert ys[0] is None and ys[1] == [3]
    same(ys[2], [NAN])
    # In the first row too, with and without a header, where a # could be taken for a comment.
    same(xs_of(f"{gap},3\n1,2\n"), [[NAN, 3], [1, 2]])
    same(xs_of("#N/A,3\n1,2\n"), [[NAN, 3], [1, 2]])


def test_other_gaps_can_be_named():
    same(xs_of("a,b\n-999,2\nno data,4\n", missing=["-999", "No data"]), [[NAN, 2], [NAN, 4]])


def test_a_row_may_be_missing_altogether():
    for separator in ",;|\t":
        rows = "a,b\n1,2\n,\n3,4\n".replace(",", separator)
        same(xs_of(rows), [[1, 2], [NAN, NAN], [3, 4]])
        same(xs_of(f"{separator}2\n3{separator}4\n"), [[NAN, 2], [3, 4]])


def test_one_column_has_blank_lines_left_out():
    xs, ys, stream = read("speed of wind\n1\n\n2\n3\n", 0, horizon=2)
    assert names(stream) == ["speed of wind"]
    assert xs == [[1], [2], [3]] and ys == [None, None, [1 + 2]]


@pytest.mark.parametrize("target", ["b", 1, -2, "1", "-2", " b "])
def test_a_column_is_a_name_or_a_number(target):
    xs, ys, stream = read("a,b,c\n1,2,3\n4,5,6\n", target)
    assert xs == [[1, 2, 3], [4, 5, 6]] and ys == [None, [5]]
    assert (stream.features, stream.targets) == (["a", "b", "c"], ["b"])
    assert [c.role for c in stream.columns] == ["feature", "both", "feature"]


def test_horizon_zero_is_the_target_of_the_same_row():
    xs, ys, stream = read("a,b,c\n1,2,3\n4,5,6\n", ["c", "a"], horizon=0)
    assert xs == [[2], [5]] and ys == [[3, 1], [6, 4]]
    assert (stream.in_size, stream.out_size) == (1, 2)


def test_inputs_in_the_order_asked_for():
    xs, _, stream = read("t,a,b,c\nx,1,2,3\ny,4,5,6\n", "a", features=["c", 1])
    assert xs == [[3, 1], [6, 4]]
    assert [c.name for c in stream.columns if c.role == "out"] == ["t", "b"]


def test_time_as_an_input_counts_from_the_first_row():
    iso = "when,a\n2020-01-01 10:00:00.5,1\n2020-01-01 10:01:00,2\n,3\nsoon,4\n"
    xs, _, stream = read(iso, "a", features=["when", "a"])
    same(xs, [[0, 1], [59.5, 2], [NAN, 3]])
    assert [p.line for p in stream.problems] == [5]
    assert "a time as '2020-01-01 10:00:00.5' in 'when', got 'soon'" in stream.problems[0].reason
    assert xs_of("time,a\n100,1\n102.5,2\n", "a", features=["time", "a"]) == [[0, 1], [2.5, 2]]
    assert xs_of("time,a\n100,1\n102.5,2\n", "a", features=["a", "time"]) == [[1, 0], [2, 2.5]]
    assert xs_of("a,t\n1,100\n2,102.5\n", "a", time="t") == [[1], [2]]
    assert xs_of("time,a\n5,1\n7,2\n", "time") == [[5, 1], [7, 2]]  # a target is no mere time


def test_decimal_marks():
    assert xs_of('"1,5","2,5"\n', decimal=",") == [[1.5, 2.5]]
    assert [p.line for p in read("a;b\n1,5;2\n1.5;2\n", decimal=".")[2].problems] == [2]
    assert xs_of("a;b\n1.234,5;2\n1,5;2\n") == [[1234.5, 2], [1.5, 2]]
    assert [p.line for p in read('a,b\n"1,5",2\n1.5,2\n')[2].problems] == [2]


@pytest.mark.core
@pytest.mark.parametrize(
    "row, reason",
    [
        ("1", "expected 3 fields, got 1"),
        ("1,2", "expected 3 fields, got 2"),
        ("1,2,3,", "expected 3 fields, got 4"),
        ("1,2,3,4", "expected 3 fields, got 4"),
        ("1,x,3", "expected a number in 'b', got 'x'"),
        ("a,b,c", "expected a number in 'a', got 'a'"),
        ("1,2,3 kg", "expected a number in 'c', got '3 kg'"),
        ("1,1_000,3", "got '1_000'"),
        ("1,inf,3", "got 'inf'"),
        ("1,1e999,3", "got '1e999'"),
        ("1,\u0663,3", "expected a number in 'b'"),
        ("1,2020-01-01,3", "got '2020-01-01'"),
        ("# 1,2,3", "expected a number in 'a'"),
        ('1,"2"x,3', "text after a closing quote"),
        ('1,"2,3', "a quote that is not closed"),
        ('"1,2,3', "a quote that is not closed"),
        ('1,2,"', "a quote that is not closed"),
        ("1,2\0,3", "b"),
        ("1," + "9" * 200_000 + ",3", "expected a number in 'b'"),
    ],
)
def test_a_malformed_row_is_reported_with_its_line(row, reason):
    seen = []
    text = f"a,b,c\n1,2,3\n\n{row}\n4,5,6\n7,8,9\n"
    xs, ys, stream = read(text, "c", on_problem=seen.append)
    assert xs == [[1, 2, 3], [4, 5, 6], [7, 8, 9]] and ys == [None, [6], [9]]
    (problem,) = stream.problems
    assert problem == seen[0]
    assert problem.line == 4 and reason in problem.reason and len(problem.text) <= 80
    assert str(problem).startswith("line 4: ")


@pytest.mark.parametrize("row", ["1", "x,1,2", '1,"2,3'])
@pytest.mark.parametrize("end", ["\n", ""])
def test_the_first_and_the_last_row_are_reported_too(row, end):
    kinds = dict.fromkeys("abc", "number")
    xs, _, stream = read(f"a,b,c\n{row}\n1,2,3\n{row}{end}", kinds=kinds)
    assert xs == [[1, 2, 3]] and [p.line for p in stream.problems] == [2, 4]


def test_an_open_quote_does_not_swallow_rows():
    # By the letter, a field that begins in line 3 ends in line 6.
    text = 'a,b,note\n1,2,x\n3,4,"y\n5,6,z\n7,8,z\n9,0,y"\n1,1,x\n'
    xs, _, stream = read(text, "b", features=["a", "b"])
    assert xs == [[1, 2], [5, 6], [7, 8], [9, 0], [1, 1]]
    assert [p.line for p in stream.problems] == [3]
    many = "\n".join(f"{i},0,q" for i in range(100))
    kinds = {"a": "number"}
    xs, _, stream = read(f'a,b,note\n1,2,"x\n{many}\n', "b", features=["a", "b"], kinds=kinds)
    assert [x[0] for x in xs] == list(range(100))
    assert [p.line for p in stream.problems] == [2]


def test_lines_within_quotes_do_not_tell_the_separator():
    rows = "".join(f'{i};{-i};"so, so\nlight, then dark\nno, not yet"\n' for i in (3, 1, 2))
    xs, _, stream = read("a;b;note\n" + rows, "a", features=["a", "b"])
    assert xs == [[3, -3], [1, -1], [2, -2]] and not stream.problems and not stream.notes
    assert xs_of('a\tb\tnote\n\n1\t2\t"\t\n"\n', "a", features=["a", "b"]) == [[1, 2]]
    xs, _, stream = read(f'"Bonn\nby hand"\n\na;b;note\n{2 * rows}', "a", features=["a", "b"])
    assert xs == 2 * [[3, -3], [1, -1], [2, -2]] and not stream.problems
    assert stream.notes == ["passed over what stands above the table (line 1, 2)"]


def test_quoted_lines_are_counted():
    text = 'a,note\n1,"one\r\ntwo\n\nthree"\nx,1\n2,"\n"\n3\n4,5\n'
    xs, _, stream = read(text, "a", features=["a"])
    assert xs == [[1], [2], [4]]
    assert [p.line for p in stream.problems] == [6, 9]
    assert stream.line == 10


def test_skipped_rows_do_not_count_for_the_horizon():
    xs, ys, _ = read("1\n2\nx\n3\n\n4\n", 0, horizon=2)
    assert xs == [[1], [2], [3], [4]] and ys == [None, None, [3], [4]]


def test_arrays_are_the_whole_stream():
    text = "a,b\n" + "".join(f"{i},{i * i}\nx,y\n" for i in range(20))
    kinds = {"a": "number", "b": "number"}  # and not one that counts the rows
    stream = tables.read(io.StringIO(text), "b", horizon=3, kinds=kinds).arrays()
    assert isinstance(stream, tasks.Stream)
    assert stream.xs.shape == (17, 2) and stream.ys.shape == (17, 1)
    np.testing.assert_array_equal(stream.ys[:, 0], (stream.xs[:, 0] + 3) ** 2)
    column = tables.read(["1", "2", "3", "4"], 0, horizon=1).arrays()
    np.testing.assert_array_equal(column.series(1), [1, 2, 3, 4])
    with pytest.raises(
        ValueError, match=r"more than 3 rows, got .1 rows, 1 left out \(first line 2"
    ):
        tables.read(["1", "x"], 0, horizon=3).arrays()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_files_of_several_encodings(tmp_path, encoding):
    path = tmp_path / "data.csv"
    path.write_bytes("Stra\u00dfe,b\r\n1,2\r\n\u00df,3\r\n4,5\r\n".encode(encoding))
    for source in (path, str(path)):
        with tables.read(source, "b") as stream:
            assert [x.tolist() for x, *_ in stream] == [[1, 2], [4, 5]]
            assert [p.line for p in stream.problems] == [3]
            assert names(stream)[0] == "Stra\u00dfe"
    unfinished = tables.read(path, "b")
    next(unfinished)
    unfinished.close()
    assert list(unfinished) == []
    next(tables.read(path, "b"))  # and one that is not closed gives no warning


def test_only_so_many_problems_are_kept():
    seen = []
    stream = tables.read(
        (f"{i},x" if i else "a,b" for i in range(10_100)),
        "a",
        kinds={"b": "number"},
        look=1,
        on_problem=seen.append,
    )
    assert list(stream) == []
    assert len(stream.problems) == 10_000 and stream.skipped == len(seen) == 10_099


def test_standard_input_gives_a_row_as_it_arrives():
    program = (
        "from rtrl import tables\n"
        "for row in tables.read('-', 'b'): print(row.x.tolist(), flush=True)\n"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, bufsize=1) as process:
        assert process.stdin and process.stdout
        guard = threading.Timer(60, process.kill)
        guard.start()
        process.stdin.write("a,b\n1,2\n")
        for i in range(3):
            assert process.stdout.readline() == f"[{i + 1}.0, 2.0]\n"
            process.stdin.write(f"oops\n{i + 2},2\n")
        process.stdin.close()
        assert process.stdout.read() == "[4.0, 2.0]\n"
        guard.cancel()
    assert process.returncode == 0


def test_no_row_waits_for_the_next_one():
    asked = []

    def lines():
        for i in range(5):
            asked.append(i)
            yield f"{i},{i}\n"

    stream = tables.read(lines(), 1, look=1)
    for i in range(5):
        assert next(stream)[0].tolist() == [i, i]
        assert asked[-1] == i


def check_nothing_is_lost(file):
    text = io.StringIO(file.text, newline="")
    if not file.good:
        with pytest.raises(ValueError, match="source: .* that fit their columns, got"):
            tables.read(text, 0, horizon=0, **file.options)
        return
    stream = tables.read(text, 0, horizon=0, hold=False, **file.options)
    rows = [(stream.line, x) for x, *_ in stream]
    assert [line for line, _ in rows] == [line for line, _ in file.good]
    assert [p.line for p in stream.problems] == file.bad
    assert stream.rows + stream.skipped == len(file.good) + len(file.bad)
    if rows:
        expected = np.array([values for _, values in file.good])
        np.testing.assert_array_equal(np.array([x for _, x in rows]), expected)


fuzz = partial(settings, deadline=None, derandomize=True)


@pytest.mark.core
@fuzz(max_examples=100)
@given(files())
def test_rows_in_are_rows_out_and_rows_reported(file):
    check_nothing_is_lost(file)


@pytest.mark.slow
@fuzz(max_examples=1000)
@given(files())
def test_rows_in_are_rows_out_and_rows_reported_at_length(file):
    check_nothing_is_lost(file)


SOUP = st.text('01.,;|\t"x-# \n\r\ufeff', max_size=60)


@fuzz(max_examples=1000)
@given(st.one_of(SOUP, st.text(max_size=60)))
def test_any_text_can_be_read(text):
    """Line by line: nothing but a file with no data or header is refused, no line is lost."""
    try:
        stream = tables.read(io.StringIO(text, newline=""), 0, horizon=0, features=[0])
    except ValueError as error:
        assert str(error).startswith(("source: ", "target: ", "features: "))
        return
    lines = [stream.line for _ in stream] + [p.line for p in stream.problems]
    assert len(set(lines)) == len(lines)
    numbered = list(enumerate(io.StringIO(text.removeprefix("\ufeff"), newline=""), 1))
    full = [n for n, line in numbered if line.strip()]
    tabs = [n for n, line in numbered if "\t" in line and not line.strip()]  # blank, or missing
    assert set(lines) <= {*full, *tabs}
    above = any(line.startswith(("#", "sep=")) for _, line in numbered) or stream.notes
    if '"' not in text and not above:
        assert len(set(full) - set(lines)) <= 1  # the header


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: tables.read([], "a"), "source: .*a header or a row of numbers, got 'nothing'"),
        (lambda: tables.read(['"a'], "a"), "source: .*nothing but 1 unreadable rows"),
        (lambda: tables.read(["a,b"], "c"), r"target: .*a column of \['a', 'b'\].*got 'c'"),
        (lambda: tables.read(["a,b"], 2), "target: .*got 2"),
        (lambda: tables.read(["a,b"], -3), "target: .*got -3"),
        (lambda: tables.read(["a,b"], True), "target: .*got True"),
        (
            lambda: tables.read(["a,a"], "a"),
            "target: .*0 or 1, the numbers of the columns.*got 'a'",
        ),
        (lambda: tables.read(["a,b"], []), "target: .*one or more different columns"),
        (lambda: tables.read(["a,b"], ["a", 0]), "target: .*different columns"),
        (lambda: tables.read(["1,2"], "b"), "target: .*column 0.*got 'b'"),
        (lambda: tables.read(["a,b"], "a", features=["z"]), "features: .*got 'z'"),
        (lambda: tables.read(["a,b"], "a", time="z"), "time: .*got 'z'"),
        (lambda: tables.read(["a"], "a", horizon=0), "features: .*besides the time and the target"),
        (lambda: tables.read(["a,b"], "a", horizon=-1), "horizon: .*at least 0 .*got -1"),
        (lambda: tables.read(["a,b"], "a", separator=";;"), "separator: .*one character"),
        (lambda: tables.read(["a,b"], "a", decimal="x"), "decimal: .*got 'x'"),
        (lambda: tables.read(["a,b"], "a", header="no"), "header: .*got 'no'"),  # type: ignore[arg-type]
        (lambda: tables.read(3, "a"), "source: .*a path"),  # type: ignore[arg-type]
        (lambda: tables.read({"a": 1}, "a"), "source: .*a path"),
        (lambda: tables.read(b"a,b", "a"), "source: .*a path"),
        (lambda: tables.read([1, 2], 0), "source: .*lines of text, got 1"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        tables.read(tmp_path / "no.csv", "a")


def test_rows_that_are_there_are_given_without_waiting_for_more():
    """Also: a malformed line that is there makes no row behind it be waited for."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb", buffering=0) as pipe:
        pipe.write(b"a,b\n1,2\n3,4\n")
        table = tables.read(source, "a", look=1)
        assert next(table).x[0] == 1 and table.next_ready().x[0] == 3  # type: ignore
        assert table.next_ready() is None
        pipe.write(b"oops\n")
        assert table.next_ready() is None and table.skipped == 1
        pipe.write(b"5,6\n7")
        assert table.next_ready().x[0] == 5  # type: ignore
        assert table.next_ready() is None
        pipe.write(b",8\n")
        assert next(table).x[0] == 7
