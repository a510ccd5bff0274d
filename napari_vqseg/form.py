"""Forms from the config dataclasses: a widget a field, with range, unit and sentence from the field itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, get_type_hints

from magicgui.widgets import CheckBox, create_widget
from magicgui.widgets.bases import ValueWidget
from qtpy.QtWidgets import QFormLayout, QLabel, QWidget

__all__ = ["Form", "label_of", "widget_for"]

_LABELS = {
    "ema_decay": "EMA decay", "batch_x": "Batch, labelled", "batch_u": "Batch, unlabelled", "code_dim": "Code length",
    "unlabelled": "Weight, unlabelled", "alignment": "Weight, alignment", "commitment": "Weight, commitment",
    "reconstruction": "Weight, image", "size": "Slice size", "keep_connected": "Keep connected only",
}  # fmt: skip
_TITLES = {"ModelConfig": "Network", "LossConfig": "Loss", "DataConfig": "Slices", "TrainConfig": "Training",
           "PredictConfig": "Prediction"}  # fmt: skip


def label_of(item: dataclasses.Field[Any]) -> str:
    """The words beside a field's widget: its name for people, with its unit."""
    words = item.name
    unit = item.metadata.get("unit", "")
    if unit:
        words = words.removesuffix(f"_{unit.lower()}")
    words = _LABELS.get(item.name, words.replace("_", " ").capitalize())
    return f"{words} ({unit})" if unit else words


def _fine_step(value: float) -> float:
    """A step that shows every digit of `value` and one more."""
    digits = f"{value:.10f}".rstrip("0").partition(".")[2]
    return float(10.0 ** -(len(digits) + 1))


def widget_for(item: dataclasses.Field[Any], kind: Any, value: Any) -> ValueWidget[Any]:
    """The magicgui widget of one config field.

    Parameters
    ----------
    item : dataclasses.Field
        Field made by ``vqseg.config.setting``.
    kind : type
        The field's resolved type: int, float, bool, str or a Literal of choices.
    value : object
        Value to start from.
    """
    sentence = item.metadata.get("sentence", "")
    limits, step = item.metadata.get("limits"), item.metadata.get("step")
    words = item.metadata.get("joinable")
    extent = f" Choices: {', '.join(words)}." if words else f" From {limits[0]:g} to {limits[1]:g}." if limits else ""
    options: dict[str, Any] = {"tooltip": f"{sentence}{extent}"}
    widget_type = None
    if kind in (int, float) and limits:
        options |= {"min": limits[0], "max": limits[1]}
        slides = kind is float and step and (limits[1] - limits[0]) / step <= 100
        widget_type = "FloatSlider" if slides else "FloatSpinBox" if kind is float else "SpinBox"
        options["step"] = step or (1 if kind is int else _fine_step(float(value)))
    elif kind is str:
        widget_type = "LineEdit"
    widget = create_widget(
        value=value, annotation=kind, name=item.name, label=label_of(item), widget_type=widget_type, options=options
    )
    assert isinstance(widget, ValueWidget)
    widget.native.setToolTip(widget.tooltip)  # the whole of it, not its slider alone
    return widget


class Form:
    """A form over one or more config dataclasses.

    Parameters
    ----------
    groups : iterable of dataclass instances
        Such as ``config.model, config.train``.
    on_change : callable, optional
        Called as ``on_change(name, value)`` for each change made by a person.
    only, without : iterable of str, optional
        Names of the fields to show, or to leave out.

    Attributes
    ----------
    native : QWidget
        The form: names in a column, inputs in another, which napari's style keeps magicgui's own container from.
    """

    def __init__(
        self,
        groups: Iterable[Any],
        on_change: Callable[[str, Any], None] | None = None,
        *,
        only: Iterable[str] | None = None,
        without: Iterable[str] = (),
    ) -> None:
        shown, hidden = None if only is None else set(only), set(without)
        self.fields: dict[str, dataclasses.Field[Any]] = {}
        self.widgets: dict[str, ValueWidget[Any]] = {}
        self.native = QWidget()
        rows = QFormLayout(self.native)
        rows.setContentsMargins(4, 2, 4, 2)
        for group in groups:
            hints = get_type_hints(type(group))
            title = _TITLES.get(type(group).__name__, type(group).__name__)
            rows.addRow(QLabel(f"<b>{title}</b>"))
            for item in dataclasses.fields(group):
                if item.name in hidden or (shown is not None and item.name not in shown):
                    continue
                self.fields[item.name] = item
                widget = self.widgets[item.name] = widget_for(item, hints[item.name], getattr(group, item.name))
                label = QLabel("" if isinstance(widget, CheckBox) else widget.label)
                label.setToolTip(widget.tooltip)
                rows.addRow(label, widget.native)
        if on_change is not None:
            for name, widget in self.widgets.items():
                widget.changed.connect(lambda value, name=name: on_change(name, value))

    @property
    def values(self) -> dict[str, Any]:
        """The value of each field."""
        return {name: widget.value for name, widget in self.widgets.items()}

    def show(self, values: dict[str, Any]) -> None:
        """Show `values` without telling anyone; names that the form does not have are passed over."""
        for name, value in values.items():
            widget = self.widgets.get(name)
            if widget is not None and widget.value != value:
                with widget.changed.blocked():
                    widget.value = value

    def enable(self, names: Iterable[str]) -> None:
        """Enable the named fields and no others."""
        names = set(names)
        for name, widget in self.widgets.items():
            widget.enabled = name in names

    @property
    def live(self) -> set[str]:
        """Names of the fields that a running training takes over."""
        return {name for name, item in self.fields.items() if item.metadata.get("live")}
