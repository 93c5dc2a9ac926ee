"""The numbers by which a force field is judged: errors of the torque, by stage of the quench.

Only the transverse part h - (h.S) S of a field moves the spins, and it is small beside the
longitudinal part, which hides it in every error of the full field. All errors are therefore
reported on the transverse part too, stage by stage, beside the best pair exchange.
"""

from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdml import spins as spin_arrays
from sdml.dataset import Dataset
from sdml.forcefield import ForceField

__all__ = [
    "DEPLETED",
    "STAGES",
    "card",
    "card_text",
    "evaluate",
    "field_errors",
    "pair_exchange_field",
    "predict",
    "report",
    "stage_errors",
    "stage_fields",
    "stage_table",
]

FloatArray = NDArray[np.float64]
SIGNAL = 1e-5
"""Frames with a smaller mean square transverse field are not scored: nothing is left to predict."""
FLAT = 1e-8
"""Fields whose transverse part has less than this share of the mean square have none: what is left
is rounding."""
DEPLETED = 0.9
"""Sites with fewer electrons than this carry the holes of a doped antiferromagnet."""


@dataclass(frozen=True)
class Stages:
    """How the frames after the random start are told apart.

    Attributes
    ----------
    before, after : str
        Names of the frames before and after ``boundary``.
    boundary : float
        Time, hbar / t.
    holes : bool
        Whether the sites with fewer than 0.9 electrons are judged separately.
    """

    before: str
    after: str
    boundary: float
    holes: bool = False


STAGES = {
    "triangular": Stages("forming", "coarsening", 120.0),
    "square": Stages("early", "late", 200.0, holes=True),
}
UNDIVIDED = Stages("quench", "late", float("inf"))
"""Of lattices whose stages are not known."""


def stage_sites(data: Dataset) -> dict[str, NDArray[np.bool_]]:
    """Name -> sites (n, N) of every stage: pooled, random, before and after, and the holes.

    Frames whose mean square transverse field is below 1e-5 t^2 belong to no stage. There are no
    holes without a density.
    """
    stages = STAGES.get(data.model.lattice.name, UNDIVIDED)
    transverse = spin_arrays.transverse(data.spins, data.local_field)
    alive = (transverse**2).mean(axis=(1, 2)) > SIGNAL
    frames = {
        "pooled": alive,
        "random": alive & (data.time == 0),
        stages.before: alive & (data.time > 0) & (data.time < stages.boundary),
        stages.after: alive & (data.time >= stages.boundary),
    }
    shape = data.spins.shape[:2]
    sites = {name: np.broadcast_to(chosen[:, None], shape) for name, chosen in frames.items()}
    if stages.holes and data.density is not None:
        quenched = (alive & (data.time > 0))[:, None]
        sites["holes"] = quenched & (data.density < DEPLETED)
    return {name: chosen for name, chosen in sites.items() if chosen.any()}


def stage_errors(data: Dataset, field: FloatArray) -> dict[str, dict[str, float]]:
    """Stage -> errors of fields (n, N, 3), as of :func:`field_errors`."""
    return {name: field_errors(data, field, sites) for name, sites in stage_sites(data).items()}


def stage_fields(data: Dataset, field: FloatArray) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Stage -> transverse fields (n_sites, 3) of its sites: of the labels, and of ``field``."""
    exact, found = (spin_arrays.transverse(data.spins, h) for h in (data.local_field, field))
    return {name: (exact[sites], found[sites]) for name, sites in stage_sites(data).items()}


def stage_table(errors: dict[str, dict[str, float]]) -> str:
    """Errors by stage as a Markdown table; MSE per component, three times that per spin.

    A dash stands where R² or the correlation has no meaning (:func:`field_errors`).
    """
    lines = [
        "| stage | sites | transverse MSE | per spin | R² | correlation | full-field MSE |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in errors.items():
        lines.append(
            f"| {name} | {row['sites']:.0f} | {row['torque_mse']:.2e} | "
            f"{3 * row['torque_mse']:.2e} | {_shown(row, 'torque_r2', '.3f')} | "
            f"{_shown(row, 'torque_correlation', '.3f')} | {row['field_mse']:.2e} |"
        )
    return "\n".join(lines)


def _shown(errors: dict[str, float], name: str, digits: str) -> str:
    return format(errors[name], digits) if name in errors else "–"


def report(forcefield: ForceField, data: Dataset) -> str:
    """Tables of the force field and of the best pair exchange, which is fitted to the same data."""
    tables = {
        "force field": predict(forcefield, data),
        "pair exchange of three shells, fitted to these snapshots": pair_exchange_field(data, data),
    }
    return "\n\n".join(
        f"{name}\n\n{stage_table(stage_errors(data, field))}" for name, field in tables.items()
    )


def predict(
    forcefield: ForceField, data: Dataset, batch_size: int = 16, labeled_mu: bool = False
) -> FloatArray:
    """The force field's local fields on all snapshots, (n, N, 3).

    With ``labeled_mu`` a grand-canonical force field takes the chemical potential of the labels
    instead of finding its own.
    """
    forcefield = forcefield.on_lattice_of(data.model)
    s = torch.as_tensor(data.spins).to(forcefield.feature_mean)
    given: Any = ()
    if labeled_mu and forcefield.grand_canonical:
        data.require("data", "chemical_potential")
        given = torch.as_tensor(data.chemical_potential).to(s)[:, None].split(batch_size)
    pairs = zip_longest(s.split(batch_size), given)
    return np.concatenate([forcefield.field(*pair).double().cpu().numpy() for pair in pairs])


def evaluate(forcefield: ForceField, data: Dataset) -> dict[str, float]:
    """Errors of a force field on snapshots; see :func:`field_errors`, plus energy_rms per site."""
    forcefield = forcefield.on_lattice_of(data.model)
    errors = field_errors(data, predict(forcefield, data))
    energies = np.array([forcefield.energy(s) for s in data.spins])
    difference = (energies - data.energy) / data.model.lattice.n_sites
    return errors | {"energy_rms": float(np.sqrt((difference**2).mean()))}


def field_errors(
    data: Dataset, field: FloatArray, sites: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """Errors of fields (n, N, 3) against the labels of the same snapshots.

    Parameters
    ----------
    sites : (n, N), optional
        Which sites count; by default all.

    Returns
    -------
    dict
        ``sites``: their number; ``field_mse`` and ``torque_mse``: mean over them and the 3
        Cartesian components of the squared error of the full and of the transverse field ("per
        spin" is 3 times that); ``torque_r2`` = 1 - torque_mse / mean square of the transverse
        field; ``torque_correlation``: Pearson's, over the components of the transverse field. The
        last two are not there where they have no meaning: the transverse fields of the labels, for
        the correlation also those of ``field``, are below 1e-4 of the full ones, or all the same.

    Raises
    ------
    ValueError
        Another shape than that of the labels, or no site.
    """
    if field.shape != data.local_field.shape:
        raise ValueError(f"field: shape must be {data.local_field.shape}, got {field.shape}")
    chosen = np.ones(field.shape[:2], dtype=bool) if sites is None else sites
    if not chosen.any():
        raise ValueError(f"sites: at least one must count, got none of {chosen.shape}")
    exact, found = data.local_field[chosen], field[chosen]  # (n_chosen, 3)
    exact_t, found_t = (spin_arrays.transverse(data.spins[chosen], h) for h in (exact, found))
    torque_mse, flat = float(((found_t - exact_t) ** 2).mean()), FLAT * (exact**2).mean()
    errors = {
        "sites": float(len(exact)),
        "field_mse": float(((found - exact) ** 2).mean()),
        "torque_mse": torque_mse,
    }
    if (exact_t**2).mean() > flat:
        errors["torque_r2"] = 1 - torque_mse / float((exact_t**2).mean())
    if min(exact_t.var(), found_t.var()) > flat:
        correlation = np.corrcoef(found_t.ravel(), exact_t.ravel())
        errors["torque_correlation"] = float(correlation[0, 1])
    return errors


def pair_exchange_field(training: Dataset, evaluation: Dataset, n_shells: int = 3) -> FloatArray:
    """The baseline of every table: transverse fields (n, N, 3) of the best pair exchange.

    h_i = sum_shell J_shell sum_j S_j with the J_shell from least squares on the transverse field of
    the training snapshots.
    """
    columns = _shell_fields(training, n_shells).reshape(n_shells, -1).T
    target = spin_arrays.transverse(training.spins, training.local_field).ravel()
    exchange = np.linalg.lstsq(columns, target, rcond=None)[0]
    return np.einsum("s,s...->...", exchange, _shell_fields(evaluation, n_shells))


def _shell_fields(data: Dataset, n_shells: int) -> FloatArray:
    """Transverse part of the sum of neighbors in each shell, (n_shells, n, N, 3)."""
    lattice, s = data.model.lattice, torch.as_tensor(data.spins)
    bonds = [torch.as_tensor(lattice.directed_bonds(k).T) for k in range(1, n_shells + 1)]
    sums = [torch.zeros_like(s).index_add(1, i, s[:, j]) for i, j in bonds]
    return np.stack([spin_arrays.transverse(data.spins, h) for h in sums])


def card(
    forcefield: ForceField,
    training: Dataset,
    held_out: Dataset,
    settings: Any,
    remark: str = "",
) -> dict[str, Any]:
    """What a reader must know of trained weights: data, settings, errors on held-out runs.

    ``settings`` are the :class:`sdml.training.TrainingSettings`.
    """
    pairs = pair_exchange_field(training, held_out)
    return {
        "remark": remark,
        "training_snapshots": len(training),
        "training_sites": training.model.lattice.n_sites,
        "random_states": int((training.trajectory < 0).sum()),
        "training_quenches": sorted({k for k in training.trajectory.tolist() if k >= 0}),
        "held_out_snapshots": len(held_out),
        "held_out_sites": held_out.model.lattice.n_sites,
        "held_out_quenches": sorted(set(held_out.trajectory.tolist())),
        "held_out_times": [float(held_out.time.min()), float(held_out.time.max())],
        "settings": asdict(settings),
        "parameters": sum(p.numel() for p in forcefield.parameters()),
        "held_out_errors": evaluate(forcefield, held_out),
        "held_out_stages": stage_errors(held_out, predict(forcefield, held_out)),
        "pair_exchange_errors": field_errors(held_out, pairs),
        "pair_exchange_stages": stage_errors(held_out, pairs),
        "data": training.provenance,
    }


def card_text(forcefield: ForceField) -> str:
    """The card of a force field as a Markdown page."""
    model, content = forcefield.model, forcefield.card
    environment = forcefield.descriptor.environment
    errors = content["held_out_errors"]
    mode = "grand-canonical" if forcefield.grand_canonical else "canonical"
    lines = [
        f"# Force field for the {model.lattice.name} lattice",
        content["remark"],
        f"Model: J = {model.exchange_coupling}, filling = {model.filling}, "
        f"electron_kT = {model.electron_kT}, hopping = {model.hopping}"
        f"{f', hops = {model.hops}' if model.hops else ''}. The weights hold for these "
        f"values only, on any lattice of this kind with L >= {forcefield.least_length}.",
        f"Descriptor: {environment}; {mode}; network "
        f"{forcefield.feature_mean.numel()}-{'-'.join(map(str, forcefield.hidden_widths))}-2, "
        f"{content['parameters']} parameters.",
        f"Trained on {content['training_snapshots']} snapshots of {content['training_sites']} "
        f"sites: {content['random_states']} random states and the quenches of seeds "
        f"{content['training_quenches']}.",
        f"Judged on the quenches {content['held_out_quenches']}, "
        f"{content['held_out_snapshots']} snapshots of {content['held_out_sites']} sites, times "
        f"{content['held_out_times']}:",
        stage_table(content["held_out_stages"]),
        f"All frames: transverse R² {_shown(errors, 'torque_r2', '.3g')}, rms error of the energy "
        f"{errors['energy_rms']:.2g} t a site. Energies in t; MSE are means over the three "
        "components. The best pair exchange of three shells (it has no longitudinal part):",
        stage_table(content["pair_exchange_stages"]),
    ]
    return "\n\n".join(line for line in lines if line) + "\n"
