"""What a table decides and says, the clock of its rows, rows that are objects, and live sources."""

import gc
import gzip
import io
import json
import os
import threading
from datetime import datetime, timedelta

import numpy as np
import pytest
from odd_files import HOURS, ODD, ROWS, SKY, TEMPS

from rtrl import tables

NAN = float("nan")


def hours(missing: set[int], count: int = 80) -> list[str]:
    """A row an hour, but for those missing; the value is the hour."""
    start = datetime(2024, 3, 1)
    rows = [f"{start + timedelta(hours=t)},{t}.5" for t in range(count) if t not in missing]
    return ["time,v", *rows]


def test_a_gap_is_filled_held_or_begins_anew():
    lines = hours({60, 61, 62})
    held = list(tables.read(lines, "v", gaps="hold", horizon=2))
    assert [row.x[0] for row in held] == [t + 0.5 for t in range(80) if t not in (60, 61, 62)]
    assert not any(row.reset for row in held)

    table = tables.read(lines, "v", gaps="fill", horizon=2)
    filled, stands = [], []
    for row in table:
        filled.append(row)
        stands.append(table.filled)
    assert [i for i, f in enumerate(stands) if f] == [60, 61, 62]
    assert (table.rows, table.inserted) == (80, 3)
    expected = [59.5 if 60 <= t < 63 else t + 0.5 for t in range(80)]
    assert [row.x[0] for row in filled] == expected
    ys = np.array([NAN if row.y is None else row.y[0] for row in filled])
    truth = np.where(np.isin(np.arange(80), [0, 1, 60, 61, 62]), NAN, np.arange(80) + 0.5)
    np.testing.assert_array_equal(ys, truth)  # on an even grid, no target crosses the gap wrongly
    (problem,) = table.problems
    assert problem.kept and "a gap: 4 hours" in problem.reason and table.skipped == 0

    anew = list(tables.read(lines, "v", gaps="reset"))
    assert [row.x[0] for row in anew if row.reset] == [63.5]
    with pytest.raises(ValueError, match="gaps: "):
        tables.read(lines, "v", gaps="reset").arrays()


def test_a_long_gap_is_filled_in_part_and_an_uneven_pace_has_none():
    lines = hours(set(range(60, 1060)), 1100)
    assert sum(1 for _ in tables.read(lines, "v")) == 100 + 200
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.exponential(60, 200)) + 1.7e9
    uneven = ["time,v", *(f"{t:.0f},{i}.5" for i, t in enumerate(times))]
    table = tables.read(uneven, "v")
    assert sum(1 for _ in table) == 200 and table.inserted == 0
    assert table.columns[0].note == "at no regular pace"


def test_times_that_do_not_go_on_are_said_and_used():
    lines = hours(set())
    lines[30], lines[31] = lines[31], lines[30]
    lines[50] = lines[49]
    lines[60] = "2024-99-99,59.5"
    lines += ["Mean,39.5"]
    table = tables.read(lines, "v", gaps="hold")
    assert sum(1 for _ in table) == 80
    said = [(p.line, p.reason.split(":")[0]) for p in table.problems if p.kept]
    assert said == [(32, "an earlier time than the row before"),
                    (51, "the same time as the row before"), (61, "no time")]  # fmt: skip
    (left_out,) = (p for p in table.problems if not p.kept)  # no row, and no value to learn
    assert left_out.line == 82 and "got 'Mean'" in left_out.reason
    again = tables.read(hours(set()) + hours(set())[1:], "v", gaps="hold")
    assert sum(1 for _ in again) == 160 and again.remarked == 1  # gone back once


def test_a_value_that_is_missing_is_held_and_its_target_is_not():
    text = ["a,v", *(f"{'' if t % 3 == 1 else t},{'' if t == 5 else t / 8}" for t in range(9))]
    rows = list(tables.read(text, "v", kinds={"a": "number"}))
    assert [row.x[0] for row in rows] == [0, 0, 2, 3, 3, 5, 6, 6, 8]
    y = rows[5].y
    assert rows[5].x[1] == 4 / 8 and y is not None and np.isnan(y).all()
    assert np.isnan(next(tables.read(["a,v", ",1", "2,2"], "v")).x[0])  # nothing known yet


def test_a_counter_that_falls_began_again_and_its_step_is_not_known():
    lines = ["v,n", *(f"{i}.5,{n}" for i, n in enumerate(["10", "12", "", "17", "3", "3", "8"]))]
    table = tables.read(lines, "v", kinds={"n": "counter"}, hold=False)
    np.testing.assert_array_equal([row.x[1] for row in table], [NAN, 2, NAN, 5, NAN, 0, 5])
    held = [row.x[1] for row in tables.read(lines, "v", kinds={"n": "counter"})]
    np.testing.assert_array_equal(held, [NAN, 2, 2, 5, 5, 0, 5])


def test_the_calendar_goes_round_and_comes_where_rows_are_days_apart():
    table = tables.read(ODD["month first"].content.decode().splitlines(), "temp")
    assert table.features[1:] == [
        "weekday sin",
        "weekday cos",
        "day of year sin",
        "day of year cos",
    ]
    assert table.scaled.tolist() == [False, True, True, True, True]
    xs = np.array([row.x for row in table])
    np.testing.assert_allclose(xs[:-7, 1:3], xs[7:, 1:3], atol=1e-9)  # a week
    np.testing.assert_allclose((xs[:, 1:] ** 2).reshape(ROWS, 2, 2).sum(2), 1)
    step = np.arctan2(xs[1, 3], xs[1, 4]) - np.arctan2(xs[0, 3], xs[0, 4])
    assert step == pytest.approx(2 * np.pi / 365.2425)

    hourly = ["when,temp", *(f"{h},{v}" for h, v in zip(HOURS, TEMPS, strict=True))]
    assert tables.read(hourly, "temp").features == ["temp"]
    table = tables.read(hourly, "temp", calendar=True, elapsed=True)
    assert table.features[1:3] == ["hour sin", "hour cos"] and table.features[-1] == "elapsed"
    row = next(table)  # at six in the morning
    np.testing.assert_allclose(row.x[1:3], [1, 0], atol=1e-9)
    assert next(table).x[-1] == pytest.approx(np.log1p(3600)) and table.elapsed == 3600
    with pytest.raises(ValueError, match="calendar: expected a column of times"):
        tables.read(["a,b", "1,2"], "a", calendar=True)


def test_a_rare_event_is_no_spike_and_a_new_value_is_other():
    lines = ["v,event,sky", *(f"{t}.5,{int(t % 50 == 7)},{SKY[t % 30]}" for t in range(1200))]
    table = tables.read([*lines, "3.5,0,hail", "3.5,0,hail"], "v")
    assert table.features == ["v", "event", "sky=rain", "sky=snow", "sky=sun"]
    assert table.scaled.tolist() == [False, True, True, True, True]
    xs = np.array([row.x for row in table])
    assert set(np.unique(xs[:, 1:])) == {0.0, 1.0}
    np.testing.assert_array_equal(xs[-1], [3.5, 0, 0, 0, 0])
    assert table.others() == {"sky": {"hail": 2}}


def test_a_class_at_the_users_word_has_room_for_values_to_come():
    lines = iter(["v,sky", "1,sun", "2,rain", "3,sun"])
    table = tables.read(lines, "v", kinds={"sky": "class"}, look=1)
    assert table.features[1:3] == ["sky=sun", "sky=#2"]
    rows = [row.x.tolist() for row in table]
    assert [row[1:3] for row in rows] == [[1, 0], [0, 1], [1, 0]]


def test_what_the_user_says_overrules():
    lines = ["t;v;w", *(f"{t};1,{t:03d};{t % 2}" for t in range(1, 60))]
    assert next(tables.read(lines, "v")).x[0] == 1.001
    quoted = ["t,v", *(f'{t},"1,{t:03d}"' for t in range(1, 60))]  # the same among commas
    assert next(tables.read(quoted, "v")).x[0] == 1001
    point = tables.read(lines, "v", kinds={"v": "decimal-point"})
    assert next(point).x[0] == 1001
    assert tables.read(lines, "v", decimal=".").columns[1].way[:2] == (".", ",")
    assert tables.read(lines, "v", kinds={"t": "number"}).features == ["t", "v", "w"]
    assert tables.read(lines, "v", drop=["w"]).features == ["v"]
    assert tables.read(lines, "v", features=["w"]).features == ["w"]
    assert tables.read(lines, "v", kinds={"w": "text"}).features == ["v"]
    assert tables.read(["a,b", "01/02/2024,1"], "b", kinds={"a": "day-first"}).columns[0].way == (
        "day-first",
    )
    for kinds, said in (
        ({"w": "colour"}, "kinds: expected one of number"),
        ({"z": "text"}, "kinds: "),
    ):
        with pytest.raises(ValueError, match=said):
            tables.read(lines, "v", kinds=kinds)


def test_a_later_row_changes_no_decision():
    lines = [
        "a,v",
        *(f'"{t % 900 + 1},250",{t}.5' for t in range(1099)),
        '"1,25",3.5',
        "true,4.5",
        "7,5.5",
    ]
    table = tables.read(lines, "v", kinds={"v": "number"})
    xs = [row.x[0] for row in table]
    assert xs[:2] == [1250, 2250] and xs[-1] == 7
    assert [p.line for p in table.problems] == [1101, 1102]
    assert "a number as '1,250' in 'a', got '1,25'" in table.problems[0].reason


def test_decisions_and_memory_are_json_and_go_on():
    whole = hours({60, 61, 62, 70, 71}, 90)
    lines = [whole[0] + ",m,sky"] + [
        f"{r},{3 * t * t},{SKY[t % 9]}" for t, r in enumerate(whole[1:])
    ]
    options = {"gaps": "fill", "elapsed": True, "calendar": True, "horizon": 3}
    expected = list(tables.read(lines, "v", **options))
    for cut in (1, 30, 61, 62, 66):
        first = tables.read(lines, "v", **options)
        before = [next(first) for _ in range(cut)]
        kept = json.loads(json.dumps([first.decisions(), first.memory()]))
        rest = lines[first.line :]
        second = tables.read(iter(rest), "v", decided=kept[0], header=False, **options)
        second.recall(kept[1])
        after = list(second)
        assert len(before) + len(after) == len(expected)
        for got, right in zip(before + after, expected, strict=True):
            np.testing.assert_array_equal(got.x, right.x)
            np.testing.assert_array_equal(got.y, right.y)
    for rows in (DICTS, ["# temp, ok", *(f"{v},{i}" for i, v in enumerate(TEMPS))]):
        table = tables.read(rows, "temp")
        again = tables.read(rows, "temp", decided=json.loads(json.dumps(table.decisions())))
        assert [row.x.tolist() for row in again] == [row.x.tolist() for row in table]
        assert table.rows == ROWS
    (row,) = tables.read([{"temp": 1.5}], "temp", decided=tables.read(DICTS, "temp").decisions())
    np.testing.assert_array_equal(row.x, [1.5, NAN, 0, 0, 0])
    again = tables.read(lines, "v", decided=json.loads(json.dumps(first.decisions())), **options)
    for got, right in zip(again, expected, strict=True):
        np.testing.assert_array_equal(got.x, right.x)


DICTS = [
    {"when": h, "temp": v, "ok": v > 20, "sky": s}
    for h, v, s in zip(HOURS, TEMPS, SKY, strict=True)
]


def test_rows_that_are_dictionaries():
    table = tables.read(DICTS, "temp")
    assert [c.kind for c in table.columns] == ["time", "number", "boolean", "class"]
    xs = np.array([row.x for row in table])
    np.testing.assert_array_equal(xs[:, 0], TEMPS)
    np.testing.assert_array_equal(xs[:, 1], np.array(TEMPS) > 20)
    np.testing.assert_array_equal(xs[:, 3:].sum(1) + xs[:, 2], 1)

    asked = []

    def live():
        for i, row in enumerate(DICTS):
            asked.append(i)
            yield {**row, "n": None if i == 2 else np.float32(i)}

    table = tables.read(live(), "temp", features=["temp", "n"], hold=False, look=1)
    for i in range(4):
        x = next(table).x
        assert asked[-1] == i and x[0] == TEMPS[i]
        assert np.isnan(x[1]) if i == 2 else x[1] == i
    odd = tables.read([{"a": 1.0}, {"b": 2}, "x", {"a": 3}, {}], "a", hold=False)
    assert [row.x[0] for row in odd][:1] == [1.0] and odd.skipped == 1


def test_an_iterator_is_decided_as_a_list_is_and_read_no_further_than_said():
    def items(rows, asked):
        for row in rows:
            asked.append(row)
            yield row

    lines = [f"{row['when']},{row['temp']},{row['ok']},{row['sky']}" for row in DICTS]
    lines.insert(0, "when,temp,ok,sky")
    objects = [json.dumps({**row, "when": str(row["when"])}) for row in DICTS]
    for rows, header in ((DICTS, 0), (lines, 1), (objects, 0)):
        whole = tables.read(rows, "temp")
        asked: list = []
        table = tables.read(items(rows, asked), "temp")
        assert table.columns == whole.columns and table.columns[3].kind == "class"
        assert len(asked) == len(rows) and not table.notes
        for got, right in zip(table, whole, strict=True):
            np.testing.assert_array_equal(got.x, right.x)
        for look in (1, 3, 25):
            asked = []
            table = tables.read(items(rows, asked), "temp", look=look)
            assert len(asked) == look + header and not table.notes
            assert table.columns[3].kind == ("text" if look < 20 else "class")
            assert sum(1 for _ in table) == ROWS
    for look in (3, 25):  # of what is there, too, so many decide
        kind = "text" if look < 20 else "class"
        assert tables.read(lines, "temp", look=look).columns[3].kind == kind
        assert tables.read(DICTS, "temp", look=look).columns[3].kind == kind
    lines.insert(1, '"a"quote')
    asked = []
    table = tables.read(items(lines, asked), "temp", header=True, look=2, separator=",")
    assert len(asked) == 4  # rows that cannot be used do not decide
    late = [{"a": 1.5}, {"a": 2.5, "b": 3}, {"a": 3.5, "c": 1}]
    for look, count, left_out in ((None, 3, 0), (1, 1, 2), (2, 2, 1)):  # names that come later
        table = tables.read(items(late, []), "a", look=look)
        assert len(list(table)) == 3 - left_out
        assert (len(table.columns), table.skipped) == (count, left_out)
    asked = []
    tables.read(items(["1,2", "3,x", "4,5", "6,7"], asked), 0, look=2, separator=",")
    assert len(asked) == 2  # there are no names to come before them
    with pytest.raises(ValueError, match="look: expected .*at least 1"):
        tables.read(DICTS, "temp", look=0)


def test_rows_of_no_use_are_not_waited_for_without_end():
    for look, most in ((None, 101), (1, 102), (9, 110)):
        asked: list = []
        rows = ('"1"x' for _ in range(3000) if asked.append(1) is None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rtrl.tables._source.GRACE", 0.0)
            with pytest.raises(ValueError, match=f"nothing but {most} unreadable rows"):
                tables.read(rows, "a", look=look, separator=",")
        assert len(asked) == most
    lines = ["a,b", *(f"{t},x" for t in range(200)), "4,5"]
    with pytest.raises(ValueError, match="150 rows that cannot be used"):
        tables.read(iter(lines), "a", kinds={"b": "number"}, look=150)
    table = tables.read(lines, "a", kinds={"b": "number"}, look=2)  # too few to refuse them all
    assert [row.x.tolist() for row in table] == [[4, 5]] and table.skipped == 200
    table = tables.read(["1,2", "3,4", *["5,6,"] * 3], 0, look=5, separator=",")
    assert [row.x.tolist() for row in table] == [[1, 2], [3, 4]] and table.skipped == 3


def test_what_is_said_of_lines_above_the_table():
    lines = ["Station 5", "", "by hand", "day,temp", *(f"2024-05-0{d},{d}.5" for d in range(1, 9))]
    for rows, look, at in (
        (lines, None, "1, 3"),
        (iter(lines), 20, "1, 3"),
        (["", *lines], 9, "2, 4"),
    ):
        table = tables.read(rows, "temp", look=look)
        assert table.notes == [f"passed over what stands above the table (line {at})"]


def test_standard_input_is_left_open(monkeypatch):
    class Stdin:
        buffer = io.BytesIO(b"a,b\n1,2\n")

    for stdin in (Stdin, io.StringIO("a,b\n1,2\n")):  # the second has no bytes behind it
        monkeypatch.setattr("sys.stdin", stdin)
        assert [row.x.tolist() for row in tables.read("-", "a")] == [[1, 2]]
    assert not Stdin.buffer.closed


def test_a_live_iterator_is_an_item_late_at_most(tmp_path):
    """Its second item does not come before the first is asked for again, but once."""
    clock = [0.0]

    def live(asked):
        for i, row in enumerate(DICTS):
            clock[0] += 3600.0 if i else 1e9  # the first item was waited for, too
            asked.append(i)
            yield row

    with pytest.MonkeyPatch.context() as patch:  # what is there is not a matter of time
        patch.setattr("time.monotonic", lambda: clock.append(clock.pop() + 3600.0) or clock[0])
        lines = ["temp,sky", *(f"{v},{s}" for v, s in zip(TEMPS, SKY, strict=True))]
        (tmp_path / "t.csv").write_text("\n".join(lines))
        with open(tmp_path / "t.csv") as file:
            for rows in (DICTS, tuple(lines), io.StringIO("\n".join(lines)), file):
                assert tables.read(rows, "temp").columns[-1].kind == "class"
    for look, late in ((None, 1), (1, 0)):
        asked: list = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.monotonic", lambda: clock[0])
            table = tables.read(live(asked), "temp", look=look)
            assert asked == list(range(1 + late))
            assert next(table).x[0] == TEMPS[0] and next(table).x[0] == TEMPS[1]
            assert asked == [0, 1]
            assert next(table).x[0] == TEMPS[2] and asked == [0, 1, 2]
        said = ["what the columns are was decided from the first 2 rows; `look` waits for more"]
        assert table.notes == said * late


def test_frames_and_parquet(tmp_path):
    class Frame:  # as polars gives its rows
        def iter_rows(self, named):
            return iter(DICTS)

    from_frame = [row.x.tolist() for row in tables.read(Frame(), "temp")]
    assert from_frame == [row.x.tolist() for row in tables.read(DICTS, "temp")]
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    parquet.write_table(pyarrow.Table.from_pylist(DICTS), tmp_path / "t.parquet")
    assert [row.x.tolist() for row in tables.read(tmp_path / "t.parquet", "temp")] == from_frame


def test_a_pipe_gives_what_is_there_and_waits_for_nothing():
    out, into = os.pipe()
    guard = threading.Timer(30, os.close, [into])
    guard.start()
    os.write(into, b"time;temp\xe9;sky\n2024-01-01 10:00;1,5;sun\n")
    with open(out, "rb") as file:
        table = tables.read(file, 1)
        assert table.columns[1].name == "temp\u00e9"
        assert next(table).x.tolist() == [1.5]
        for t in range(2, 5):
            os.write(into, f"2024-01-01 10:0{t};{t},5;rain\n".encode())
            assert next(table).x.tolist() == [t + 0.5]
        os.close(into)
        guard.cancel()
        assert list(table) == []


def test_a_pipe_is_decided_from_what_it_holds_or_from_as_many_rows_as_said():
    rows = [f"{v},{s}\n".encode() for v, s in zip(TEMPS, SKY, strict=True)]
    for look, there, kind in ((None, 1, "text"), (None, 30, "class"), (25, 1, "class")):
        (out, into), begun = os.pipe(), threading.Event()

        def write(there=there, into=into, begun=begun):
            os.write(into, b"temp,sky\n" + b"".join(rows[:there]))
            begun.wait()
            with open(into, "wb", 0) as pipe:
                for row in rows[there:]:
                    pipe.write(row)

        writer = threading.Thread(target=write)
        writer.start()
        with open(out, "rb") as file:
            if look is not None:
                threading.Timer(0.01, begun.set).start()
            table = tables.read(file, "temp", look=look)
            begun.set()
            assert table.columns[1].kind == kind
            few = ["what the columns are was decided from the first row; `look` waits for more"]
            assert table.notes == few * (look is None and there == 1)
            assert [row.x[0] for row in table] == TEMPS
        writer.join()


def test_names_alone_decide_nothing(monkeypatch):
    monkeypatch.setattr("rtrl.tables._source.GRACE", 0.0)
    out, into = os.pipe()
    os.write(into, b"temp,sky\n")

    def later():
        with open(into, "wb") as pipe:
            pipe.write(b"1.5,sun\n")

    threading.Timer(0.05, later).start()
    with open(out, "rb") as file:
        table = tables.read(file, "temp")
        assert table.columns[1].kind == "text" and [row.x[0] for row in table] == [1.5]


def test_what_comes_soon_after_the_first_bytes_decides_too(monkeypatch):
    monkeypatch.setattr("rtrl.tables._source.GRACE", 60.0)
    rows = "".join(f"{v},{s}\n" for v, s in zip(TEMPS, SKY, strict=True))
    out, into = os.pipe()
    os.write(into, b"temp,sky\n20.5,sun\n")

    def later():
        with open(into, "wb") as pipe:
            pipe.write(rows.encode())

    threading.Timer(0.05, later).start()
    with open(out, "rb") as file:
        table = tables.read(file, "temp")
        assert table.columns[1].kind == "class" and not table.notes
        assert [row.x[0] for row in table] == [20.5, *TEMPS]


def test_an_open_file_of_text_is_there_and_no_more_of_it_is_read_than_needed(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("temp,sky\n" + "".join(f"{t / 8},{SKY[t % 9]}\n" for t in range(40_000)))
    with open(path, newline="") as file:
        assert tables.read(file, "temp").columns[1].kind == "class"
    with open(path, "rb", buffering=0) as file:
        table = tables.read(file, "temp")
        assert table.columns[1].kind == "class" and file.tell() <= 2**17 < path.stat().st_size
        assert sum(1 for _ in table) == 40_000

    class Counted(io.FileIO):
        reads = 0

        def read(self, *size):
            self.reads += 1
            return super().read(*size)

    rows = [f"{t / 8},{0 if t < 99 else t % 9},{'x' * 2000}\n" for t in range(200)]
    path.write_text("temp,k,note\n" + "".join(rows))
    for source in (path, io.BytesIO(path.read_bytes())):  # beyond the first bytes, too
        assert tables.read(source, "temp").columns[1].kind == "number"
    path.write_text("temp\n1.5\n2.5\n")
    with Counted(path) as file:  # the end is seen once, and not asked for again
        assert [row.x[0] for row in tables.read(file, "temp")] == [1.5, 2.5] and file.reads == 2

    class Drops(io.FileIO):
        def read(self, *size):
            return super().read(1)

    path.write_bytes(b"temp\r\n1.5\r\n2.5\r")
    with Drops(path) as file:
        table = tables.read(file, "temp")
        assert [(row.x[0], table.line) for row in table] == [(1.5, 2), (2.5, 3)]
    path.write_bytes(gzip.compress(path.read_bytes()))
    with Drops(path) as file:  # its first byte alone does not tell an archive
        assert [row.x[0] for row in tables.read(file, "temp")] == [1.5, 2.5]


def test_a_damaged_archive_gives_what_it_holds_and_says_so(tmp_path):
    whole = ODD["gzip"].content
    assert tables.read(io.BytesIO(whole), "temp").notes == ["unpacked from gzip"]
    lines = 1 + ROWS
    table = tables.read(io.BytesIO(whole[:-12]), "temp")
    rows = list(table)
    assert 0 < len(rows) <= ROWS and "ends too early" in table.problems[-1].reason
    assert table.problems[-1].line <= lines + 1
    table = tables.read(io.BytesIO(whole[:150] + b"\xff" * 40 + whole[190:]), "temp")
    assert 0 < sum(1 for _ in table) <= ROWS and "damaged" in table.problems[-1].reason
    with pytest.raises(ValueError, match="source: .*the gzip archive is damaged"):
        tables.read(io.BytesIO(whole[:30] + b"\xff" * 40 + whole[70:]), "temp")
    unended = gzip.compress(b"temp\n1.5\n2.5")
    assert [row.x[0] for row in tables.read(io.BytesIO(unended), "temp")] == [1.5, 2.5]
    (tmp_path / "t.csv").write_bytes(b"PK\x03\x04...")
    with pytest.raises(ValueError, match="a zip archive"):
        tables.read(tmp_path / "t.csv", 0)  # and closes it, or there is a warning
    gc.collect()
    for content, said in ((b"PK\x03\x04...", "a zip archive"), (b"\x89PNG..", "a picture"),
                          (b"<!DOCTYPE html>\n<p>", "a web page"), (b"a,b\n", "none")):  # fmt: skip
        with pytest.raises(ValueError, match=f"source: .*{said}"):
            tables.read(io.BytesIO(content), 0)


def test_the_table_of_columns_says_what_was_taken_for_what():
    table = tables.read(
        ["id,temp,price,sky,open,note,k", *(
            f'{t},{v},"${t * t + 1000:,}.5",{s},{"yes" if t % 3 else "no"},x{t},' for t, (v, s) in
            enumerate(zip(TEMPS, SKY, strict=True)))], "temp",
    )  # fmt: skip
    said = {row[0]: row[1:3] for row in tables.describe(table)}
    assert said == {
        "id": ("counter, numbers the rows", "left out"),
        "temp": ("number", "target, feature"),
        "price": ("counter, thousands as 1,000, in $, only grows: its steps are learned from",
                  "feature"),
        "sky": ("class of 3", "feature (3 numbers)"),
        "open": ("boolean (yes/no)", "feature"),
        "note": ("text, 40 different texts in 40 rows", "left out"),
        "k": ("empty, nothing in it", "left out"),
    }  # fmt: skip


def test_dates_that_could_be_both_are_read_as_time_goes_on():
    days = [(d, m) for m in (1, 2) for d in range(1, 13)]  # 12/01, then 01/02
    for form, way in (
        ("{0:02d}/{1:02d}/2024", "day-first"),
        ("{1:02d}/{0:02d}/2024", "month-first"),
    ):
        for part in (days, days[2:10]):  # in the second nothing falls either way, but steps differ
            lines = ["d,v", *(f"{form.format(*day)},{i}.5" for i, day in enumerate(part))]
            assert tables.read(lines, "v").columns[0].way == (way,)
    unclear = tables.read(["d,v", "01/02/2024,1"], "v").columns[0]
    assert unclear.way == ("month-first",) and unclear.note == "01/02/2024: taken as month first"
    unclear = tables.read(["d,v", "01/02/2024,1", "01/03/2024,2"], "v").columns[0]
    assert unclear.note == "01/02/2024: taken as month first; every 1 day"


def test_columns_without_a_name_are_left_out_unless_asked_for():
    lines = ["a,,b,", *(f"{t * 5 % 11},{t % 5},{t % 7},{t % 3}" for t in range(30))]
    table = tables.read(lines, "a")
    assert table.features == ["a", "b"] and table.columns[3].kind == "number"
    assert [c.note for c in table.columns] == ["", "it has no name", "", "it has no name"]
    assert tables.read(lines, "a", features=[1, 3]).features == ["column 1", "column 3"]
    assert tables.read(lines, 3).features == ["a", "b", "column 3"]
    assert tables.read(lines[1:], "column 0").in_size == 4  # where none has a name, all count
    assert tables.read(["1,2,", "3,4,"], 0).columns[2].name == "column 2"
    ends = tables.read(["a,b,", "1,2,", "1,2,3,9", '"1"x,2,3', "3,4,"], -1)
    assert ends.targets == ["b"] and ends.columns[2].note == "a separator ends every line"


def test_a_mark_of_thousands_makes_no_name_of_a_row():
    for rows, said in ((1, "cannot be used"), (30, "got 'temp'. .passed over .* .line 1")):
        with pytest.raises(ValueError, match=said):
            tables.read(["temp,sales", *["20.5,162,501"] * rows], "temp")
    for rows, good in ((4, 0), (5, 5)):  # few rows with a field too many are a mistake
        lines = ["temp,sky", *['"1",20.5,sun'] * rows, "1"]
        if good:
            assert sum(1 for _ in tables.read(lines, "temp")) == good
            lines.append("20.5,sun")
            assert sum(1 for _ in tables.read(lines, "temp")) == 1
        else:
            with pytest.raises(ValueError, match="cannot be used|passed over"):
                tables.read(lines, "temp")
    with pytest.raises(ValueError, match=r"'column 2'\].*, got 'temp'"):
        tables.read(["temp,name", *["20.5,'Smith, Ann'"] * 6], "temp")
    wide = [f'    "{i}"   {v}   {s}' for i, (v, s) in enumerate(zip(TEMPS, SKY, strict=True))]
    assert [row.x[0] for row in tables.read(["temp  sky", *wide], "temp")] == TEMPS
    title = ["Station 5", "a;temp;", *["1;2;"] * 6]
    assert [c.name for c in tables.read(title, "temp").columns] == ["a", "temp", ""]
    rows = [f"r{i},{v},{s}" for i, (v, s) in enumerate(zip(TEMPS, SKY, strict=True))]
    table = tables.read(["temp,sky", *rows[:9], "1,2", *rows[9:]], "temp")
    assert [row.x[0] for row in table] == TEMPS and table.skipped == 1


def test_names_stand_below_those_of_groups_and_nowhere_else():
    rows = [f"{t / 8},{t % 5},{t % 7}" for t in range(30)]
    for groups, names in (("in,,out", "a,b,c"), ("in,,", "a,b,c")):
        table = tables.read([groups, names, *rows], 0)
        assert [c.name for c in table.columns] == ["a", "b", "c"] and table.skipped == 0
    for lines, bad in (
        (["1,,3", "x,y,z", *rows], 1),  # a row with a missing value, and one of no use
        (["a,,c", "m,,s", *rows], 1),  # units
        (["in,,out", "a,b,2020", *rows], 1),
    ):
        table = tables.read(lines, 0)
        assert table.columns[1].name == "column 1" and sum(1 for _ in table) >= 30
        assert table.skipped == bad
    words = [f"{'xy'[t % 2]},q,{'rs'[t // 2 % 2]}" for t in range(30)]
    assert tables.read(["a,,c", *words], 0).targets == ["a=x", "a=y"]


def test_a_backslash_before_a_quote_ends_no_field():
    notes = [f'{v},"5\\" pipe, 6\\" pipe, {s}"' for v, s in zip(TEMPS, SKY, strict=True)]
    table = tables.read(["temp,note", *notes], "temp")
    assert [row.x[0] for row in table] == TEMPS and not table.notes
    assert table.columns[1].values[0] == '5" pipe, 6" pipe, rain'


def test_na_is_a_value_only_among_codes_of_two_capitals():
    for words, kept in ((("DE", "NA", "FR"), True), (("de", "NA", "fr"), False),
                        (("DEU", "NA", "FRA"), False), (("DE", "NA", "", "FR"), True),
                        (("DE", "FR"), False)):  # fmt: skip
        lines = ["v,land", *(f"{t * 5 % 11},{words[t % len(words)]}" for t in range(60))]
        land = tables.read(lines, "v").columns[1]
        assert land.kind == "class" and ("NA" in land.values) == kept
        assert ("NA" in land.missing) == ("NA" in words and not kept) and ("" in land.missing) == (
            "" in words
        )


def test_few_numbers_are_no_code_without_zeros_in_front_and_one_length():
    for words in (("10", "20"), ("01", "2"), ("0.1", "0.2"), ("0", "1")):
        lines = ["v,n", *(f"{t * 5 % 11},{words[t * 2 % 3 % 2]}" for t in range(60))]
        assert tables.read(lines, "v").columns[1].kind == "number", words


def test_digits_of_a_code_are_a_number_where_one_is_asked_for():
    lines = ODD["postcodes"].content.decode().splitlines()
    assert next(tables.read(lines, "temp", kinds={"zip": "number"})).x[0] == 1067
    assert next(tables.read(lines, "temp", features=["zip"])).x.tolist() == [1067]
    assert tables.read(lines, "zip").targets == ["zip"]
    many = ODD["numbers with zeros in front"].content.decode().splitlines()
    assert tables.read(many, "temp").columns[0].note == "zeros in front: a code?"
    ids = ODD["identifiers beyond the digits of a number"].content.decode().splitlines()
    assert tables.read(ids, "temp", kinds={"id": "number"}).columns[0].kind == "number"
    assert tables.read(ids, "temp", features=["id"]).columns[0].kind == "number"
    for field in ("9007199254740992", "1e17", "1234567890.12345678"):
        assert tables.read(["n,v", f"{field},1"], "v").columns[0].kind == "number"


def test_row_numbers_and_constants_can_be_asked_for():
    lines = ["n,k,v", *(f"{t},7,{t * t % 11}" for t in range(1, 31))]
    assert tables.read(lines, "v").features == ["v"]
    table = tables.read(lines, "v", features=["n", "k"])
    assert [c.kind for c in table.columns[:2]] == ["number", "number"]
    assert [next(table).x.tolist() for _ in range(3)] == [[1, 7], [2, 7], [3, 7]]


def test_the_pace_is_that_of_the_rows_that_go_forward():
    table = tables.read([row for row in hours(set()) for _ in range(1 + row.endswith("5"))], "v")
    assert table.columns[0].note == "every 1 hour"
    late = ["v,time", *(",".join(reversed(row.split(","))) for row in hours(set())[1:])]
    late[3:5] = ["3.5", '"4"x,5']  # rows that are left out do not tell it
    table = tables.read(late, "v")
    assert table.columns[1].note == "every 1 hour" and sum(1 for _ in table) == 78
    plain = tables.read(["time,v", *(f"{t / 8},{t % 5}" for t in range(9))], "v").columns[0]
    assert plain.role == "time" and plain.note == ""  # in what unit is not known
    for rows, calendar in ((20, False), (21, True)):
        days = [f"2024-05-{d + 1:02d},{d}.5" for d in range(rows)]
        table = tables.read(["day,v", *days], "v")
        assert table.columns[0].note == "every 1 day" and (table.in_size > 1) == calendar
    with pytest.raises(ValueError, match="elapsed: expected a column of times"):
        tables.read(["a,b", "1,2"], "a", elapsed=True)


def test_days_and_months_as_others_write_them():
    for field in ("5. März 2023", "5 août 2023", "5-ene-2023"):
        assert tables.read(["d,v", f"{field},1"], "v").columns[0].way == ("named",)
    table = tables.read(["date,v", "45031.25,1", "45031.5,1"], "v", calendar=True)
    assert table.columns[0].way == ("excel",)
    np.testing.assert_allclose(next(table).x[1:3], [1, 0], atol=1e-9)  # at six in the morning
    np.testing.assert_allclose(next(table).x[3:5], table_waves("2023-04-15"), atol=1e-9)
    assert table.elapsed == 6 * 3600
    odd = ["4503x", "\uff14\uff15\uff10\uff13\uff13", "9" * 400]
    days = [f"{day},{i}" for i, day in enumerate(["45031", "45032", *odd])]
    table = tables.read(["date,v", *days], "v", look=2)
    assert len(list(table)) == 5 and [p.reason[:8] for p in table.problems] == ["no time:"] * 3
    for name, field in (("date", "24999"), ("date", "75000"), ("time", "45031")):
        table = tables.read([f"{name},v", f"{field},1"], "v")
        assert table.columns[0].kind == "number"


def table_waves(day: str) -> np.ndarray:
    """Of the weekday at noon, from ISO dates."""
    table = tables.read(["time,v", f"{day} 12:00,1"], "v", calendar=True)
    return next(table).x[3:5]


def test_a_number_is_no_month_but_where_all_speaks_for_it():
    months = [f"{y}{m:02d}" for y in (2021, 2022) for m in range(1, 13)]
    dotted = [f"{month[:4]}.{month[4:]}" for month in months]
    for name, fields, kind in (
        ("p", ["1013.12"], "number"),
        ("n", ["111111"], "number"),
        ("time", ["202311"], "number"),
        ("month", ["202311"], "time"),
        ("month", ["202313"], "number"),
        ("x", months, "time"),
        ("x", dotted, "time"),
        ("x", [*months, "209913"], "counter"),
    ):
        lines = [f"{name},v", *(f"{field},{i}.5" for i, field in enumerate(fields))]
        table = tables.read(lines, 1)
        got = table.columns[0]
        assert got.kind == kind and (got.way == ("month",)) == (kind == "time"), (name, fields)
        if len(fields) == len(months):
            assert sum(1 for _ in table) == len(months) and table.elapsed == 30 * 86400


def test_another_unit_is_no_number_and_a_text_with_some_numbers_is_a_text():
    lines = ["v,note", *(f"{t / 8} C,{t if t % 4 == 0 else f'x{t}'}" for t in range(60)), "5 F,x"]
    table = tables.read(lines, "v")
    assert [c.kind for c in table.columns] == ["number", "text"] and table.features == ["v"]
    assert sum(1 for _ in table) == 60 and [p.line for p in table.problems] == [62]
    assert "a number as '0.125 C' in 'v', got '5 F'" in table.problems[0].reason
