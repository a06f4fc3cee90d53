"""Files as people have them: every column taken for what it is, every number right."""

import numpy as np
import pytest
from odd_files import KINDS, ODD, ROWS, TEMPS

from rtrl import tables


@pytest.mark.parametrize("name", ODD)
def test_what_is_in_the_file_is_what_is_read(name, tmp_path):
    odd = ODD[name]
    path = tmp_path / "odd"
    path.write_bytes(odd.content)
    with tables.read(path, odd.target, hold=False, **odd.options) as table:
        rows = list(table)
    assert [c.kind for c in table.columns] == [KINDS[letter] for letter in odd.kinds]
    assert tuple(p.line for p in table.problems if not p.kept) == odd.bad
    assert table.rows == len(rows) == ROWS
    given = dict(zip(table.features, np.array([row.x for row in rows]).T, strict=True))
    for feature, expected in odd.values.items():
        np.testing.assert_allclose(given[feature], expected, rtol=1e-15, err_msg=feature)
    assert set(odd.values) <= set(given)
    targets = np.array([row.y for row in rows[1:]])[:, 0]
    assert table.targets[0] in odd.values
    np.testing.assert_allclose(targets, odd.values[table.targets[0]][1:], rtol=1e-15)
    assert not any(p.kept for p in table.problems)  # time goes on evenly


def test_there_are_many():
    assert len(ODD) >= 40 and len({odd.content for odd in ODD.values()}) == len(ODD)
    assert np.isfinite(TEMPS).all()
