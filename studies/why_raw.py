"""Why raw products beat the paper's invariants of the same reach on the triangular lattice.

    export PYTHONPATH=benchmarks
    python studies/why_raw.py --train STORE ... --judge STORE ... [--seeds 2]

The invariants are made of the coefficients f of irreps: squares |f|^2 and phases to one reference
irrep r. They could lose against raw products because symmetry hinders, because squares are harder
to learn from than f, or because phases between two coefficients are known only through r. Trained
with the network, snapshots and passes of ``ablation.py --reaches 2``:

* raw products, averaged: the trained network's output averaged over the point group and time
  reversal, so that it reads the raw products and is as symmetric as the invariants;
* coefficients: f itself, which holds all variables of the invariants but is not invariant;
* linear phases: |f|^2 and f.r / |r|, linear in f;
* relative phases: the invariants, and f_a.f_b of every coefficient with the next two of its irrep;
  with all |f|^2 these fix every phase between two coefficients of an irrep.

The rows go to the part ``why_raw`` of data/reference/ablation_triangular.json.
"""

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ablation import Trial, stored, summary
from torch import Tensor

from sdml import dataset, evaluation, files
from sdml.companion import results
from sdml.descriptor import (
    RawBondEnvironment,
    SymmetryDescriptor,
    SymmetryEnvironment,
    environment_images,
)
from sdml.forcefield import ForceField

CASE, REACH = "triangular", 2.0
SOFTENING = 0.05
"""delta of the references, as in :class:`SymmetryDescriptor`."""


def operations(environment: RawBondEnvironment) -> tuple[np.ndarray, np.ndarray]:
    """Columns (G, F) and signs by which point group and time reversal turn raw products."""
    images = environment_images(environment.lattice.point_group, environment.sites()[1])
    images = np.column_stack([images, np.full(len(images), -1)])  # the center stays
    features = environment.descriptor().features
    number = {tuple(feature): k for k, feature in enumerate(features)}
    columns, signs = [], []
    for image in images:
        turned = [(kind, int(image[j]), int(image[k])) for kind, j, k in features]
        back = [(kind, k, j) for kind, j, k in turned]
        columns.append([number.get(a, number.get(b)) for a, b in zip(turned, back, strict=True)])
        odd = [a[0] == "chirality" and a not in number for a in turned]
        signs.append(np.where(odd, -1.0, 1.0))
    reversal = np.array([-1.0 if f.variable == "chirality" else 1.0 for f in features])
    return np.tile(columns, (2, 1)), np.concatenate([signs, signs * reversal])


class Averaged(ForceField):
    """The mean of a network's outputs for all images of an environment of raw products.

    Turning the features is turning the columns of the first layer; the G images of a site are
    carried as G sites, so that one chemical potential serves them all.
    """

    def __init__(self, trained: ForceField) -> None:
        environment = trained.descriptor.environment
        super().__init__(trained.model, environment, trained.hidden_widths, 0, True)
        self.whitening = torch.zeros_like(trained.whitening)
        self.load_state_dict(trained.state_dict())
        columns, signs = operations(environment)
        self.columns, self.signs = torch.as_tensor(columns), torch.as_tensor(signs)

    def first_layer(self, features: Tensor) -> Tensor:
        n = self.descriptor.n_features
        weight, bias = (self.network.get_parameter(f"0.{name}") for name in ("weight", "bias"))
        scaled = weight[:, :n] / self.feature_scale[:n]
        turned = (scaled[:, self.columns] * self.signs.to(scaled)).movedim(0, 1)  # (G, width, F)
        images = (features @ turned.flatten(0, 1).T).unflatten(-1, turned.shape[:2])
        return (images + (bias - scaled @ self.feature_mean[:n])).flatten(-3, -2)

    def electron_energy(self, features: Tensor, square: Tensor, mu: Tensor | None = None) -> Tensor:
        n_images = len(self.columns)

        def repeated(x: Tensor) -> Tensor:
            return x[..., None].expand(*x.shape, n_images).flatten(-2)

        mu = mu if mu is None or mu.shape[-1] == 1 else repeated(mu)
        return super().electron_energy(features, repeated(square), mu) / n_images


class Coefficients(SymmetryDescriptor):
    """The coefficients themselves."""

    def __init__(self, environment: SymmetryEnvironment) -> None:
        super().__init__(environment)
        self.features = tuple(range(sum(self.sections[:3])))

    def rows(self, around: Tensor) -> Tensor:
        return self._coefficients(self._variables(around)[0])[: self.n_features]


class LinearPhases(SymmetryDescriptor):
    """Phases that are linear in the coefficients."""

    def _invariants(self, f: Tensor, wedge_variables: Tensor, dimension: int) -> Any:
        basis, choice = (getattr(self, f"reference{x}_{dimension}").to(f) for x in ("_basis", ""))
        r = basis @ wedge_variables
        r = choice @ (r * torch.rsqrt((r * r).sum(0) + SOFTENING))
        return (f * f).sum(0), (f * r).sum(0)


class RelativePhases(SymmetryDescriptor):
    """Products of every coefficient with the next two of its irrep, besides the invariants."""

    def __init__(self, environment: SymmetryEnvironment) -> None:
        super().__init__(environment)
        n_alike = sum(map(len, [*self._alike(1), *self._alike(2)]))
        self.features = tuple(range(super().n_features + 2 * n_alike))

    def _alike(self, dimension: int) -> list[Tensor]:
        """Numbers of the coefficients of every irrep of bonds, and of chiralities."""
        choice = getattr(self, f"reference_{dimension}")
        return [column.nonzero()[:, 0] for column in choice.T]

    def _invariants(self, f: Tensor, wedge_variables: Tensor, dimension: int) -> Any:
        alike = [f.index_select(1, numbers) for numbers in self._alike(dimension)]
        pairs = [(g * g.roll(-step, 1)).sum(0) for g in alike for step in (1, 2)]
        return *super()._invariants(f, wedge_variables, dimension), *pairs


class AveragedTrial(Trial):
    """Trained as it is, judged averaged."""

    def trained(self) -> ForceField:
        return Averaged(super().trained())


@dataclass(frozen=True)
class Variant(SymmetryEnvironment):
    """The environment of a descriptor above."""

    made: type[SymmetryDescriptor] = SymmetryDescriptor

    def descriptor(self) -> SymmetryDescriptor:
        return self.made(self)


def trials(fitted: dataset.Dataset, n_epochs: int, n_seeds: int) -> dict[str, Trial]:
    """All rows by name, all first seeds first."""
    settings = CASE, REACH, REACH
    raw = RawBondEnvironment(*settings)
    found = {}
    for seed in range(n_seeds):
        averaged = AveragedTrial(raw, fitted, n_epochs, seed=seed)
        found[f"raw products, averaged, seed {seed}"] = averaged
        for name, made in VARIANTS.items():
            environment = Variant(*settings, made)
            found[f"{name}, seed {seed}"] = Trial(environment, fitted, n_epochs, seed=seed)
    return found


VARIANTS = {
    "coefficients": Coefficients,
    "relative phases": RelativePhases,
    "linear phases": LinearPhases,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--judge", nargs="+", required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    fitted, judged = (
        dataset.join([dataset.load(path) for path in names]) for names in (given.train, given.judge)
    )
    path = files.reference() / f"ablation_{CASE}.json"
    part = stored(path).get("why_raw", {"rows": {}})
    for name, trial in trials(fitted, given.epochs, given.seeds).items():
        if name not in part["rows"]:
            part["rows"][name] = trial.row(judged)
            part |= {"origin": results.measured_origin(), "summary": summary(part["rows"])}
            results.save_reference(path.stem, stored(path) | {"why_raw": part})
            print(name, evaluation.stage_table(part["rows"][name]["stages"]), sep="\n", flush=True)


if __name__ == "__main__":
    main()
