"""The facade: opens cases, holds the concerns together, and ends them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from psygnal import Signal

from napari_vqseg.cases import OpenedCase
from napari_vqseg.preferences import Preferences
from napari_vqseg.session.accepting import Accepting
from napari_vqseg.session.annotating import Annotating
from napari_vqseg.session.cases import Cases
from napari_vqseg.session.classes import Classes
from napari_vqseg.session.cleaning import Cleaning
from napari_vqseg.session.codebook import Codebook
from napari_vqseg.session.comparing import Comparing
from napari_vqseg.session.context import Concern, Context
from napari_vqseg.session.engine import Engine, Worker
from napari_vqseg.session.exporting import Exporting
from napari_vqseg.session.filling import FillingBetween
from napari_vqseg.session.importing import Importing
from napari_vqseg.session.looks import PredictionLooks
from napari_vqseg.session.profiles import Profiles
from napari_vqseg.session.quality import Quality
from napari_vqseg.session.reviewing import Reviewing
from napari_vqseg.session.scheduler import Scheduler
from napari_vqseg.session.settings import Settings
from napari_vqseg.session.suggesting import Suggesting
from napari_vqseg.session.training import Training
from napari_vqseg.session.windowing import Windowing
from vqseg.annotations import Annotations
from vqseg.volume import Volume

__all__ = ["Session"]

LOST_AFTER_S = 0.5
RESTS_AFTER_S = 0.5
"""Without another slice for so long, a person is not scrolling."""


class Session:
    """What the panels know.

    Parameters
    ----------
    view : object
        The layers of a case, as :class:`napari_vqseg.layers.ViewerLayers`.
    scheduler : Scheduler
        Timers and the background thread.
    make_worker : callable
        Makes the owner of the engine process, when it is first needed.
    preferences : callable
        Tells where new projects are kept and how they start.

    Attributes
    ----------
    case_changed : Signal()
        Another case is open and on show.
    notified, busy_changed : SignalInstance
        As of :class:`napari_vqseg.session.context.Context`.
    annotating, classes, looks, settings, windowing, training, cases, filling, cleaning, reviewing : Concern
    profiles, accepting, quality, comparing, codebook, suggesting, exporting, importing : Concern
        One object a concern, with its own signals.
    engine : Engine
        The engine process.
    """

    case_changed = Signal()

    def __init__(
        self,
        view: Any,
        scheduler: Scheduler,
        make_worker: Callable[[], Worker],
        preferences: Callable[[], Preferences] = Preferences,
    ) -> None:
        self.view = view
        self._context = context = Context(view, scheduler)
        self.notified = context.notified
        self.busy_changed = context.busy_changed
        self.engine = Engine(context, make_worker)
        self.classes = Classes(context)
        self.looks = PredictionLooks(context)
        self.settings = Settings(context, preferences().preset)
        self.windowing = Windowing(context, self.settings)
        self.annotating = Annotating(context)
        self.training = Training(context, self.engine, self.annotating, self.settings)
        self.cases = Cases(context, self.annotating, self.training, preferences)
        self.cases.opened.connect(self._on_opened)
        self.filling = FillingBetween(context, self.engine, self.annotating)
        self.cleaning = Cleaning(context)
        self.reviewing = Reviewing(context, self.engine, self.cleaning)
        self.profiles = Profiles(context, self.engine, self.training, self.reviewing)
        self.accepting = Accepting(context, self.annotating, self.filling, self.reviewing, self.profiles)
        self.quality = Quality(context, self.annotating, self.reviewing)
        self.comparing = Comparing(
            context, self.settings, self.training, self.cleaning, self.reviewing, self.quality
        )  # fmt: skip
        self.codebook = Codebook(context, self.engine)
        self.suggesting = Suggesting(context, self.engine, self.annotating, self.training, self.reviewing)
        self.exporting = Exporting(context, self.annotating, self.classes, self.cleaning, self.reviewing)
        self.importing = Importing(context, self.annotating, self.classes)
        self._concerns: tuple[Concern, ...] = (
            self.engine, self.classes, self.looks, self.settings, self.windowing, self.annotating, self.training,
            self.cases, self.filling, self.cleaning, self.reviewing, self.profiles, self.accepting, self.quality,
            self.comparing, self.codebook, self.suggesting, self.exporting, self.importing,
        )  # fmt: skip
        self._scheduler = scheduler
        self._on_show = self._closed = False
        self._lost: set[str] = set()
        self._lost_timer = scheduler.debounce(LOST_AFTER_S, self._say_lost)
        self._reads_ahead = False
        self._rest_timer = scheduler.debounce(RESTS_AFTER_S, self._read_ahead)
        view.navigation.z_changed.connect(self._on_z)
        view.lost.connect(self._note_lost)

    # ------------------------------------------------------------ opening

    def open_volume(self, path: str | os.PathLike[str], series: str | None = None) -> None:
        """Open a volume's file or folder, or a project's, with the annotations made on it before."""
        self.cases.open(path, series)

    def open_sample(self) -> None:
        """Open the synthetic thorax."""
        self.cases.open_sample()

    def _on_opened(self, opened: OpenedCase) -> None:
        """Show a case once all that was painted on the one before, up to now, is on disk."""
        self.looks.save()
        self.annotating.save(
            then=lambda: self._scheduler.in_turns(self._show(opened)),
            failed=lambda: self._leave(opened, "The labels on show are not saved"),
        )

    def _show(self, opened: OpenedCase) -> Iterator[None]:
        """Show a case in steps between which the window answers: napari takes long over each layer."""
        if self.annotating.unsaved:
            self._on_opened(opened)
            return
        before = self._context.opened
        if not self.training.is_idle:
            self._leave(opened, "Training has begun")
            return
        if before is not None and before.project is not opened.project:
            before.project.unlock()
        elif before is not None and before.case.id == opened.case.id:
            opened.annotations = before.annotations  # read while a person went on painting
        for concern in self._concerns:
            concern.forget()
        self._context.opened, self._context.tasks = opened, opened.tasks
        self.windowing.restore(*opened.window)
        yield from self._show_layers()
        if labelled := sorted(opened.annotations.records):
            self.go_to(labelled[len(labelled) // 2])  # where the work is, not the middle of the volume
        self.busy_changed.emit("")
        self.case_changed.emit()
        for concern in self._concerns:
            concern.announce()
        for text in opened.warnings:
            self.notified.emit(text, "warning")
        if opened.recovered:
            self.notified.emit(opened.recovered, "info")
        if opened.last_run is not None:
            self.reviewing.predict_with(opened.last_run)
        self._read_ahead()

    def _read_ahead(self) -> None:
        """Have the volume in memory soon, for the planes across its slices; what fails says so where it is shown."""
        opened, self._reads_ahead = self._context.opened, True

        def go_on(more: bool) -> None:
            if self._context.opened is opened:
                self._reads_ahead = more
                if more and not self._rest_timer.waiting:
                    self._read_ahead()

        self._scheduler.aside(self.view.image.read_ahead, go_on, lambda _error: go_on(False))

    def _on_z(self, z: int) -> None:
        """Leave a person who scrolls the processor: read on once they rest."""
        if self._reads_ahead:
            self._rest_timer.start()

    def _leave(self, opened: OpenedCase, why: str) -> None:
        """Let go of a case that was read, and stay with the one on show."""
        if opened.project is not self.case.project:
            opened.project.unlock()
        self.busy_changed.emit("")
        self.notified.emit(f"{why}, so {opened.name} was not opened; try again after that.", "warning")

    def _show_layers(self) -> Iterator[None]:
        self._on_show = False
        case, prediction = self.case, self.reviewing.prediction
        yield from self.view.show_volume(case.volume, self.windowing.window, case.name)
        # Drawn from the beginning, though empty: its first appearance would take 90 ms in the midst of training.
        shown = np.zeros(case.volume.shape, dtype=np.uint8) if prediction is None else prediction
        self.view.overlay.draw_classes(case.classes.predicted_colours, case.classes.contoured)
        self.view.overlay.show(shown)
        yield
        self.view.overlay.show_stability(0, None)
        yield
        self.view.proposal.hide()
        yield
        self.view.difference.hide()
        yield
        self.view.annotation.show(case.annotations.labels, case.colours)
        yield
        yield from self.view.finish()
        self._on_show = True

    def show_layers(self) -> None:
        """Show the case's layers again, after a person has removed one."""
        if self.is_open:
            self._scheduler.in_turns(self._show_layers_again(self.z))

    def _show_layers_again(self, z: int) -> Iterator[None]:
        yield from self._show_layers()
        self.go_to(z)
        self._read_ahead()

    # ------------------------------------------------------------ the case

    @property
    def is_open(self) -> bool:
        """Whether a case is open and on show."""
        return self._on_show

    @property
    def case(self) -> OpenedCase:
        """The open case."""
        return self._context.case

    @property
    def volume(self) -> Volume:
        """The open volume."""
        return self._context.volume

    @property
    def annotations(self) -> Annotations:
        """The annotations of the open volume."""
        return self._context.annotations

    @property
    def z(self) -> int:
        """The shown slice."""
        return self._context.z

    def go_to(self, z: int) -> None:
        """Show the axial slice z."""
        self.view.navigation.go_to(z)

    # ------------------------------------------------------------ the end

    def _note_lost(self, kind: str) -> None:
        """A layer is gone: by a person's hand, or because the viewer closes, when nothing need be said."""
        self.annotating.save()
        self._lost.add(kind)
        self._lost_timer.start()

    def _say_lost(self) -> None:
        kinds = sorted(self._lost & {"image", "annotation"})
        self._lost.clear()
        if kinds:
            self.notified.emit(
                f"Removed from the view: {' and '.join(kinds)}. Your work is saved; "
                "'Show the layers of this case again' brings it back (section Data, More).", "warning",
            )  # fmt: skip

    def close(self) -> None:
        """Bank the work, end the engine, let go of the viewer; what takes time is finished in the background."""
        if self._closed:
            return
        self._closed = True
        self.looks.save()
        self.annotating.finish()
        self.annotating.save()
        self.engine.close()
        self.training.let_collect()
        if self._context.opened is not None:
            self._context.background(self._context.opened.project.unlock, lambda _: None)  # after the last save
        self._scheduler.close()
        self.view.close()
