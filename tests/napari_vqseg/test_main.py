"""``python -m napari_vqseg``: what is in the way of the image goes by itself."""

from napari._qt.dialogs.qt_notification import NapariQtNotification

from napari_vqseg.__main__ import close_early_notices


def test_notices_from_before_the_window_go_and_later_ones_stay(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    parent = viewer.window._qt_window

    def notify(text):
        notice = NapariQtNotification(text, "warning", parent=parent)
        notice.setVisible(True)  # without the timer that napari's own `show` starts in an active window
        closed = []
        notice.destroyed.connect(closed.append)
        return notice, closed

    _, early = notify("this binding is an old one")
    by_hand, _ = notify("closed by hand")
    close_early_notices(viewer, after_ms=50)
    by_hand.close()
    later, stays = notify("something of today")
    qtbot.waitUntil(lambda: bool(early), timeout=5000)
    qtbot.wait(50)
    assert not stays
    later.close()
