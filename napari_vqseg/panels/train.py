"""Train: how long, start and stop, how it goes, and every setting folded away."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QProgressBar, QSpinBox, QVBoxLayout, QWidget

from napari_vqseg.form import Form
from napari_vqseg.panels.parts import DRAW_EVERY_S, Panel, Section, button, lay_out, note, row, silently
from napari_vqseg.panels.plots import Line, StepPlot
from napari_vqseg.panels.quality import estimate_in_words
from napari_vqseg.session import TrainingState
from napari_vqseg.timers import Paced
from vqseg import protocol
from vqseg.config import PRESETS

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["TrainPanel"]

GROUPS = ("model", "loss", "data", "train", "predict")
SHOWN_ABOVE = ("time_budget_s", "use_unlabelled")
LOSSES = {"labelled": Line("#56B4E9"), "unlabelled": Line("#F6A600", Qt.PenStyle.DashLine)}
SHARES = {
    "confident": Line("#2BC48A"),
    "codebook used": Line("#CC79A7", Qt.PenStyle.DashLine),
    "perplexity": Line("#F6A600", Qt.PenStyle.DotLine),
    "Dice": Line("#56B4E9"),
}
"""Pseudo-labels that the teacher is confident of, codewords in use, perplexity by the codebook's size, the estimate
of Quality."""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _choice(tip: str, items: Iterable[str]) -> QComboBox:
    """A short list to choose from."""
    made = QComboBox()
    made.addItems(list(items))
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.setToolTip(tip)
    return made


class TrainPanel(Panel):
    """Start, watch and stop training.

    Attributes
    ----------
    compared : Signal()
        A person wants to see what the last switch has changed.
    foot : QWidget
        The buttons and the progress, which the window keeps in sight below all sections.
    """

    compared = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._build_settings()
        self._build_foot()
        self._build_figures()
        groups = [getattr(session.settings.config, group) for group in GROUPS]
        self.form = Form(groups, session.settings.update, without=SHOWN_ABOVE)
        self.advanced = Section("Advanced settings", self.form.native)
        self.column.addWidget(self.advanced)
        self._drawing = Paced(DRAW_EVERY_S, self.show_progress, self)
        self.listen(session.comparing.changed, self.show_compare)
        self.listen(session.settings.changed, self.show_settings)
        self.listen(session.training.changed, self.show_state)
        self.listen(session.training.progressed, self.note_progress)
        self.listen(session.training.earlier, self.note_earlier)
        self.listen(session.case_changed, self._forget)
        self.listen(session.cases.changed, self.show_scope)
        self.show_settings()
        self.show_compare()
        self._forget()
        self.show_state(session.training.state)

    def _build_settings(self) -> None:
        settings, training = self.session.settings, self.session.training
        self.preset = _choice("fast: a minute; balanced: ten minutes; paper: the paper's settings, for a GPU.", PRESETS)
        self.preset.currentTextChanged.connect(settings.use_preset)
        self.budget = QSpinBox()
        self.budget.setRange(0, 864000)
        self.budget.setSingleStep(10)
        self.budget.setSuffix(" s")
        self.budget.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.budget.setToolTip("Wall time of training; 0 trains by iterations.")
        self.budget.valueChanged.connect(lambda value: settings.update("time_budget_s", float(value)))
        self.scope = _choice("Learn from the volume on show alone, or from every volume of the project with labels.",
                             ("this volume", ""))  # fmt: skip
        self.scope.activated.connect(lambda index: training.use_all(index == 1))
        self.scope_row = QWidget()
        self.scope_row.setLayout(row(QLabel("Train on"), self.scope, stretch=1))
        self.unlabelled = QCheckBox("Learn from unlabelled slices too")
        self.unlabelled.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.unlabelled.setToolTip(
            "The teacher labels them, where it is confident; switch it over, train "
            "again and press W: the two are compared."
        )
        self.unlabelled.toggled.connect(lambda on: settings.update("use_unlabelled", bool(on)))
        self.compare = button("Compare with the other training (W)", "Show where it and this one disagree.",
                              self.compared.emit)  # fmt: skip
        self.column.addLayout(row(QLabel("Preset"), self.preset, QLabel("Time"), self.budget, stretch=3))
        self.column.addWidget(self.scope_row)
        self.column.addWidget(self.unlabelled)
        self.column.addWidget(self.compare)

    def _build_foot(self) -> None:
        training = self.session.training
        self.start = button("", "Train on the complete and scribbled slices, in the engine process.",
                            self._start, strong=True)  # fmt: skip
        self.pause = button("Pause", "Hold training; the time budget stands still.", self._pause)
        self.anew = button("Train anew", "Begin again, with the settings above; the interrupted training stays "
                           "on disk.", training.start)  # fmt: skip
        self.stop = button("Stop", "Stop, and keep what has been learnt.", training.stop)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.foot = QWidget()
        foot = QVBoxLayout(self.foot)
        foot.setContentsMargins(0, 0, 0, 0)
        foot.addLayout(row(self.start, self.anew, self.pause, self.stop))
        foot.addWidget(self.bar)

    def _build_figures(self) -> None:
        self.plot, self.shares = StepPlot(120, LOSSES), StepPlot(120, SHARES, percent=True)
        self.facts = note()
        for widget in self._figures:
            self.column.addWidget(widget)

    @property
    def useful(self) -> bool:
        """Once a slice is complete or scribbled, or a run can be taken up."""
        return self.session.training.can_start or self.session.training.state is not TrainingState.IDLE

    @property
    def _figures(self) -> tuple[QWidget, ...]:
        """What tells of a run, and is hidden without one."""
        return self.plot, self.shares, self.facts

    # ------------------------------------------------------------ session -> widget

    def show_settings(self) -> None:
        """Show the session's config."""
        config = self.session.settings.config
        values: dict[str, Any] = {}
        for group in GROUPS:
            values |= config.to_dict()[group]
        self.form.show(values)
        blocked = [silently(widget) for widget in (self.preset, self.budget, self.unlabelled)]
        self.preset.setCurrentText(config.preset)
        self.budget.setValue(round(config.train.time_budget_s))
        self.unlabelled.setChecked(config.train.use_unlabelled)
        for blocker in blocked:
            blocker.unblock()

    def show_compare(self) -> None:
        """Offer to compare once there is another training."""
        self.compare.setVisible(self.session.comparing.found.other is not None)

    def show_state(self, state: TrainingState) -> None:
        """Offer what can be done now."""
        idle = state is TrainingState.IDLE
        self.start.setText("Resume (⇧T)" if self.session.training.resumable else "Train (⇧T)")
        self.start.setEnabled(idle)
        self.start.setVisible(idle)
        self.anew.setVisible(self.session.training.resumable and self.session.training.can_start)
        self.pause.setVisible(state in (TrainingState.RUNNING, TrainingState.PAUSED))
        self.pause.setText("Resume (⇧T)" if state is TrainingState.PAUSED else "Pause (⇧T)")
        self.stop.setVisible(not idle)
        self.stop.setEnabled(state is not TrainingState.STOPPING)
        self.preset.setEnabled(idle)
        self.budget.setKeyboardTracking(idle)  # the first digit typed of a longer budget would end a training
        self.scope.setEnabled(idle)
        self.show_scope()
        self.form.enable(self.form.widgets if idle else self.form.live)
        if state is TrainingState.STARTING:
            self._forget()
            self.bar.setFormat("Starting the engine…")
            self.bar.show()
            self.plot.show()
        elif state is TrainingState.STOPPING:
            self.bar.setFormat("Stopping…")
        elif idle and self.session.training.progress is not None:
            ended = "Interrupted after" if self.session.training.resumable else "Trained,"
            step = self.session.training.progress.step
            self.bar.setFormat(f"{ended} {step} step{'s' * (step != 1)}")

    def note_progress(self, progress: protocol.Progress) -> None:
        """Take up a step; it is drawn in a while."""
        self._add(progress)
        estimate = self.session.quality.curve.estimate
        self.shares.add(progress.step, {"Dice": None if estimate is None else 100 * estimate.dice})
        self._drawing.ask()

    def note_earlier(self, steps: list[protocol.Progress]) -> None:
        """Take up the steps of a run that goes on."""
        for progress in steps:
            self._add(progress)

    def _add(self, progress: protocol.Progress) -> None:
        losses = progress.losses
        labelled = losses.get("labelled", losses.get("segmentation", losses.get("total")))
        self.plot.add(progress.step, {"labelled": labelled, "unlabelled": losses.get("unlabelled")})
        size = self.session.settings.config.model.codebook_size
        shares = {
            "confident": progress.confident_share,
            "codebook used": progress.utilisation,
            "perplexity": None if progress.perplexity is None else progress.perplexity / size,
        }
        self.shares.add(progress.step, {name: share and 100 * share for name, share in shares.items()})

    def show_scope(self) -> None:
        """Offer all labelled volumes where the project has more than the one on show."""
        training = self.session.training
        others = training.other_labelled if self.session.is_open else 0
        self.scope_row.setVisible(others > 0)
        own = bool(self.session.is_open and self.session.annotations.used)
        self.scope.setItemText(1, f"all labelled volumes ({others + own})")
        self.scope.setCurrentIndex(int(training.on_all))

    def show_progress(self) -> None:
        """Draw how far it is."""
        progress = self.session.training.progress
        if progress is None:
            return
        for widget in (self.bar, *self._figures):
            widget.show()
        self.bar.setUpdatesEnabled(False)  # else Qt draws the whole window at once: 15 ms
        self.bar.setValue(1000 if progress.predicting else round(1000 * progress.progress))
        self.bar.setUpdatesEnabled(True)
        if self.session.training.state in (TrainingState.RUNNING, TrainingState.PAUSED):
            paused = ", paused" if progress.paused else ""
            self.bar.setFormat(
                "Learnt; predicting all slices…" if progress.predicting
                else f"Training {100 * progress.progress:.0f} %, {_clock(progress.time_left_s)} left{paused}"
            )  # fmt: skip
        for plot in (self.plot, self.shares):
            plot.refresh()
        self.shares.setVisible(bool(self.shares.legend))
        self.facts.setText("<br>".join(self._lines(progress)))
        lay_out(self.facts)

    def _lines(self, progress: protocol.Progress) -> list[str]:
        """The curves' legends, and the newest figures."""
        facts = [f"step {progress.step}"]
        if progress.confident_share is not None:
            facts.append(f"confident {100 * progress.confident_share:.0f} %")
        if progress.utilisation is not None:
            facts.append(f"codebook {100 * progress.utilisation:.0f} % used")
        if progress.perplexity is not None:
            facts.append(f"perplexity {progress.perplexity:.0f}")
        if self.session.engine.device:
            facts.append(self.session.engine.device)
        lines = [f"Loss: {self.plot.legend}", " · ".join(facts)]
        if self.shares.legend:
            lines.insert(1, f"Per cent: {self.shares.legend}")
        if estimate := estimate_in_words(self.session.quality.curve):
            lines.append(f"Before it saw them: {estimate}")
        return lines

    def release(self) -> None:
        """Disconnect, and draw no more."""
        self._drawing.stop()
        super().release()

    def _forget(self) -> None:
        self._drawing.stop()
        for plot in (self.plot, self.shares):
            plot.clear_points()
        self.bar.setValue(0)
        self.bar.setFormat("")
        self.facts.setText("")
        for widget in (self.bar, *self._figures):
            widget.hide()

    # ------------------------------------------------------------ person -> session

    def toggle(self) -> None:
        """Key Shift+T: start training, hold it, go on with it."""
        if self.session.training.is_idle:
            self._start()
        else:
            self._pause()

    def _start(self) -> None:
        if self.session.training.resumable:
            self.session.training.resume()
        else:
            self.session.training.start()

    def _pause(self) -> None:
        if self.session.training.state is TrainingState.PAUSED:
            self.session.training.resume()
        else:
            self.session.training.pause()
