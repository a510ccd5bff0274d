"""Compare: the prediction on show against that of another training, as with and without unlabelled slices."""

from __future__ import annotations

import math
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

from napari_vqseg.looks import STRIPES
from napari_vqseg.panels.parts import FOLLOW_EVERY_S, Panel, button, choice, note, row, silently
from napari_vqseg.timers import Paced
from vqseg.comparison import ONLY_FIRST, ONLY_SECOND, TrainedRun

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["ComparePanel"]

LEARNT_FROM = {True: "with unlabelled", False: "without unlabelled", None: "partly with unlabelled"}


class ComparePanel(Panel):
    """Which training to compare with, where the two differ, and which was better on slices that neither had seen."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        comparing = session.comparing
        self.against = choice("The training to compare with; one that learnt otherwise is taken by itself.")
        self.against.activated.connect(lambda _: comparing.choose(str(self.against.currentData())))
        self.differences = button("Differences (W)", "Hatch where the two disagree, outside of the complete slices.",
                                  comparing.toggle)  # fmt: skip
        self.differences.setCheckable(True)
        self.most = button("", "Show the slice in which the two disagree most.", comparing.go_to_most)
        self.take = button("Use the other training", "Go on with its network, which predicts the volume.",
                           comparing.take_other)  # fmt: skip
        self.train = button("", "Nothing else is changed; then the two are compared.", comparing.train_otherwise)
        self.shown, self.here, self.words = note(), note(), note()
        self._following = Paced(FOLLOW_EVERY_S, self.show_here, self)
        self.column.addWidget(self.shown)
        self.column.addWidget(self.against)
        self.column.addLayout(row(self.differences, self.most))
        self.column.addWidget(self.here)
        self.column.addWidget(self.words)
        self.column.addWidget(self.take)
        self.column.addWidget(self.train)
        self.listen(comparing.changed, self.refresh)
        self.listen(session.view.navigation.z_changed, self._follow)
        self.listen(session.training.changed, self.refresh)
        self.listen(session.classes.changed, self.refresh)
        self.refresh()

    # ------------------------------------------------------------ session -> widget

    def refresh(self, *_: object) -> None:
        """Show the two trainings and what is known of them."""
        found, on = self.session.comparing.found, self.session.comparing.on
        idle, has_other = self.session.training.is_idle, found.other is not None
        beside = ", compared with:" if has_other else "."
        self.shown.setText("" if found.shown is None else f"On show: {_in_words(found.shown)}{beside}")
        self.shown.setVisible(found.shown is not None)
        self._show_others()
        for widget in (self.against, self.differences, self.take):
            widget.setVisible(has_other)
        self.differences.setChecked(on)
        self.take.setEnabled(idle)
        most = None if found.comparison is None else found.comparison.most
        self.most.setVisible(most is not None)
        self.most.setText(f"Most in slice {most}")
        self.words.setText("<br>".join(self._lines()))
        self.words.setVisible(bool(self.words.text()))
        self.show_here()
        otherwise = "with" if found.shown is not None and found.shown.unlabelled is False else "without"
        self.train.setText(f"Train once more, {otherwise} unlabelled slices")
        self.train.setVisible(found.shown is not None and not self._has_counterpart)
        self.train.setEnabled(idle)

    def _follow(self, _: int) -> None:
        if self.session.comparing.on:
            self._following.ask()

    def show_here(self) -> None:
        """Say how much differs in the shown slice, so that an empty one is not taken for a failure."""
        comparison, z = self.session.comparing.found.comparison, self.session.z
        self.here.setVisible(comparison is not None)
        if comparison is None:
            return
        count = int(comparison.differing[z])
        if z in self.session.annotations.complete:
            self.here.setText(f"Slice {z} is complete: it is not compared.")
        else:
            self.here.setText(f"In slice {z} {count or 'no'} voxel{'s' * (count != 1)} differ{'s' * (count == 1)}.")

    def release(self) -> None:
        """Disconnect, and follow no more."""
        self._following.stop()
        super().release()

    @property
    def _has_counterpart(self) -> bool:
        found = self.session.comparing.found
        return found.shown is not None and any(other.unlabelled is not found.shown.unlabelled for other in found.others)

    def _show_others(self) -> None:
        found, blocked = self.session.comparing.found, silently(self.against)
        self.against.clear()
        for other in found.others:
            self.against.addItem(_in_words(other), other.run.id)
        self.against.setCurrentIndex(found.others.index(found.other) if found.other is not None else -1)
        blocked.unblock()

    def _lines(self) -> list[str]:
        found, names = self.session.comparing.found, self.session.classes.names
        if found.shown is None or found.other is None or found.comparison is None or found.unseen is None:
            return []
        shown, other = _short(found.shown, found.other)
        lines = [f"{_stripes(ONLY_FIRST, '▨')} only {shown} &nbsp; {_stripes(ONLY_SECOND, '▧')} only {other}"]
        agreement = [
            f"{escape(names.get(value, str(value)))}\u00a0{dice:.2f}" for value, dice in found.comparison.dice.items()
        ]  # fmt: skip
        lines.append(f"They agree (Dice): {', '.join(agreement) or 'neither predicts anything'}.")
        if found.unseen.slices and not any(map(math.isnan, found.unseen.dice)):
            first, second = found.unseen.dice
            lines.append(
                f"<b>On {_slices(len(found.unseen.slices))} that neither had seen: {shown} {first:.2f}, {other} "
                f"{second:.2f}</b> (Dice)."
            )
        else:
            lines.append("Which is better? Draw and complete (C) one more slice: both are scored on it.")
        return lines


def _in_words(trained: TrainedRun) -> str:
    """What a training learnt from, and when it was."""
    count, created = len(trained.learnt), trained.created
    day = "" if created.date() == datetime.now().astimezone().date() else f"{created:%d %b} "
    return f"{LEARNT_FROM[trained.unlabelled]} · {_slices(count)} · {day}{created:%H:%M}"


def _slices(count: int) -> str:
    return f"{count} slice{'s' * (count != 1)}"


def _short(shown: TrainedRun, other: TrainedRun) -> tuple[str, str]:
    """What tells two trainings apart, in a word each."""
    if {shown.unlabelled, other.unlabelled} == {True, False}:
        return ("with", "without") if shown.unlabelled else ("without", "with")
    return "this one", "the other"


def _stripes(kind: int, sign: str) -> str:
    return f'<span style="color:{STRIPES[kind]}; background-color:#3a3f4b">{sign}</span>'
