"""Compiled kernels: who compiles them and who finds them compiled compute the same bits.

A run that is begun by the first and resumed by the second must be the same run.
"""

import os
import subprocess
import sys

BITS = """
import hashlib, torch
from sdml import forcefield, kpm, lattice, spins
from sdml.model import SDModel

model = SDModel(lattice.square(6), 6.0, filling=0.485, electron_kT=0.05)
s = torch.as_tensor(spins.random(36, seed=1))
fields = [kpm.solve(model, x, n_moments=32, n_probes=16, seed=0) for x in (s, s.float())]
bits = [state.local_field.numpy().tobytes() for state in fields]
bits.append(forcefield.load("square").on(model.lattice).local_field(s.float()).numpy().tobytes())
print(*(hashlib.sha256(b).hexdigest() for b in bits))
"""


def bits_of_a_new_process(folder):
    given = os.environ | {"NUMBA_CACHE_DIR": str(folder), "NUMBA_NUM_THREADS": "1"}
    made = subprocess.run([sys.executable, "-c", BITS], env=given, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return made.stdout.split()


def test_a_cold_cache_and_a_warm_one_give_the_same_bits(tmp_path):
    cold = bits_of_a_new_process(tmp_path)
    assert len(set(cold)) == 3 and any(tmp_path.rglob("*.nbi"))
    assert bits_of_a_new_process(tmp_path) == cold
