"""Behler-Parrinello force field: a network gives the energy of each site from its environment.

    E(S) = sum_i eps(C_i) - 1/2 sum_i m(C_i) (|S_i|^2 - 1),     h_i = -dE/dS_i,

with the descriptors C_i of the directions S / |S|. On unit spins E = sum eps, its gradient along
the sphere is the transverse field, and m is the longitudinal field h_i . S_i. The exact energy
depends on the length of a spin too; the second term carries that dependence to first order, so that
the full vector h is the gradient of one energy and the torque is learned by eps alone.

At a fixed number of electrons the chemical potential depends on all spins, and no function of an
environment can know it. A grand-canonical force field learns the potential omega(C_i, mu) of a site
as a function of mu too, with the density n_i = -d omega / d mu, and finds mu from the number of
electrons:

    E(S) = sum_i omega(C_i, mu) + mu N_e,     sum_i n_i(C_i, mu) = N_e.

On unit spins E is stationary in mu, so that h is still the gradient at that mu. Such a charge
equilibration is the idea of Ko, Finkler, Goedecker and Behler, Nat. Commun. 12, 398 (2021),
doi 10.1038/s41467-020-20427-2.
Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007), doi 10.1103/PhysRevLett.98.146401.
"""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdml import files
from sdml.descriptor import (
    Environment,
    MomentEnvironment,
    RawBondEnvironment,
    SymmetryEnvironment,
)
from sdml.forcefield import equilibration
from sdml.forcefield.container import digest, read_tensors, write_tensors
from sdml.forcefield.potential import Potential
from sdml.lattice import Lattice
from sdml.model import SDModel, describe, from_description
from sdml.spins import Seed, seed_number

FILE_FORMAT = "sdml-forcefield-2"
ENVIRONMENTS = {c.__name__: c for c in (SymmetryEnvironment, MomentEnvironment, RawBondEnvironment)}
COMPRESSIBILITY = 0.05
"""d n / d mu (per t) before training: about that of the doped antiferromagnet. Labels hold the mean
density whatever mu is; without this an ill-trained network could make it flat."""
SAMPLED_FROM, LEAST_STRIDE = 512, 8
"""Sites from which on the chemical potential is searched on a sample first: on every eighth site,
and of large lattices on so many of them."""
CHARGE_TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}
"""Error of the mean number of electrons a site; float32 sums carry 1e-7."""
VARIANCE_FLOOR = 1e-4
"""Added to the variances of standardized features: what float32 resolves, and what hardly varies
among the training data still counts when it does elsewhere."""


class ForceField(Potential):
    """Energy and local field of spins on a lattice with the cell of ``model.lattice``.

    Parameters
    ----------
    model : SDModel
        What the network stands for. Its terms of the spins alone are added exactly.
    environment : Environment
        Which descriptor the network reads: ``MomentEnvironment.for_model(model, radius, n_steps)``
        on any lattice, SymmetryEnvironment and RawBondEnvironment on the square and the triangular
        one, or one of your own. A model without a symmetry that it assumes is refused.
    hidden_widths : sequence of int
        Widths of the hidden layers of the network F - ... - 2.
    seed : int
        Seed of the initial weights.
    grand_canonical : bool
        The network reads the chemical potential too, which follows from the model's filling.

    Notes
    -----
    Unless :meth:`on` names the lattice, N spins live on ``model.lattice``, that of the training, if
    it has N sites, and else on the periodic lattice of L x L of its cells, L = sqrt(N) where a cell
    has one site. Lattices with a side below :attr:`least_length` are refused: 12, or that of the
    training lattice if it is shorter. The network computes in the dtype of its weights: float32,
    float64 after ``.double()``.
    """

    feature_scale: Tensor
    output_mean: Tensor
    output_scale: Tensor
    mu_range: Tensor
    compressibility: Tensor
    whitening: Tensor | None
    network: nn.Sequential

    def __init__(
        self,
        model: SDModel,
        environment: Environment,
        hidden_widths: Sequence[int] = (64, 32),
        seed: Seed = 0,
        grand_canonical: bool = False,
    ) -> None:
        super().__init__()
        if not model.lattice.is_a(environment.kind):
            raise ValueError(
                f"environment: kind {environment.kind!r} on a {model.lattice.name!r} lattice with "
                f"the vectors {model.lattice.vectors} and {model.lattice.n_basis} sites a cell"
            )
        broken = model.broken_symmetries
        if broken := broken & set(getattr(environment, "assumes", broken)):
            raise ValueError(
                f"environment: {type(environment).__name__} assumes {', '.join(sorted(broken))}, "
                f"which hops of the model break, got {model.hops}"
            )
        if isinstance(environment, MomentEnvironment):
            _require_same_electrons(model, environment)
        if not hidden_widths or any(n < 1 for n in hidden_widths):
            raise ValueError(f"hidden_widths: must be positive integers, got {hidden_widths}")
        if grand_canonical and not 0 < (model.filling or 0) < 1:
            raise ValueError(
                f"grand_canonical: True needs a model of filling in (0, 1), got {model.filling}"
            )
        self.model, self.grand_canonical = model, bool(grand_canonical)
        self.hidden_widths = tuple(int(n) for n in hidden_widths)
        self.card: dict[str, Any] = {}
        self.descriptor = environment.descriptor()
        n_inputs = self.descriptor.n_features + self.grand_canonical
        self.network = _perceptron([n_inputs, *self.hidden_widths, 2], seed)
        for name, size in (("feature_mean", n_inputs), ("output_mean", 2)):
            self.register_buffer(name, torch.zeros(size))
            self.register_buffer(name.replace("mean", "scale"), torch.ones(size))
        self.register_buffer("mu_range", torch.tensor([-1.0, 1.0]))
        self.register_buffer("compressibility", torch.tensor(0.0))
        self.register_buffer("whitening", None)  # released weights may be without
        self._lattice: Lattice | None = None
        self._follows = False
        self._known: equilibration.Known | None = None

    def for_steps(self) -> "ForceField":
        """A :meth:`view` for the steps of one run: its search for mu starts from the last one.

        mu is found to the same tolerance as otherwise, see :func:`equilibration.followed`.
        :func:`sdml.dynamics.evolve` asks for one whenever it begins.
        """
        other = self.view()
        other._follows, other._known = True, None
        return other

    def placed(self, lattice: Lattice) -> "ForceField":
        trained = self.model.lattice
        if not lattice.same_crystal(trained):
            raise ValueError(
                f"lattice: must have the vectors {trained.vectors} and the basis {trained.basis} "
                f"of the {trained.name} lattice, got {lattice.vectors} and {lattice.basis} "
                f"({lattice.name})"
            )
        other = self.view()
        other._lattice = dataclasses.replace(lattice, name=trained.name)
        return other

    def lattice_of(self, n_sites: int) -> Lattice:
        trained = self.model.lattice
        known = self._lattice or trained
        if n_sites == known.n_sites:
            return known
        if self._lattice is not None:
            raise ValueError(f"spins: the lattice has {known.n_sites} sites, got {n_sites}")
        length = math.isqrt(n_sites // trained.n_basis)
        if length < 1 or length**2 * trained.n_basis != n_sites:
            raise ValueError(
                f"spins: N must be {trained.n_basis} L^2 (L x L cells) or {trained.n_sites}, got "
                f"{n_sites}; or use .on()"
            )
        return self._long_enough(dataclasses.replace(trained, shape=(length, length)), "spins")

    def features(self, spins: Tensor) -> Tensor:
        n_sites, device = spins.shape[-2], spins.device

        def table() -> Tensor:
            return self.descriptor.neighbor_table(self.lattice_of(n_sites)).to(device)

        return self.descriptor(spins, self.kept((n_sites, device), table))

    def site_outputs(self, first_layer: Tensor, mu: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Local energies eps or potentials omega (..., N), and longitudinal fields m (..., N).

        Parameters
        ----------
        first_layer : (..., N, width)
            See :meth:`first_layer`.
        mu : (..., 1) or (..., N), optional
            Of a grand-canonical force field, and of no other.
        """
        value = first_layer
        if mu is not None:
            shift = mu - self.feature_mean[-1]
            value = value + shift.unsqueeze(-1) * self._mu_column()
        for layer in list(self.network)[1:]:
            value = layer(value)
        outputs = value * self.output_scale + self.output_mean
        if mu is None:
            return outputs[..., 0], outputs[..., 1]
        # The mean density is right from the start and rises with mu; the network learns the rest.
        start = self._electrons_per_site * shift + 0.5 * self.compressibility * shift**2
        return outputs[..., 0] - start, outputs[..., 1]

    @property
    def _electrons_per_site(self) -> float:
        return 2 * float(self.model.filling or 0)

    def electron_energy(self, features: Tensor, square: Tensor, mu: Tensor | None = None) -> Tensor:
        first_layer = self.first_layer(features)
        if self.grand_canonical and mu is None:
            mu = self._equilibrated(first_layer)[..., None]
        local, longitudinal = self.site_outputs(first_layer, mu)
        if mu is not None:
            local = local + self._electrons_per_site * mu
        return (local - 0.5 * longitudinal * (square - 1)).sum(-1)

    @torch.no_grad()
    def _equilibrated(self, first_layer: Tensor) -> Tensor:
        """The chemical potential (...) at which the densities sum to the number of electrons."""
        low, high = (x.expand(first_layer.shape[:-2]) for x in self.mu_range.unbind())
        sample = None
        if (n_sites := first_layer.shape[-2]) >= SAMPLED_FROM:
            stride = max(LEAST_STRIDE, n_sites // SAMPLED_FROM)
            sample = functools.partial(self._excess, first_layer[..., ::stride, :])
        excess = functools.partial(self._excess, first_layer)
        tolerance = CHARGE_TOLERANCE[self.dtype]
        search = functools.partial(
            equilibration.chemical_potential, excess, low, high, tolerance, sample
        )
        if not self._follows:
            return search()
        self._known = equilibration.followed(self._known, excess, search, tolerance)
        return self._known.mu

    def _excess(self, first_layer: Tensor, mu: Tensor) -> Tensor:
        """Mean density (...) less the number of electrons per site."""
        density = self._density(first_layer, mu)
        return density.mean(-1, dtype=torch.float64).to(mu) - self._electrons_per_site

    def first_layer(self, features: Tensor) -> Tensor:
        """What the first layer makes of features (..., N, F), (..., N, width): alike for all mu."""
        n = self.descriptor.n_features
        weight, bias = (self.network.get_parameter(f"0.{name}") for name in ("weight", "bias"))
        scaled = weight[:, :n] / self.feature_scale[:n]
        return nn.functional.linear(features - self.feature_mean[:n], scaled, bias)

    def _mu_column(self) -> Tensor:
        """(width,) the slope of the first layer in mu."""
        return self.network.get_parameter("0.weight")[:, -1] / self.feature_scale[-1]

    def _density(self, first_layer: Tensor, mu: Tensor) -> Tensor:
        """The density by forward mode: value and slope of every layer."""
        slope = self._mu_column()
        value = first_layer + (mu - self.feature_mean[-1])[..., None, None] * slope
        for layer in list(self.network)[1:]:
            if isinstance(layer, nn.SiLU):
                gate = torch.sigmoid(value)
                value = value * gate
                slope = slope * (gate + value - value * gate)
            else:
                value = layer(value)
                slope = nn.functional.linear(slope, layer.get_parameter("weight"))
        start = self._electrons_per_site + self.compressibility * (mu - self.feature_mean[-1])
        return start[..., None] - slope[..., 0] * self.output_scale[0]

    def site_energies(self, features: Tensor) -> Tensor:
        first_layer = self.first_layer(features)
        if not self.grand_canonical:
            return self.site_outputs(first_layer)[0]
        mu = self._equilibrated(first_layer)
        local, _ = self.site_outputs(first_layer, mu[..., None])
        return local + mu[..., None] * self._density(first_layer, mu)

    def density(self, spins: Any) -> Any:
        """Electrons on every site, (..., N), of a grand-canonical force field."""
        return self._checked(lambda s: self._density(*self._filled(s)), spins)

    def chemical_potential(self, spins: Any) -> Any:
        """mu (...) of a grand-canonical force field."""
        return self._checked(lambda s: self._filled(s)[1], spins)

    def _filled(self, spins: Tensor) -> tuple[Tensor, Tensor]:
        """First layer (..., N, width) and chemical potential (...)."""
        if not self.grand_canonical:
            raise ValueError(
                "density, chemical_potential: need a grand-canonical force field, this one is not"
            )
        first_layer = self.first_layer(self.features(spins))
        return first_layer, self._equilibrated(first_layer)

    def feature_distance(self, features: Tensor) -> Tensor:
        if self.whitening is None:
            raise ValueError(
                "extrapolation: the force field holds no spread of its training features, "
                "got whitening = None; train it anew"
            )
        n = self.descriptor.n_features  # a grand-canonical network has one more input
        standardized = (features - self.feature_mean[:n]) / self.feature_scale[:n]
        return torch.linalg.vector_norm(standardized @ self.whitening, dim=-1)

    def standardize(
        self,
        spins: Tensor,
        energies: Tensor,
        longitudinal: Tensor,
        mu: Tensor | None = None,
    ) -> None:
        """Fix the scales of input and output from training data.

        Parameters
        ----------
        spins : (n, N, 3)
        energies : (n,)
            Total energies; their mean per site becomes the offset of eps.
        longitudinal : (n, N)
            h . S; mean and deviation scale the second output.
        mu : (n,), optional
            Chemical potentials, needed by a grand-canonical force field.
        """
        with torch.no_grad():
            features = self.features(spins.to(self.feature_mean)).flatten(0, -2)
            mean, scale = features.mean(0), features.std(0).clamp_min(1e-3)
            self.whitening = _whitening((features - mean) / scale)
            offset = (energies / spins.shape[-2]).mean()
            if self.grand_canonical:
                assert mu is not None  # training requires it
                offset = offset - self._electrons_per_site * mu.mean()
                mean = torch.cat([mean, mu.mean()[None]])
                scale = torch.cat([scale, mu.std(correction=0).clamp_min(0.1)[None]])
                self.mu_range.copy_(torch.stack([mu.min(), mu.max()]))
                self.compressibility.fill_(COMPRESSIBILITY)
            self.feature_mean.copy_(mean)
            self.feature_scale.copy_(scale)
            self.output_mean.copy_(torch.stack([offset, longitudinal.mean()]))
            # The energy scale matches the longitudinal one: both come from the same exchange.
            self.output_scale.copy_(longitudinal.std().clamp_min(1e-3).expand(2))


def _whitening(standardized: Tensor) -> Tensor:
    """W (F, F) with |z W| the Mahalanobis distance over its largest value among the rows (n, F)."""
    rows = standardized.split(1 << 14)  # in double precision all rows at once would be large
    products = torch.stack([z.double().T @ z.double() for z in rows])
    variances, axes = torch.linalg.eigh(products.sum(0) / len(standardized))
    whitening = (axes * (variances.clamp_min(0) + VARIANCE_FLOOR).rsqrt()).to(standardized)
    farthest = max(float(torch.linalg.vector_norm(z @ whitening, dim=-1).max()) for z in rows)
    return (whitening / max(farthest, 1.0)).contiguous()


def _require_same_electrons(model: SDModel, environment: MomentEnvironment) -> None:
    """ValueError unless the moments are those of the model's Hamiltonian."""
    expected = MomentEnvironment.for_model(model, environment.radius, environment.n_steps)
    for name in ("exchange_coupling", "hopping"):
        if getattr(environment, name) != getattr(expected, name):
            raise ValueError(
                f"environment: {name} must be that of the model, {getattr(model, name)}, got "
                f"{getattr(environment, name) or 1.0}; MomentEnvironment.for_model makes it"
            )


def _perceptron(widths: Sequence[int], seed: Seed) -> nn.Sequential:
    """Linear layers with SiLU between them (smooth: fields and their training need gradients)."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_number(seed))
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def save(forcefield: ForceField, path: str | os.PathLike[str]) -> None:
    """Write weights and description as one safetensors file, atomically.

    The description holds the model, the environment, the widths and the card; a SHA-256 covers it
    and the weights. ValueError if a weight is not finite.
    """
    require_finite(forcefield.state_dict(), "forcefield")
    write_tensors(path, *_packed(forcefield))


def require_finite(tensors: dict[str, Tensor], argument: str) -> None:
    """ValueError that names the weights which are nan or infinite."""
    if bad := [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]:
        raise ValueError(f"{argument}: weights must be finite, got nan or infinity in {bad}")


def checksum(forcefield: ForceField) -> str:
    """SHA-256 of weights and description, the one that :func:`save` writes."""
    return digest(*_packed(forcefield))


def _packed(forcefield: ForceField) -> tuple[str, dict[str, Tensor]]:
    environment = forcefield.descriptor.environment
    # What is empty is left out: the checksum of weights that know no hopping stays what it was.
    fields = {k: v for k, v in dataclasses.asdict(environment).items() if v != ()}
    description = {
        "format": FILE_FORMAT,
        "model": describe(forcefield.model),
        "environment": {"type": type(environment).__name__, **fields},
        "hidden_widths": forcefield.hidden_widths,
        "grand_canonical": forcefield.grand_canonical,
        "card": forcefield.card,
    }
    return json.dumps(description), forcefield.state_dict()


def load(name_or_path: str | os.PathLike[str]) -> ForceField:
    """A released force field by name ('triangular', 'square') or one saved by :func:`save`.

    Raises
    ------
    ValueError
        Unknown name, missing, truncated, altered or foreign file, or weights that are not finite.
        Nothing is unpickled.
    """
    path = locate(name_or_path)
    description, tensors = read_tensors(path, FILE_FORMAT, "force field")
    require_finite(tensors, f"path: {path.name!r}")
    try:
        fields = dict(description["environment"])
        forcefield = ForceField(
            from_description(description["model"]),
            ENVIRONMENTS[fields.pop("type")](**fields),
            description["hidden_widths"],
            grand_canonical=description["grand_canonical"],
        )
        if "whitening" in tensors:
            n_features = forcefield.descriptor.n_features
            forcefield.whitening = torch.zeros(n_features, n_features)
        forcefield.to(tensors["feature_mean"].dtype).load_state_dict(tensors)
        forcefield.card = description["card"]
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"path: {path.name!r} is incomplete or does not fit ({error})") from error
    return forcefield


def locate(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of a released force field or the path itself; ValueError if there is none."""
    for path in (Path(name_or_path), files.weights() / f"{name_or_path}.safetensors"):
        if path.is_file():
            return path
    names = sorted(p.stem for p in files.weights().glob("*.safetensors"))
    raise ValueError(
        f"name_or_path: must be one of {names} or a file, got {os.fspath(name_or_path)!r}"
    )
