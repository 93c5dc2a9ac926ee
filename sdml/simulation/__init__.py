"""Long runs of Landau-Lifshitz dynamics in stores that survive a kill."""

from sdml.simulation.guard import Guard, Limits, OutsideTrainedRange
from sdml.simulation.journal import Run, load
from sdml.simulation.loop import quench
from sdml.simulation.settings import Observable, Settings
from sdml.simulation.timetable import Steps, logarithmic_steps

__all__ = [
    "Guard",
    "Limits",
    "Observable",
    "OutsideTrainedRange",
    "Run",
    "Settings",
    "Steps",
    "load",
    "logarithmic_steps",
    "quench",
]
