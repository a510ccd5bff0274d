"""What panels are made of: how often the window is drawn for them."""

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QScrollArea, QVBoxLayout, QWidget

from napari_vqseg.panels.parts import Section, lay_out, note


class Drawings(QObject):
    """Counts how often a window is drawn."""

    count = 0

    def eventFilter(self, watched, event):  # noqa: N802 - Qt's name
        self.count += event.type() == QEvent.Type.UpdateRequest
        return False


def test_new_words_draw_the_window_once(qtbot):
    content, inside, window = QWidget(), QWidget(), QScrollArea()
    column, words = QVBoxLayout(content), note("step 1")
    column.addWidget(words)
    column.addWidget(note("below"))
    section = Section("Train", content)
    section.expand()
    QVBoxLayout(inside).addWidget(section)
    window.setWidgetResizable(True)
    window.setWidget(inside)
    qtbot.addWidget(window)
    window.show()
    qtbot.wait(200)
    drawings = Drawings()
    window.installEventFilter(drawings)

    def drawn(text, settled):
        drawings.count = 0
        words.setText(text)
        if settled:
            lay_out(words)
        qtbot.wait(100)
        return drawings.count

    assert drawn("step 2", settled=False) > 1, "without it Qt draws again for the layout"
    assert drawn("step 3", settled=True) == 1
    drawn("step 4<br>and a line more", settled=True)
    assert words.height() >= words.heightForWidth(words.width())
