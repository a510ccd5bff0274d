"""The tools' row of values on images that are no CTs."""

from math import inf

import fakes
import numpy as np
import pytest

from napari_vqseg.panels.tools import Tools
from vqseg.io import write_map


@pytest.mark.parametrize("scale", [0.002, 30_000.0])
def test_the_range_is_on_the_scale_of_the_image(qtbot, make_desk, image, tmp_path, scale):
    desk = make_desk()
    tools = Tools(desk.session)
    qtbot.addWidget(tools)
    desk.session.open_volume(image)
    assert (tools.ranged.text(), tools.range.maximum()) == ("HU", 2000)
    tools.ranged.setChecked(True)

    volume = fakes.make_volume()
    mr = (volume.array.astype(np.float32) + 1000) / volume.array.size * scale
    write_map(tmp_path / "mr.nii.gz", mr, volume)
    desk.session.open_volume(tmp_path / "mr.nii.gz")
    low, high = desk.session.case.volume.value_range
    assert (tools.ranged.text(), tools.ranged.isChecked()) == ("Values", False)
    assert (tools.range.minimum(), tools.range.maximum()) == pytest.approx((low, high), abs=scale / 1000)
    tools.ranged.setChecked(True)
    tools.range.setValue((low + 0.25 * (high - low), high))
    least, most = desk.view.annotation.limits_hu
    assert least == pytest.approx(low + 0.25 * (high - low), abs=scale / 1000)
    assert most == inf, "the middle slice need not hold the brightest voxel"
