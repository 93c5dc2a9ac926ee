"""Long runs of Landau-Lifshitz dynamics in stores that survive a kill."""

from sdml.simulation.guard import Guard, OutsideTrainedRange
from sdml.simulation.journal import Run, load
from sdml.simulation.loop import Observable, quench
from sdml.simulation.timetable import Schedule, Steps, logarithmic_steps

__all__ = [
    "Guard",
    "Observable",
    "OutsideTrainedRange",
    "Run",
    "Schedule",
    "Steps",
    "load",
    "logarithmic_steps",
    "quench",
]
