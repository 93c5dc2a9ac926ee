"""Spin dynamics of metallic magnets with machine-learned force fields.

Nothing is imported here: ``import sdml`` costs nothing, and ``from sdml import lattice`` loads
only what `lattice` needs.
"""

__version__ = "0.1.0"
