"""Every labelled equation of the book names what fails where it is wrong, and that exists."""

import equations
import pytest
from test_wrong_formulas import WRONG

LABELS = [(chapter, label) for chapter, found in equations.labels().items() for label in found]


def test_every_labelled_equation_has_an_entry_in_its_place():
    named = [(chapter, label) for chapter, found in equations.entries().items() for label in found]
    assert named == LABELS and len(LABELS) == len(set(LABELS)) > 100


@pytest.mark.parametrize("chapter, label", LABELS)
def test_what_an_equation_names_exists(chapter, label):
    some = [equations.check_of(entry, chapter) for entry in equations.entries()[chapter][label]]
    kinds = {check.kind for check in some}
    assert kinds == {"none"} or kinds <= {"test", "cell"}, some
    assert all(check.what for check in some) and some


@pytest.mark.parametrize(
    "entry, message",
    [
        ("test_sde.py::test_no_such_thing", "a test must exist"),
        ("test_none.py::test_no_such_thing", "a test must exist"),
        ("assert nothing == 'like this'", "in one cell that asserts, got 0"),
        ("assert", "in one cell that asserts, got"),
        ({"sometimes": "why"}, "must be a test, a cell's code or none"),
    ],
)
def test_an_entry_that_points_nowhere_is_noticed(entry, message):
    with pytest.raises(ValueError, match=message):
        equations.check_of(entry, "02_forward_sdes")


def test_a_wrong_formula_names_an_equation_that_is_checked():
    found, counted = equations.checks(), equations.slips()
    named = [wrong.equation for wrong in WRONG if wrong.equation]
    assert sorted(named) == sorted(counted.elements())
    for label in counted:
        assert {check.kind for check in found[label]} & {"test", "cell"}, label


def test_the_ledger_shows_them():
    said = equations.TABLE.read_text(encoding="utf-8")
    assert said == equations.table(), "the equations or their checks changed: run `make chapters`"
