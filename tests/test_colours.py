"""Colours of classes: what was chosen where it is one, else one of its own."""

from vqseg.colours import PALETTE, class_colours, colour_of


def test_what_was_chosen_goes_first():
    chosen = {"1": "#0a64c8", "2": "transparent", "9": "#000000"}
    assert class_colours(chosen, [1, 2, 3]) == {1: "#0a64c8", 2: colour_of(2), 3: colour_of(3)}
    assert class_colours(None, [1]) == class_colours(["#000000"], [1]) == {1: colour_of(1)}


def test_neighbours_differ_and_colours_repeat_only_after_the_whole_palette():
    assert [colour_of(value) for value in range(1, 12)] == [*PALETTE, PALETTE[0]]
