"""From volumes and labelled slices to batches."""

from vqseg.data.case import PreparedCase
from vqseg.data.framing import TrainingCase, frame_cases
from vqseg.data.sampling import BatchSampler
from vqseg.data.shape_prior import ShapePrior

__all__ = ["BatchSampler", "PreparedCase", "ShapePrior", "TrainingCase", "frame_cases"]
