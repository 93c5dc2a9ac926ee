"""Draw given arrays in true lattice geometry: maps, curves, diagrams, and sliders beside them."""

from sdml.plotting import curves, diagrams, explorers, maps, style, widgets
from sdml.plotting.curves import *  # noqa: F403
from sdml.plotting.diagrams import *  # noqa: F403
from sdml.plotting.explorers import *  # noqa: F403
from sdml.plotting.maps import *  # noqa: F403
from sdml.plotting.style import *  # noqa: F403
from sdml.plotting.widgets import *  # noqa: F403

PARTS = (style, maps, curves, diagrams, widgets, explorers)
__all__ = [name for part in PARTS for name in part.__all__]
