"""Classes as a person sees them: named, coloured, ordered, locked and hidden; kept in project.json."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from napari_vqseg.looks import Looks
from vqseg.annotations import PAINTED_BACKGROUND
from vqseg.colours import class_colours
from vqseg.errors import ProjectError
from vqseg.io.label_set import LabelClass
from vqseg.project import Project

__all__ = ["BACKGROUND_COLOUR", "CLASS_SETS", "ClassList", "SegmentClass", "class_set"]

BACKGROUND_COLOUR = "#FFFFFF"
"""Background painted in a scribbled slice."""

HIDDEN = "transparent"

CLASS_SETS: dict[str, tuple[str, ...]] = {
    "Lung tumour": ("tumour",),
    "Lungs and tumour": ("tumour", "left lung", "right lung"),
    "Thorax": ("tumour", "left lung", "right lung", "heart", "aorta", "spine", "liver"),
    "Abdominal organs": ("liver", "spleen", "left kidney", "right kidney", "pancreas", "aorta"),
}
"""Ready sets of classes."""


def class_set(names: Sequence[str]) -> list[LabelClass]:
    """A label set of names, with the values 1, 2, ..."""
    return [LabelClass(value, name) for value, name in enumerate(names, start=1)]


@dataclass(frozen=True)
class SegmentClass:
    """One class of a project; a locked one is left as it is by every tool."""

    value: int
    name: str
    colour: str
    locked: bool = False
    visible: bool = True
    predicted: bool = True
    """Whether the prediction of it is shown; a class that is not visible shows neither."""


class ClassList:
    """The classes of a project, in a person's order; label values never change with it.

    Parameters
    ----------
    project : Project
        Where they are kept; whoever changes them saves it.
    """

    def __init__(self, project: Project) -> None:
        self._project = project

    def _values(self, entry: str) -> list[int]:
        """An entry of project.json that lists label values."""
        return [int(value) for value in self._project.info.get(entry, [])]

    def _keep(self, entry: str, value: int, wanted: bool) -> None:
        others = set(self._values(entry)) - {value}
        self._project.info[entry] = sorted(others | {value} if wanted else others)

    # ------------------------------------------------------------ reading

    @property
    def names(self) -> dict[int, str]:
        """Name of each class value."""
        return self._project.class_names

    @property
    def all(self) -> list[SegmentClass]:
        """The classes in order; those that no order knows come last, by value."""
        order = {value: place for place, value in enumerate(self._values("class_order"))}
        colours = class_colours(self._project.info.get("colours"), self.names)
        locked, hidden, unpredicted = (self._values(entry) for entry in ("locked", "hidden", "hidden_prediction"))
        return [
            SegmentClass(value, name, colours[value], value in locked, value not in hidden, value not in unpredicted)
            for value, name in sorted(self.names.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
        ]

    @property
    def _colours(self) -> dict[str, str]:
        return dict(self._project.info.get("colours", {}))

    @property
    def colours(self) -> dict[int, str]:
        """What each label value is drawn in, painted background among them; hidden ones are transparent."""
        shown = {item.value: item.colour if item.visible else HIDDEN for item in self.all}
        return {**shown, PAINTED_BACKGROUND: BACKGROUND_COLOUR}

    @property
    def predicted_colours(self) -> dict[int, str]:
        """What each label value of the prediction is drawn in, its opacity among it."""
        looks = self.looks
        return {
            item.value: f"{item.colour}{round(255 * looks.of(item.value).opacity):02X}"
            if item.visible and item.predicted else HIDDEN
            for item in self.all
        }  # fmt: skip

    @property
    def contoured(self) -> frozenset[int]:
        """Values of the classes whose prediction is drawn as a contour."""
        looks = self.looks
        return frozenset(value for value in self.names if looks.of(value).contour)

    @property
    def looks(self) -> Looks:
        """How the prediction of each class is drawn."""
        return Looks(self._project)

    @property
    def locked(self) -> frozenset[int]:
        """Values of the locked classes."""
        return frozenset(self._values("locked")) & self.names.keys()

    # ------------------------------------------------------------ changing

    def add(self, name: str) -> int:
        """Add a class under the first free value, and return it."""
        name = name.strip()
        if not name or name in self.names.values():
            raise ProjectError(f"Give the new class a name of its own; {name or 'an empty name'!r} is taken.")
        value = _free_value(self.names)
        self.names[value] = name
        return value

    def adopt(self, names: Mapping[int, str]) -> None:
        """Add the classes whose values are free here."""
        for value, name in names.items():
            self.names.setdefault(value, name)

    def rename(self, value: int, name: str) -> None:
        """Give a class another name."""
        name = name.strip()
        if not name or name in (other for v, other in self.names.items() if v != value):
            raise ProjectError(f"{name or 'An empty name'!r} cannot be used; choose a name of its own.")
        self.names[value] = name

    def recolour(self, value: int, colour: str) -> None:
        """Give a class another colour."""
        self._project.info["colours"] = {**self._colours, str(value): colour}

    def lock(self, value: int, locked: bool) -> None:
        """Protect a class from every tool, or let it be painted over again."""
        self._keep("locked", value, locked)

    def show(self, value: int, visible: bool) -> None:
        """Show or hide a class, in the annotation and in the prediction."""
        self._keep("hidden", value, not visible)

    def show_predicted(self, value: int, visible: bool) -> None:
        """Show or hide the prediction of a class alone."""
        self._keep("hidden_prediction", value, not visible)

    def move(self, value: int, places: int) -> None:
        """Move a class down the list, or up where `places` is negative."""
        order = [item.value for item in self.all]
        place = min(max(order.index(value) + places, 0), len(order) - 1)
        order.remove(value)
        order.insert(place, value)
        self._project.info["class_order"] = order

    def remove(self, value: int) -> None:
        """Remove a class; the caller knows that nothing is painted with it."""
        if len(self.names) == 1:
            raise ProjectError("A project needs at least one class; rename this one instead.")
        del self.names[value]
        self._forget_looks({value})

    # ------------------------------------------------------------ label sets

    def take_set(self, classes: Sequence[LabelClass], painted: Collection[int]) -> list[str]:
        """Take the classes of a label set; where something is painted, every painted value keeps its class.

        Parameters
        ----------
        classes : sequence of LabelClass
            The set, in its order.
        painted : collection of int
            Label values that are painted in any case of the project.

        Returns
        -------
        list of str
            Sentences about classes that took another value than the set's.

        Raises
        ------
        ProjectError
            If there are not values enough for all; then nothing is changed.
        """
        keep = {value: name for value, name in self.names.items() if value in painted}
        names, colours, remarks, order = dict(keep), dict[int, str](), [], []
        for item in classes:
            value = next((v for v, name in keep.items() if name.casefold() == item.name.casefold()), None)
            if value is None:
                value = item.value if item.value not in names else _free_value(names, {c.value for c in classes})
                if value != item.value:
                    remarks.append(f"{item.name!r} became {value}; {item.value} is {names[item.value]!r} here.")
                names[value] = item.name
            if item.colour:
                colours[value] = item.colour
            order.append(value)
        self._forget_looks(set(self.names) - keep.keys())
        self.names.clear()
        self.names.update(names)
        for value, colour in colours.items():
            self.recolour(value, colour)
        self._project.info["class_order"] = order
        return remarks

    def as_set(self) -> list[LabelClass]:
        """The classes as a label set."""
        return [LabelClass(item.value, item.name, item.colour) for item in self.all]

    def _forget_looks(self, values: Collection[int]) -> None:
        for name in ("class_order", "locked", "hidden", "hidden_prediction"):
            self._project.info[name] = [value for value in self._values(name) if value not in values]
        self.looks.forget(values)
        self._project.info["colours"] = {
            value: colour for value, colour in self._colours.items() if int(value) not in values
        }


def _free_value(names: Collection[int], taken: Collection[int] = ()) -> int:
    """The first label value that no class has, and that is not taken."""
    value = next((value for value in range(1, 255) if value not in names and value not in taken), None)
    if value is None:
        raise ProjectError("All 254 label values are taken; remove a class first.")
    return value
