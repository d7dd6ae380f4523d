"""The mutants are programs that differ from the library in one place, and tests that reach one kill
it.
"""

import subprocess
import sys

import mutants
import pytest

JUDGE = """
import sys
import scipy.stats, torch  # before the forks
sys.path.insert(0, "tools")
import mutants
change = next(m for m in mutants.mutants("steps") if m.function == "ancestral" and m.new == "*")
for name in sys.argv[1:]:
    trace = {"reached": {f"steps:{change.line}": [name]}, "seconds": {name: 1.0}}
    print(*mutants.judged([change], trace))

import torch
from sdelib import sde, steps
t, s = (sde.VPSDE().at(time) for time in (0.5, 0.25))
step = lambda: steps.ancestral(lambda x, t: -x, torch.ones(1, 1), t, s, lambda x: 0 * x).item()
before, library = step(), mutants.functions()
default = next(m for m in mutants.mutants("steps") if m.new == "0.2")  # of snr, set on import
print(mutants.patched(default, library), step() == before)
print([name for _, name, _ in mutants.patched(change, library)], step() == before)
"""


@pytest.mark.parametrize("module", mutants.MODULES)
def test_every_mutant_is_a_program_that_differs_in_one_place(module):
    text = (mutants.LIBRARY / f"{module}.py").read_bytes()
    found = mutants.mutants(module)
    assert len(found) > 50
    for i, mutant in enumerate(found):
        changed = text[: mutant.start] + mutant.new.encode() + text[mutant.end :]
        assert changed != text
        if i % 20 == 0 or not mutant.new:
            compile(changed, module, "exec")


def test_the_formula_of_a_step_is_changed_in_its_power():
    says = [m.says for m in mutants.mutants("steps") if m.function == "annealed_langevin"]
    assert any("`**` to `*`" in change and "snr" in change for change in says)


def test_a_test_of_the_changed_step_kills_it_and_another_does_not():
    tests = (
        "ancestral_steps_are_exact_where_the_data_have_no_width",
        "the_noise_is_the_one_passed_in",
    )
    names = [
        f"tests/test_samplers.py::test_{name}[VPSDE(beta_min=0.1, beta_max=20.0)]" for name in tests
    ]
    python = [sys.executable, "-c", JUDGE, *names]
    done = subprocess.run(python, cwd=mutants.ROOT, stdout=-1, stderr=-1, encoding="utf-8")
    imported, patched = ["killed", "survived"], ["set() True", "['ancestral'] False"]
    assert done.stdout.splitlines() == imported + patched, done.stderr[-2000:]


def test_results_of_other_days_stay_beside_new_ones(monkeypatch, tmp_path):
    monkeypatch.setattr(mutants, "RESULTS", tmp_path / "mutants.md")
    assert mutants.stored() == ({}, {})
    rows = {m: [m, "2026-01-01", "60", "50", "1", "5", "3", "2"] for m in ("steps", "sde")}
    reasons = {"sde.f: `|` to `&` in `a | b`": "alike: of booleans", "steps.g: x": mutants.UNKNOWN}
    text = mutants.written(rows, reasons)
    assert "100 of 120 mutants of sde, steps are killed (83.3%), 90.9% of those" in text
    mutants.RESULTS.write_text(text, encoding="utf-8")
    assert mutants.stored() == (rows, reasons)
    assert [mutants.kind(why) for why in reasons.values()] == ["alike", "open"]
    mutants.store("steps", "2026-02-02, one in 2", 30, 0, [])  # a sample
    assert mutants.stored() == (rows, reasons)
    mutants.store("steps", "2026-02-02", 61, 1, [])
    steps = ["steps", "2026-02-02", "61", "61", "1", "0", "0", "0"]
    assert mutants.stored() == (
        rows | {"steps": steps},
        {"sde.f: `|` to `&` in `a | b`": "alike: of booleans"},
    )
