"""What runs the notebooks and keeps what they find: profiles, runner, results, tables."""

from sdml.companion.results import provenance, save_claim, save_figure

__all__ = ["provenance", "save_claim", "save_figure"]
