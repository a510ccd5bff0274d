"""Classes as a person sees them: a value, a name, a colour that holds on grey images and for colour-blind eyes."""

from __future__ import annotations

from dataclasses import dataclass

from vqseg.annotations import PAINTED_BACKGROUND

__all__ = ["BACKGROUND_COLOUR", "CLASS_SETS", "PALETTE", "SegmentClass", "colour_of"]

PALETTE = (
    "#E8601C", "#56B4E9", "#F0E442", "#1FBF8F", "#CC79A7", "#F6A600", "#7B8CFF", "#B8DE29", "#AA3377", "#88CCEE",
)  # fmt: skip
"""Okabe and Ito's colours, the dark ones lightened, in an order that keeps neighbours apart."""

BACKGROUND_COLOUR = "#FFFFFF"
"""Background painted in a scribbled slice."""

CLASS_SETS: dict[str, tuple[str, ...]] = {
    "Lung tumour": ("tumour",),
    "Lungs and tumour": ("tumour", "left lung", "right lung"),
    "Thorax": ("tumour", "left lung", "right lung", "heart", "aorta", "spine", "liver"),
    "Abdominal organs": ("liver", "spleen", "left kidney", "right kidney", "pancreas", "aorta"),
}
"""Ready sets of classes."""


@dataclass(frozen=True)
class SegmentClass:
    """One class of a project."""

    value: int
    name: str
    colour: str


def colour_of(value: int) -> str:
    """The colour a class value starts with."""
    return BACKGROUND_COLOUR if value == PAINTED_BACKGROUND else PALETTE[(value - 1) % len(PALETTE)]
