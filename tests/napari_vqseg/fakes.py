"""Stand-ins for what the session is handed: a view, a clock, an engine."""

import numpy as np
from psygnal import Signal

from vqseg import protocol
from vqseg.volume import StoredLayout, Volume

SHAPE = (12, 30, 24)


def make_volume(affine=None, shape_ijk=None, **kwargs):
    """A small CT-like volume; by default stored as LPS with anisotropic voxels."""
    shape_ijk = shape_ijk or SHAPE[::-1]
    affine = np.diag([-0.8, -0.9, 2.5, 1.0]) if affine is None else affine
    affine = np.asarray(affine, dtype=float)
    most_axial = int(np.argmax(np.abs(affine[2, :3]) / np.linalg.norm(affine[:3, :3], axis=0)))
    layout = StoredLayout(tuple(shape_ijk), affine, slice_axis=most_axial)
    stored = np.arange(np.prod(shape_ijk), dtype=np.int16).reshape(shape_ijk)
    return Volume(layout.to_canonical(stored), layout, **kwargs)


class FakeTimer:
    def __init__(self, callback):
        self.callback, self.waiting = callback, False

    def start(self):
        self.waiting = True

    def stop(self):
        self.waiting = False

    def fire(self):
        if self.waiting:
            self.waiting = False
            self.callback()


class FakeScheduler:
    """Background work is done at once; timers fire when told to."""

    def __init__(self):
        self.timers, self.closed = [], False

    def debounce(self, seconds, callback):
        self.timers.append(FakeTimer(callback))
        return self.timers[-1]

    def background(self, work, done, failed):
        try:
            answer = work()
        except Exception as error:
            failed(error)
        else:
            done(answer)

    def fire(self):
        for timer in self.timers:
            timer.fire()

    def close(self):
        self.closed = True


class FakeWorker:
    """Remembers what it is sent; tests answer for the engine."""

    message = Signal(object)
    crashed = Signal(str)

    def __init__(self):
        self.sent, self.closed = [], False

    def send(self, message):
        assert protocol.decode(protocol.encode(message)) == message
        self.sent.append(message)

    def close(self):
        self.closed = True

    def last(self, kind):
        return next(message for message in reversed(self.sent) if isinstance(message, kind))


class FakeView:
    """The part of ViewerLayers that the session uses, without a viewer."""

    painted = Signal(object)
    z_changed = Signal(int)
    pointed = Signal(object)
    class_selected = Signal(int)
    brush_changed = Signal(float)
    overlay_changed = Signal()
    lost = Signal(str)

    def __init__(self):
        self.z, self.volume, self.labels, self.prediction, self.stability = 0, None, None, None, None
        self.overlay_visible, self.overlay_opacity, self.contour, self.brush_mm = True, 0.4, False, 8.0
        self.window = self.colours = self.selected = None
        self.closed = False

    def show_volume(self, volume, window, name):
        self.volume, self.window = volume, window

    def show_annotation(self, labels, colours):
        self.labels, self.colours = labels, colours

    def show_prediction(self, labels, colours):
        self.prediction = labels

    def show_predicted_slice(self, z, labels_yx):
        self.prediction[z] = labels_yx

    def show_stability(self, z, stability_yx):
        self.stability = None if stability_yx is None else (z, stability_yx)

    def set_slice(self, z, labels_yx):
        self.labels[z] = labels_yx

    def set_window(self, window):
        self.window = window

    def visible_quantiles(self):
        return None

    def set_colours(self, colours):
        self.colours = colours

    def select_class(self, value):
        self.selected = value

    def paint(self, erase=False):
        pass

    def selected_volume(self):
        return None

    def go_to(self, z):
        self.z = z
        self.z_changed.emit(z)

    def close(self):
        self.closed = True

    def stroke(self, z, value=1, where=(slice(5, 9), slice(5, 9))):
        self.labels[(z, *where)] = value
        self.painted.emit({z})
