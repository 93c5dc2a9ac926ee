"""Classical unit spins as arrays of shape (..., N, 3): guard, make, rotate, project.

Every array that enters the package passes through :func:`as_tensor`, and every result that leaves
it through :func:`like`, so that numpy in gives numpy out and tensor in gives tensor out.
"""

import operator
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SpinArray = NDArray[Any] | Tensor
Seed = int | np.random.Generator | torch.Generator
UNIT_TOLERANCE = 1e-5


class Cells(Protocol):
    """What a texture needs to know of a lattice (see :class:`sdml.lattice.Lattice`)."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def cells(self) -> NDArray[np.int64]: ...
    @property
    def reduced_cells(self) -> NDArray[np.int64]: ...
    @property
    def n_sites(self) -> int: ...
    @property
    def orientation(self) -> int: ...


def as_tensor(spins: SpinArray, n_sites: int | None = None, argument: str = "spins") -> Tensor:
    """The spins as a floating tensor, after the guard every public function shares.

    Parameters
    ----------
    spins : array or tensor, (..., N, 3)
        Unit vectors, accepted with ``abs(|S| - 1) <= 1e-5``.
    n_sites : int, optional
        Required N.
    argument : str
        Name used in the error.

    Raises
    ------
    ValueError
        Wrong shape, not finite, or not of unit length.
    """
    tensor = _shaped(_floating(spins, argument), n_sites, argument)
    deviation = (torch.linalg.vector_norm(tensor.detach().double(), dim=-1) - 1).abs()
    worst = float(deviation.max()) if deviation.numel() else 0.0
    if not worst <= UNIT_TOLERANCE:
        raise ValueError(
            f"{argument}: every spin must be finite and have |S| = 1 within {UNIT_TOLERANCE:g}, "
            f"the largest deviation is {worst:.3g}"
        )
    return tensor


def one_configuration(spins: SpinArray, n_sites: int) -> Tensor:
    """Spins (N, 3) as :func:`as_tensor` has them, without gradient; ValueError for a batch."""
    s = as_tensor(spins, n_sites).detach()
    if s.ndim != 2:
        raise ValueError(f"spins: one configuration (N, 3) is needed, got {tuple(s.shape)}")
    return s


def vectors_as_tensor(vectors: SpinArray, n_sites: int | None, argument: str) -> Tensor:
    """A finite (..., N, 3) array of any length as a floating tensor; ValueError for another."""
    return _shaped(real_tensor(vectors, argument), n_sites, argument)


def _shaped(tensor: Tensor, n_sites: int | None, argument: str) -> Tensor:
    if tensor.ndim < 2 or tensor.shape[-1] != 3 or n_sites not in (None, tensor.shape[-2]):
        expected = "N" if n_sites is None else n_sites
        raise ValueError(
            f"{argument}: shape must be (..., {expected}, 3), got {tuple(tensor.shape)}"
        )
    return tensor


def real_tensor(values: Any, argument: str) -> Tensor:
    """Finite real numbers of any shape as a floating tensor.

    float32 and float64 stay what they are; integers, float16 and longer floats become float64.
    Shares memory with a numpy array where torch can.

    Raises
    ------
    ValueError
        Complex numbers, text, ragged lists, a masked array with a set mask, nan or infinity; names
        the argument.
    """
    tensor = _floating(values, argument)
    if not bool(torch.isfinite(tensor.detach()).all()):
        n_bad = int((~torch.isfinite(tensor.detach())).sum())
        raise ValueError(f"{argument}: must be finite, got {n_bad} nan or infinite values")
    return tensor


def _floating(values: Any, argument: str) -> Tensor:
    """As of :func:`real_tensor`, nan and infinity included."""
    if not isinstance(values, Tensor):
        values = torch.as_tensor(real_array(values, argument))
    if values.is_complex():
        raise ValueError(f"{argument}: must be real numbers, got {values.dtype}")
    return values if values.dtype in (torch.float32, torch.float64) else values.to(torch.float64)


def real_array(values: Any, argument: str) -> NDArray[Any]:
    """Real numbers as an array that torch can take as it is; ValueError as of :func:`real_tensor`.

    nan and infinity are let in.
    """
    if np.ma.is_masked(values):
        n_masked = np.ma.count_masked(values)
        raise ValueError(f"{argument}: must have no masked values, got {n_masked}")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{argument}: must be an array of real numbers ({error})") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{argument}: must be real numbers, got {array.dtype}")
    # Torch knows neither the other order of bytes nor floats of more than 64 bits.
    known = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.dtype(np.float64)
    # It takes neither negative strides nor, without a warning, read-only memory.
    return np.require(array, known, requirements=["C", "W"])


def like(result: Tensor, example: SpinArray) -> Any:
    """``result`` as a numpy array if ``example`` is one, else unchanged."""
    if isinstance(example, Tensor):
        return result
    return result.detach().cpu().numpy()[()]


def not_reproduced(
    stored: Mapping[str, Any],
    evaluate: Callable[[], Mapping[str, Any]],
    relative: float,
    scales: Mapping[str, Any] | None = None,
) -> list[str]:
    """Names of stored arrays that come out as others, by more than rounding and their own noise.

    ``relative`` is the root mean square difference by rounding, in that of the array itself or of
    ``scales``. What differs is evaluated twice: it may be noise that differs from call to call.
    """
    now = evaluate() if stored else {}
    sizes = {name: relative * rms((scales or stored)[name]) for name in stored}
    apart = [name for name, values in stored.items() if differ(values, now[name], sizes[name])]
    again = evaluate() if apart else {}
    # One difference tells little of the noise of a few numbers.
    times = {name: 5 + 100 / max(np.size(now[name]), 1) for name in apart}
    return [k for k in apart if differ(stored[k], now[k], times[k] * rms(again[k], now[k]))]


def differ(stored: Any, now: Any, tolerance: float) -> bool:
    """Whether the root mean square difference is larger; infinite values and nan must agree."""
    finite = np.isfinite(stored)
    if stored.shape != now.shape or not np.array_equal(stored[~finite], now[~finite], True):
        return True
    return not rms(stored[finite], now[finite]) <= max(tolerance, 1e-9)


def rms(values: Any, origin: Any = 0.0) -> float:
    """Root mean square of the finite differences from an origin, 0 without any."""
    with np.errstate(invalid="ignore"):  # infinite both
        distance = np.abs(np.asarray(values) - origin)
    finite = distance[np.isfinite(distance)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0


def normalize(vectors: SpinArray) -> Any:
    """v / |v| for vectors (..., 3); ValueError for a vector of length 0 or not finite."""
    tensor = real_tensor(vectors, "vectors")
    if tensor.ndim < 1 or tensor.shape[-1] != 3:
        raise ValueError(f"vectors: shape must be (..., 3), got {tuple(tensor.shape)}")
    norm = torch.linalg.vector_norm(tensor, dim=-1, keepdim=True)
    if not bool((torch.isfinite(norm) & (norm > 0)).all()):
        raise ValueError("vectors: every vector must be finite and of nonzero length")
    return like(tensor / norm, vectors)


def transverse(spins: SpinArray, field: SpinArray) -> Any:
    """The part of a field that turns the spins, h - (h.S) S, shape (..., N, 3)."""
    s, h = as_tensor(spins), vectors_as_tensor(field, None, "field")
    return like(transverse_part(s, h), spins)


def transverse_part(spins: Any, field: Any) -> Any:
    """The body of :func:`transverse`: two arrays or two tensors, not checked."""
    return field - (field * spins).sum(-1)[..., None] * spins


def torque(spins: SpinArray, field: SpinArray) -> Any:
    """S x h, shape (..., N, 3). Same length as the transverse field."""
    s, h = as_tensor(spins), vectors_as_tensor(field, None, "field")
    return like(torch.linalg.cross(s, h.to(s)), spins)


def seed_number(seed: Seed) -> int:
    """A seed as a plain number: itself, or the next one that a generator draws.

    ValueError for what is neither a whole number nor a generator of torch or numpy.
    """
    if isinstance(seed, torch.Generator):
        return int(torch.randint(2**63 - 1, (), generator=seed, device=seed.device))
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**63 - 1))
    try:
        return operator.index(None if isinstance(seed, bool) else seed)  # type: ignore[arg-type]
    except TypeError as error:
        allowed = "a whole number, or a generator of torch or numpy"
        raise ValueError(f"seed: must be {allowed}, got {seed!r}") from error


def random_source(seed: Any) -> np.random.Generator:
    """numpy's source of a seed; a generator goes on. As of numpy, other seeds are taken too."""
    number = isinstance(seed, (bool, Tensor, torch.Generator))
    try:
        return np.random.default_rng(seed_number(seed) if number else seed)
    except (TypeError, ValueError) as error:
        allowed = "a whole number >= 0, or a generator of torch or numpy"
        raise ValueError(f"seed: must be {allowed}, got {seed!r}") from error


def random(n_sites: int, seed: Seed | None) -> NDArray[np.float64]:
    """Independent spins, uniform on the sphere, (N, 3); ValueError for no site."""
    if n_sites < 1:
        raise ValueError(f"n_sites: must be at least 1, got {n_sites}")
    vectors = random_source(seed).standard_normal((n_sites, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def perturbed(spins: SpinArray, amplitude: float, seed: Seed | None) -> NDArray[np.float64]:
    """Spins with normal noise of the given amplitude on each component, renormalised.

    A cheap stand-in for a thermal state: amplitude 0.1 turns every spin by about 8 degrees.
    """
    base = as_tensor(spins).detach().cpu().double().numpy()
    noise = random_source(seed).standard_normal(base.shape)
    return normalize(base + amplitude * noise)


def random_rotation(seed: Seed | None, proper: bool = True) -> NDArray[np.float64]:
    """A 3 x 3 orthogonal matrix, uniform (Haar) on SO(3), or on O(3) \\ SO(3) if not proper."""
    q, r = np.linalg.qr(random_source(seed).standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q)) * (1.0 if proper else -1.0)


def rotate(spins: SpinArray, rotation: SpinArray) -> Any:
    """All spins turned by one orthogonal 3 x 3 matrix: S_i -> R S_i; ValueError for another."""
    s = as_tensor(spins)
    matrix = real_tensor(rotation, "rotation").to(s)
    if matrix.shape != (3, 3):
        raise ValueError(f"rotation: shape must be (3, 3), got {tuple(matrix.shape)}")
    if not float((matrix @ matrix.T - torch.eye(3).to(s)).abs().max()) <= UNIT_TOLERANCE:
        raise ValueError(f"rotation: must be orthogonal, got {matrix.tolist()}")
    return like(s @ matrix.T, spins)


def ferromagnetic(lattice: Cells, direction: tuple[float, float, float] = (0, 0, 1)) -> Any:
    """All spins along ``direction``, (N, 3)."""
    return np.tile(normalize(np.array([direction], dtype=float)), (lattice.n_sites, 1))


def neel(lattice: Cells) -> NDArray[np.float64]:
    """S = (-1)^(x+y) z on the square lattice, wave vector (pi, pi).

    ValueError for another lattice, or an odd number of cells along a1 or a2.
    """
    _require(lattice, "square", "neel", multiple=2)
    return _signs(lattice.reduced_cells, (1, 1))[:, None] * np.array([0.0, 0.0, 1.0])


def stripe(lattice: Cells) -> NDArray[np.float64]:
    """Collinear single-Q stripe: the sign alternates from row to row along a2, wave vector b2/2.

    ValueError for an odd number of cells along a1 or a2.
    """
    _require(lattice, None, "stripe", multiple=2)
    return _signs(lattice.cells, (0, 1))[:, None] * np.array([0.0, 0.0, 1.0])


def coplanar_120(lattice: Cells) -> NDArray[np.float64]:
    """Three-sublattice 120 degree order in the xy plane of the triangular lattice.

    ValueError for another lattice, or cells along a1 or a2 that are no multiple of three.
    """
    _require(lattice, "triangular", "coplanar_120", multiple=3)
    # Neighbours along a1, a2 and a2 - a1 must differ by 120 degrees: sublattice n1 - n2 mod 3.
    angle = 2 * np.pi / 3 * lattice.orientation * np.diff(-lattice.reduced_cells)[:, 0]
    return np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=-1)


def coplanar_90(lattice: Cells) -> NDArray[np.float64]:
    """Coplanar double-Q order: two of the three M-point waves, spins at 90 degrees (triangular).

    ValueError for another lattice, or an odd number of cells along a1 or a2.
    """
    _require(lattice, "triangular", "coplanar_90", multiple=2)
    waves = [_signs(lattice.reduced_cells, m) for m in ((1, 0), (0, 1))]
    return np.stack([*waves, np.zeros(lattice.n_sites)], axis=-1) / np.sqrt(2)


def tetrahedral(lattice: Cells, chirality: int = 1) -> NDArray[np.float64]:
    """Four-sublattice triple-Q order: S = (cos M1.r, cos M2.r, cos M3.r) / sqrt(3) (triangular).

    The spins point to the corners of a tetrahedron; every triangle has the scalar chirality
    ``chirality`` * 4 / (3 sqrt 3). Martin and Batista, Phys. Rev. Lett. 101, 156402 (2008),
    doi 10.1103/PhysRevLett.101.156402. ValueError for another lattice, an odd number of cells along
    a1 or a2, or a chirality other than 1 and -1.
    """
    _require(lattice, "triangular", "tetrahedral", multiple=2)
    if chirality not in (-1, 1):
        raise ValueError(f"chirality: must be 1 or -1, got {chirality}")
    waves = [_signs(lattice.reduced_cells, m) for m in ((1, 0), (0, 1), (1, 1))]
    # Exchanged vectors exchange two waves, which is a mirror.
    return -chirality * lattice.orientation * np.stack(waves, axis=-1) / np.sqrt(3)


TEXTURES: dict[str, Callable[[Cells], NDArray[np.float64]]] = {
    order.__name__: order
    for order in (ferromagnetic, neel, stripe, coplanar_120, coplanar_90, tetrahedral)
}
"""Ordered spins (N, 3) of a lattice, by name."""
STARTS = ("random", *TEXTURES)


def start(name: str, lattice: Cells, seed: Seed) -> NDArray[np.float64]:
    """Spins (N, 3) from which a run begins: ``random`` ones of the seed, or a texture by name.

    ValueError for a name that is unknown, and for a texture that does not fit on the lattice.
    """
    if name not in STARTS:
        raise ValueError(f"start: must be one of {STARTS}, got {name!r}")
    return random(lattice.n_sites, seed) if name == "random" else TEXTURES[name](lattice)


def textures(lattice: Cells, seed: Seed = 0) -> dict[str, NDArray[np.float64]]:
    """Name -> spins (N, 3): random ones, and every texture that ``lattice`` can hold."""
    found = {}
    for name in STARTS:
        with suppress(ValueError):  # another lattice, or lengths that do not fit
            found[name] = start(name, lattice, seed)
    return found


def _signs(cells: NDArray[np.int64], wave: tuple[int, int]) -> NDArray[np.float64]:
    """cos(Q.r) for Q = (wave . reciprocal vectors) / 2: a sign for every site."""
    return 1.0 - 2.0 * ((cells @ np.array(wave)) % 2)


def _require(lattice: Cells, name: str | None, texture: str, multiple: int) -> None:
    if name is not None and (lattice.name != name or lattice.n_sites != np.prod(lattice.shape)):
        needs = f"{texture} order needs a {name} lattice of one site a cell"
        raise ValueError(f"lattice: {needs}, got {lattice.name!r} with {lattice.n_sites} sites")
    if any(length % multiple for length in lattice.shape):
        raise ValueError(
            f"lattice: {texture} order needs lengths divisible by {multiple}, got {lattice.shape}"
        )
