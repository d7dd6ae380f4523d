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
"""


@pytest.mark.parametrize("module", mutants.MODULES)
def test_every_mutant_is_a_program_that_differs_in_one_place(module):
    text = (mutants.LIBRARY / f"{module}.py").read_bytes()
    found = mutants.mutants(module)
    assert len(found) > 50
    for i, mutant in enumerate(found):
        changed = text[: mutant.start] + mutant.new.encode() + text[mutant.end :]
        assert changed != text
        if i % 20 == 0:
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
    assert done.stdout.split() == ["killed", "survived"], done.stderr[-2000:]
