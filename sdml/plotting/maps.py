"""Draw given arrays on given axes in true lattice geometry: maps of sites, discs and arrows.

Every function returns the artist that carries the colors; no physics is computed here.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from numpy.typing import NDArray
from scipy.spatial import Voronoi

from sdml.lattice import Lattice
from sdml.observables import TETRAHEDRAL_CHIRALITY, site_values
from sdml.plotting.style import DIVERGING, SEQUENTIAL, Style, unframed
from sdml.spins import real_tensor

__all__ = [
    "chirality_map",
    "correlation_map",
    "density_map",
    "environment",
    "momentum_map",
    "site_map",
    "spins_around",
    "spins_on_map",
    "wrapped_positions",
]

FloatArray = NDArray[np.float64]
ORDERED = round(float(TETRAHEDRAL_CHIRALITY), 2)
"""Where the scale of chirality ends: 4 / (3 sqrt 3), tetrahedral order, in two digits."""
LARGE = 10_000
"""Sites from which on a map is too slow to draw, and too large to keep, as vectors."""


def wrapped_positions(lattice: Lattice) -> FloatArray:
    """Positions (N, 2) moved by periods into a rectangle that stands on the first period Lx a1."""
    period = lattice.shape[0] * np.array(lattice.vectors[0])
    turns = np.floor(lattice.positions @ period / (period @ period) + 1e-9)
    return lattice.positions - turns[:, None] * period


# --- numbers on sites


def site_map(axes: Axes, lattice: Lattice, values: NDArray[Any], **style: Any) -> PolyCollection:
    """Values (N,) as filled cells: the points of the plane closest to a site have its color.

    Cells of masked values, nan and infinity stay blank. Large maps are pixels in a PDF, which has
    vectors else. ValueError for values that are not real numbers, one a site.
    """
    outlines = [_cell_outline(lattice, b) for b in range(lattice.n_basis)]
    places = zip(wrapped_positions(lattice), lattice.sublattices, strict=True)
    cells = [place + outlines[b] for place, b in places]
    style = {"linewidths": 0.3, "rasterized": len(cells) > LARGE} | style
    artist = PolyCollection(cells, array=_shown(lattice, values), **style)
    artist.set_edgecolor("face")
    axes.add_collection(artist)
    unframed(axes, margin=0)
    return artist


def _shown(lattice: Lattice, values: Any) -> NDArray[Any]:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        return site_values(lattice, values, batch=()).numpy(force=True)
    shown = np.ma.masked_invalid(values)
    site_values(lattice, shown.filled(0), batch=())
    return shown


def _cell_outline(lattice: Lattice, basis: int) -> FloatArray:
    """Corners (k, 2) of the Voronoi cell about a site of the basis, counter-clockwise from +x."""
    # No point of the plane is farther than this from a site.
    radius = np.linalg.norm(lattice.reduced_vectors, axis=-1).sum()
    around = lattice.displacements(2 * radius, basis)[1] / lattice.spacing
    voronoi = Voronoi(np.concatenate([np.zeros((1, 2)), around]))
    corners = voronoi.vertices[voronoi.regions[voronoi.point_region[0]]]
    angle = np.round(np.arctan2(corners[:, 1], corners[:, 0]), 9) % (2 * np.pi)
    # Where more than three cells meet a corner comes several times.
    _, first = np.unique(angle, return_index=True)
    return corners[first] * lattice.spacing


def chirality_map(axes: Axes, lattice: Lattice, chirality: NDArray[Any]) -> PolyCollection:
    """Site chirality on a diverging scale that saturates at tetrahedral order."""
    return site_map(axes, lattice, chirality, cmap=DIVERGING, clim=(-ORDERED, ORDERED))


def correlation_map(axes: Axes, lattice: Lattice, correlation: NDArray[Any]) -> PolyCollection:
    """Mean S_i . S_j of a site with its neighbors on a diverging scale, -1 to 1."""
    return site_map(axes, lattice, correlation, cmap=DIVERGING, clim=(-1, 1))


def density_map(axes: Axes, lattice: Lattice, density: NDArray[Any]) -> PolyCollection:
    """Electrons per site on a sequential scale, holes dark."""
    return site_map(axes, lattice, density, cmap="magma", clim=(0.4, 1.05))


def momentum_map(axes: Axes, lattice: Lattice, values: NDArray[Any]) -> Any:
    """Finite numbers (n_cells,) on the momenta of a lattice, as colored hexagons."""
    q = np.round(lattice.momenta * lattice.spacing, 6) / lattice.spacing
    values = real_tensor(values, "values").numpy(force=True)
    artist = axes.scatter(q[:, 0], q[:, 1], c=values, s=9, marker="h", cmap=SEQUENTIAL)
    axes.set(aspect="equal", xlabel="$q_x$", ylabel="$q_y$")
    return artist


def environment(
    axes: Axes, vectors: FloatArray, values: FloatArray, title: str = "", limit: float | None = None
) -> Any:
    """Numbers on the sites (K, 2) around a center as colored discs, scale -limit ... limit."""
    limit = limit or max(float(np.abs(values).max()), 1e-12)
    x, y = vectors.T
    style: Style = {"s": 180, "edgecolors": "0.4", "clip_on": False}
    artist = axes.scatter(x, y, c=values, cmap=DIVERGING, clim=(-limit, limit), **style)
    axes.plot(0, 0, "k+")
    unframed(axes, title=title)
    return artist


# --- spins


def arrows(
    axes: Axes, places: FloatArray, spins: FloatArray, cmap: str = SEQUENTIAL, **style: Any
) -> Any:
    """Spins (n, 3) at places (n, 2): arrows for x and y, color for z."""
    fixed: Style = {"pivot": "mid", "clim": (-1, 1), "angles": "xy", "scale_units": "xy"}
    return axes.quiver(*places.T, *spins.T, cmap=cmap, **fixed, **style)


def spins_around(axes: Axes, vectors: FloatArray, spins: FloatArray, title: str = "") -> Any:
    """Spins (1 + K, 3) on a center and the sites (K, 2) around it: arrows for x and y, color z."""
    places = np.concatenate([np.zeros((1, 2)), vectors])
    axes.scatter(places[:, 0], places[:, 1], s=12, color="0.8")
    axes.plot(0, 0, "o", ms=15, mfc="none", mec="0.6", mew=0.8)
    artist = arrows(axes, places, spins, scale=1.3, width=0.02, ec="0.2", lw=0.3)
    unframed(axes, title=title)
    return artist


def spins_on_map(
    axes: Axes, places: FloatArray, spins: FloatArray, chirality: FloatArray, title: str = ""
) -> Any:
    """Spins (n, 3) at places (n, 2) over their chirality (n,): arrows for x and y, grey for z."""
    x, y = places.T
    cells: Style = {"marker": "h", "s": 260, "alpha": 0.7, "lw": 0}
    axes.scatter(x, y, c=chirality, cmap=DIVERGING, clim=(-ORDERED, ORDERED), **cells)
    heads: Style = {"headwidth": 3, "headlength": 3.5, "headaxislength": 3.2, "ec": "k", "lw": 0.3}
    artist = arrows(axes, places, spins, "Greys_r", scale=1.25, width=0.012, **heads)
    unframed(axes, title=title)
    return artist
