"""An engine process with a trainer that only counts: ``python tests/fake_engine.py`` speaks the real protocol.

The run's seed chooses how the trainer behaves; everything else is the project's own engine.
"""

import json
import os
import signal
import sys
import time
from types import SimpleNamespace

import numpy as np

from vqseg.errors import ConfigError
from vqseg.step_report import StepReport

NORMAL, OUT_OF_MEMORY, BROKEN, CHATTY, KILLED, NOT_A_NUMBER = range(6)
STEP_S = 0.02
SLICE_S = 0.005


class FakePredictor:
    """Predicts the step number it was made at."""

    has_codebook = False

    def __init__(self, step):
        self.step = step

    @classmethod
    def load(cls, path):
        return cls(json.loads((path / "state.json").read_text())["step"])

    def prepare(self, volume, annotations=None):
        return SimpleNamespace(annotations=annotations, update_annotations=lambda annotations: None)

    def preview(self, volume, z, *, epsilon=0.0, draws=1, seed=0):
        time.sleep(SLICE_S)
        shape = volume.shape[1:]
        return SimpleNamespace(
            labels=np.full(shape, self.step % 250 + 1, np.uint8),
            confidence=np.full(shape, 0.5, np.float32),
            stability=np.full(shape, 1 - epsilon, np.float32),
        )

    def predict_slices(self, volume, annotations=None, *, nearest_to=0, on_slices=None, should_stop, turn, pause=None):
        labels = np.zeros(volume.shape, np.uint8)
        for z in range(volume.shape[0]):
            if should_stop():
                break
            with turn():
                time.sleep(SLICE_S)
                labels[z] = self.step % 250 + 1
            if on_slices is not None:
                on_slices([z], labels[[z]])
        return SimpleNamespace(labels=labels, uncertainty=np.full(volume.shape, 0.25, np.float16))

    def tidy(self, prediction, volume, annotations):
        pass


class FakeTrainer:
    """Counts steps until the budget is used up."""

    device = "cpu"
    warnings = ()
    untaught = ("lesion",)

    def __init__(self, config, cases, clock, step=0, used_s=0.0):
        self.config, self.cases, self.clock = config, cases, clock
        self.step_index, self.settings = step, {}
        self._start_s = clock() - used_s

    @property
    def used_s(self):
        return self.clock() - self._start_s

    @property
    def finished(self):
        return self.used_s >= self.config.train.time_budget_s

    def step(self, pause):
        time.sleep(STEP_S / 2)
        if pause is not None:
            pause()
        time.sleep(STEP_S / 2)
        self.step_index += 1
        behaviour = self.config.train.seed
        if behaviour == OUT_OF_MEMORY and (self.config.data.batch_x > 1 or self.config.data.size > 192):
            raise MemoryError
        if behaviour == BROKEN and self.step_index == 5:
            raise ValueError(f"cannot handle {self.cases[0].volume.source}")
        if behaviour == CHATTY:
            sys.stdout.write("a library prints\n")
            sys.stdout.flush()
            os.write(1, b"a C library writes\n")
            os.write(2, b"a warning\n")
        if behaviour == KILLED and self.step_index == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        budget_s = self.config.train.time_budget_s
        return StepReport(
            step=self.step_index,
            progress=min(1.0, self.used_s / budget_s),
            time_left_s=max(0.0, budget_s - self.used_s),
            losses={"total": float("nan") if behaviour == NOT_A_NUMBER else 1 / self.step_index},
            confident_share=0.5,
            utilisation=None,
            perplexity=3.0,
            revived=2,
            drift=None,
        )

    def update_settings(self, **settings):
        if settings.get("epsilon", 0) > 1:
            raise ConfigError("epsilon is 2; it must lie between 0 and 1.")
        self.settings.update(settings)

    def update_annotations(self, index, annotations):
        self.cases[index].annotations = annotations

    def predictor(self):
        return FakePredictor(self.step_index)

    def save(self, path):
        path.mkdir(exist_ok=True)
        (path / "state.json").write_text(json.dumps({"step": self.step_index, "used_s": self.used_s}))


def make_fake(run, config, cases, class_names, clock, checkpoint):
    if checkpoint is None:
        return FakeTrainer(config, cases, clock)
    state = json.loads((checkpoint / "state.json").read_text())
    return FakeTrainer(config or run.config, cases, clock, state["step"], state["used_s"])


if __name__ == "__main__":
    from vqseg.engine import main

    main(make_fake, FakePredictor.load)
