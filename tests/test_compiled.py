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

model = SDModel(lattice.square(12), 6.0, filling=0.485, electron_kT=0.05)
s = torch.as_tensor(spins.random(144, seed=1))
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


FORKED = """
import multiprocessing, numba
from sdml import kpm, lattice, spins
from sdml.descriptor import MomentEnvironment
from sdml.model import SDModel
import torch

model = SDModel(lattice.square(4), 2.0, filling=0.4, electron_kT=0.1)
s = spins.random(16, 0)
walks = MomentEnvironment("square", 1, 2, 2.0).descriptor()

def solved(_):
    try:
        return float(kpm.solve(model, s, 32).energy)
    except RuntimeError as error:
        return str(error)

def described(_):
    try:
        return float(walks(torch.as_tensor(s), model.lattice).sum())
    except RuntimeError as error:
        return str(error)

def in_a_fork(job):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.map_async(job, [0]).get(100)[0]

before, here = in_a_fork(solved), solved(0)
assert before == here, (before, here)
for job in (solved, described):
    after = in_a_fork(job)
    if numba.threading_layer() == "omp":
        assert "spawn" in after, after
    else:
        assert after == job(0), after
"""


def test_a_forked_process_computes_or_says_how_to_start_it():
    """What numba's threads of OpenMP do in a fork is to end the process."""
    given = os.environ | {"NUMBA_NUM_THREADS": "2"}
    options = {"capture_output": True, "text": True, "timeout": 300}
    made = subprocess.run([sys.executable, "-c", FORKED], env=given, **options)
    assert made.returncode == 0, made.stderr
