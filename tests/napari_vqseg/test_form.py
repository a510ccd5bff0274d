"""Forms show each field of the config with its range, unit and sentence, in both directions."""

import dataclasses

import pytest

pytest.importorskip("qtpy")

from napari_vqseg.form import Form
from vqseg.config import PRESETS, Config, preset

GROUPS = ("model", "loss", "data", "train", "predict")


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_field_survives_the_form(qtbot, name):
    config = preset(name)
    form = Form([getattr(config, group) for group in GROUPS])
    expected = {k: v for group in GROUPS for k, v in dataclasses.asdict(getattr(config, group)).items()}
    assert form.values == pytest.approx(expected)
    assert config.replace(**form.values) == config


def test_widgets_carry_range_unit_and_sentence(qtbot):
    form = Form([Config().model, Config().train])
    epsilon = form.widgets["epsilon"]
    assert (epsilon.min, epsilon.max, epsilon.step) == (0, 1, 0.05)
    assert "Perturbation intensity" in epsilon.tooltip
    assert epsilon.tooltip.endswith("From 0 to 1.")
    assert form.widgets["time_budget_s"].label == "Time budget (s)"
    assert form.widgets["encoder"].choices[0] == "conv"
    assert "as in dinov2+rad-dino. Choices: none, dinov2," in form.widgets["prior"].tooltip
    assert "epsilon" in form.live and "seed" not in form.live


def test_both_arrows(qtbot):
    heard = []
    form = Form([Config().model], lambda name, value: heard.append((name, value)))
    form.show({"epsilon": 0.3, "unknown": 1})
    assert heard == [] and form.values["epsilon"] == pytest.approx(0.3)
    form.widgets["epsilon"].value = 0.5
    assert heard == [("epsilon", 0.5)]
    form.enable({"epsilon"})
    assert form.widgets["epsilon"].enabled and not form.widgets["encoder"].enabled


def test_only_and_without(qtbot):
    assert set(Form([Config().model], only=["epsilon"]).widgets) == {"epsilon"}
    assert "epsilon" not in Form([Config().model], without=["epsilon"]).widgets
