"""Stand-ins for what the session is handed: a view, a clock, an engine."""

import numpy as np
from psygnal import Signal

from vqseg import protocol
from vqseg.tokens import CodebookSurvey, TokenGrid
from vqseg.volume import StoredLayout, Volume

SHAPE = (12, 30, 24)


def make_volume(affine=None, shape_ijk=None, **kwargs):
    """A small CT-like volume; by default stored as LPS with anisotropic voxels."""
    shape_ijk = shape_ijk or SHAPE[::-1]
    affine = np.diag([-0.8, -0.9, 2.5, 1.0]) if affine is None else affine
    affine = np.asarray(affine, dtype=float)
    most_axial = int(np.argmax(np.abs(affine[2, :3]) / np.linalg.norm(affine[:3, :3], axis=0)))
    layout = StoredLayout(tuple(shape_ijk), affine, slice_axis=most_axial)
    stored = np.arange(-1000, np.prod(shape_ijk) - 1000, dtype=np.int16).reshape(shape_ijk)
    return Volume(layout.to_canonical(stored), layout, **kwargs)


def make_survey(shape):
    """A codebook of four codes, one of them dead, over a volume (z, y, x): bands of code 0, 2 and 3 along y."""
    grid = TokenGrid((0, shape[1], 0, shape[2]), (6.0, 6.0), (-(-shape[1] // 6), -(-shape[2] // 6)))
    codes = np.zeros((shape[0], *grid.shape_yx), np.uint16)
    codes[:, 2], codes[:, 3] = 2, 3
    voxels = np.array([[90, 0, 0], [0, 0, 0], [10, 30, 0], [0, 0, 20]])
    places = np.array([[-1, 0], [np.nan, np.nan], [1, 1], [1, -1]], np.float32)
    hu = np.array([-700, np.nan, 40, 60], np.float32)
    history = np.array([[10, 0.25, 1.5, 2, np.nan], [20, 0.75, 2.5, 0, 0.125]], np.float32)
    return CodebookSurvey(codes, grid, voxels, hu, np.abs(hu) / 10, places, 0.8, history)


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

    aside = background

    def in_turns(self, steps):
        for _ in steps:
            pass

    def fire(self):
        for timer in self.timers:
            timer.fire()

    def close(self):
        self.closed = True
        for timer in self.timers:
            timer.stop()


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


class FakeAnnotationLayer:
    painted = Signal(object)
    replayed = Signal(object, bool)
    class_selected = Signal(int)
    brush_changed = Signal(float)
    refused = Signal(object)
    tool_changed = Signal(str)
    outside = Signal()
    elsewhere = Signal(str)

    def __init__(self):
        self.limits_hu = None
        self.labels = self.colours = self.selected = None
        self.done, self.steps = [], {}
        self.brush_mm, self.brush_step_mm, self.locked = 8.0, 1.6, ()

    def lock(self, values):
        self.locked = values

    def set_colours(self, colours):
        self.colours = colours

    def show(self, labels, colours):
        self.labels, self.colours = labels, colours

    def set_slice(self, z, labels_yx):
        self.steps[z] = self.labels[z].copy()
        self.labels[z] = labels_yx

    def commit(self, reason):
        self.done.append((self.steps, reason))
        self.steps = {}

    def undo(self):
        before, reason = self.done.pop()
        for z, labels_yx in before.items():
            self.labels[z] = labels_yx
        self.replayed.emit(reason, True)

    def select_class(self, value):
        self.selected = value

    def take(self, tool):
        self.tool = tool

    def take_painting_tool(self):
        self.take("paint")

    def resize_brush(self, factor):
        self.brush_mm *= factor


class FakeOverlay:
    changed = Signal()
    contoured = Signal(bool)

    def __init__(self):
        self.prediction = self.stability = None
        self.visible = True

    def show(self, labels):
        self.prediction = labels

    def draw_classes(self, colours, contoured):
        self.colours, self.contours = colours, contoured

    def show_slice(self, z, labels_yx):
        self.prediction[z] = labels_yx

    def show_stability(self, z, stability_yx):
        self.stability = None if stability_yx is None else (z, stability_yx)


class FakeProposal:
    def __init__(self):
        self.shown = {}

    def show(self, labels, slices, colours):
        self.shown = {z: labels[z] for z in slices}

    def keep(self, slices):
        self.shown = {z: self.shown[z] for z in slices}

    def hide(self):
        self.shown = {}


class FakeDifference:
    changed = Signal()

    def __init__(self):
        self.visible, self.shown = False, None

    def show(self, first, second, left_out=()):
        self.visible, self.shown = True, (first, second, left_out)
        self.changed.emit()

    def hide(self):
        self.visible = False
        self.changed.emit()


class FakeTokens:
    clicked = Signal(object)
    changed = Signal()

    def __init__(self):
        self.visible, self.codes, self.grid, self.code, self.selected = False, None, None, None, False

    def prepare(self, codes, grid):
        self.codes, self.grid = codes, grid
        yield

    def show(self, codes, grid):
        self.visible, self.codes, self.grid = True, codes, grid

    def hide(self):
        self.visible = False

    def select(self):
        self.selected = self.visible

    def highlight(self, code):
        self.code = code


class FakeNavigation:
    z_changed = Signal(int)
    plane_changed = Signal()

    def __init__(self):
        self.z, self.plane = 0, "axial"

    def show_axial(self):
        turned, self.plane = self.plane != "axial", "axial"
        return turned

    def go_to(self, z):
        self.show_axial()
        self.z = z
        self.z_changed.emit(z)


class FakeImage:
    window_changed = Signal(object)
    offer_changed = Signal()
    offered = ""

    def __init__(self):
        self.window, self.unread = None, 3

    def set_window(self, window):
        self.window = window

    def visible_quantiles(self):
        return None

    def read_ahead(self):
        self.unread -= 1
        return self.unread > 0

    def selected_volume(self):
        return None


class FakePointer:
    pointed = Signal(object)


class FakeView:
    """The part of ViewerLayers that the session uses, without a viewer."""

    lost = Signal(str)

    def __init__(self):
        self.annotation, self.overlay, self.navigation = FakeAnnotationLayer(), FakeOverlay(), FakeNavigation()
        self.image, self.pointer, self.proposal = FakeImage(), FakePointer(), FakeProposal()
        self.tokens, self.difference = FakeTokens(), FakeDifference()
        self.volume, self.closed = None, False

    def show_volume(self, volume, window, name):
        self.volume, self.image.window = volume, window
        yield

    def finish(self):
        yield

    def close(self):
        self.closed = True

    def stroke(self, z, value=1, where=(slice(5, 9), slice(5, 9))):
        self.annotation.labels[(z, *where)] = value
        self.annotation.painted.emit({z})


class Desk:
    """A session with everything it needs, and what it said."""

    def __init__(self):
        from napari_vqseg.session import Session

        self.view, self.clock, self.worker = FakeView(), FakeScheduler(), FakeWorker()
        self.session = Session(self.view, self.clock, lambda: self.worker)
        self.heard = []
        self.session.notified.connect(lambda text, level: self.heard.append((level, text)))


def ready_to_predict(desk, tmp_path, labels=None, confidence=None, learnt=(), step=7):
    """Let the engine have trained and predicted."""
    session = desk.session
    session.engine.send(protocol.LoadCheckpoint("x"))
    labels = np.ones(session.volume.shape, np.uint8) if labels is None else labels
    confidence = np.ones(len(labels), np.float32) if confidence is None else confidence
    arrays = {"labels": labels, "uncertainty": np.full(labels.shape, 0.25, np.float16), "confidence": confidence}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    paths = [str(tmp_path / f"{name}.npy") for name in arrays]
    case_id = session.case.case.id
    desk.worker.message.emit(
        protocol.PredictionReady(None, case_id, step, paths[0], paths[1], confidence_path=paths[2], learnt=list(learnt))
    )
