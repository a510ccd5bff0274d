"""What a training step was like, as the faces of a training and its metrics are told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["StepReport"]


@dataclass(frozen=True)
class StepReport:
    """What one step was like.

    Parameters
    ----------
    step : int
        Steps taken.
    progress : float
        Share of the training that is over, in [0, 1].
    time_left_s : float
        Estimated seconds to go; not a number where it cannot be told yet.
    losses : dict of str to float
        Loss terms by name.
    confident_share : float or None
        Share of the pseudo-labelled voxels that were used, where there were any.
    utilisation, perplexity : float or None
        State of the codebook, for methods with one.
    revived : int or None
        Dead codewords that this step has put to use.
    drift : float or None
        Share of tokens whose code has changed between the last two looks at the same slices.
    """

    step: int
    progress: float
    time_left_s: float
    losses: dict[str, float] = field(default_factory=dict)
    confident_share: float | None = None
    utilisation: float | None = None
    perplexity: float | None = None
    revived: int | None = None
    drift: float | None = None

    def as_metrics(self) -> dict[str, Any]:
        """A line of the run's metrics: all but what it takes to say how long the rest will take."""
        values = asdict(self)
        del values["time_left_s"]
        return values
