"""Draw given arrays in true lattice geometry: maps, curves, diagrams, and sliders beside them."""

from sdml.plotting import curves, diagrams, explorers, maps, style, widgets
from sdml.plotting.curves import *  # noqa: F403
from sdml.plotting.diagrams import *  # noqa: F403
from sdml.plotting.explorers import *  # noqa: F403
from sdml.plotting.maps import *  # noqa: F403
from sdml.plotting.style import *  # noqa: F403
from sdml.plotting.widgets import *  # noqa: F403

__all__ = [
    *style.__all__,
    *maps.__all__,
    *curves.__all__,
    *diagrams.__all__,
    *widgets.__all__,
    *explorers.__all__,
]
