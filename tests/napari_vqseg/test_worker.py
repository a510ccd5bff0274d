"""The engine process as the window sees it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from qtpy.QtCore import QTimer

from napari_vqseg import worker as worker_module
from napari_vqseg.worker import EngineWorker
from vqseg.protocol import Failed, OpenCase, Ready, Shutdown

FAKE = str(Path(__file__).parent.parent / "fake_engine.py")
WAIT_MS = 120_000


class Heard:
    """Everything a worker signalled."""

    def __init__(self, worker):
        self.messages, self.crashes, self.started, self.stopped = [], [], 0, 0
        worker.message.connect(self.messages.append)
        worker.crashed.connect(self.crashes.append)
        worker.started.connect(self._start)
        worker.stopped.connect(self._stop)

    def _start(self):
        self.started += 1

    def _stop(self):
        self.stopped += 1


@pytest.fixture
def make(qtbot):
    made = []

    def make(*arguments):
        worker = EngineWorker(arguments or (FAKE,))
        made.append(worker)
        return worker, Heard(worker)

    yield make
    for worker in made:
        worker.close()
        worker.wait()
        worker.deleteLater()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_real_engine_starts_with_the_first_message_and_leaves_when_asked(make, qtbot):
    worker, heard = make("-m", "vqseg.engine")
    assert not worker.running
    worker.send(OpenCase("/nowhere", "case-001"))
    with qtbot.waitSignal(worker.message, timeout=WAIT_MS, check_params_cb=lambda item: isinstance(item, Failed)):
        pass
    assert isinstance(heard.messages[0], Ready)
    assert heard.started == 1
    pid = worker.pid
    assert alive(pid)
    with qtbot.waitSignal(worker.stopped, timeout=WAIT_MS):
        worker.stop()
    assert not alive(pid)
    assert heard.crashes == []
    assert not worker.running
    assert worker.pid is None


def test_lines_arrive_whole(make, qtbot):
    code = (
        "import sys, time\n"
        'for part in (\'{"message": "Notice", "te\', \'xt": "one"}\\n{"message": "Notice", \', '
        '\'"text": "two"}\\nnonsense\\n\'):\n'
        "    sys.stdout.write(part); sys.stdout.flush(); time.sleep(0.1)\n"
        "sys.stdin.read()\n"
    )
    worker, heard = make("-c", code)
    worker.start()
    qtbot.waitUntil(lambda: len(heard.messages) == 3, timeout=WAIT_MS)
    assert [message.text for message in heard.messages[:2]] == ["one", "two"]
    assert isinstance(heard.messages[2], Failed)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "memory was full"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        ("import sys; sys.exit('no module named torch')", "no module named torch"),
        ("pass", "exit code 0"),
    ],
)
def test_an_unexpected_end_is_a_crash_with_a_reason(make, qtbot, code, words):
    worker, heard = make("-c", code)
    with qtbot.waitSignal(worker.crashed, timeout=WAIT_MS):
        worker.start()
    assert words in heard.crashes[0]
    assert heard.stopped == 0
    assert not worker.running


def test_after_a_crash_the_next_message_starts_a_new_engine(make, qtbot):
    worker, heard = make()
    with qtbot.waitSignal(worker.started, timeout=WAIT_MS):
        worker.start()
    with qtbot.waitSignal(worker.crashed, timeout=WAIT_MS):
        os.kill(worker.pid, signal.SIGKILL)
    with qtbot.waitSignal(worker.started, timeout=WAIT_MS):
        worker.send(OpenCase("/nowhere", "case-001"))
    assert len(heard.crashes) == 1


def test_an_interpreter_that_cannot_start_is_said(make, qtbot, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    worker, heard = make()
    with qtbot.waitSignal(worker.crashed, timeout=WAIT_MS):
        worker.start()
    assert "could not be started" in heard.crashes[0]


DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdout.write('{"message": "Notice", "text": "deaf"}\\n'); sys.stdout.flush()
time.sleep(600)
"""


def test_a_deaf_engine_is_killed_without_blocking_the_window(make, qtbot, monkeypatch):
    monkeypatch.setattr(worker_module, "SHUTDOWN_WITHIN_MS", 300)
    monkeypatch.setattr(worker_module, "TERMINATE_WITHIN_MS", 200)
    worker, heard = make("-c", DEAF)
    with qtbot.waitSignal(worker.message, timeout=WAIT_MS):
        worker.start()
    beats = []
    heart = QTimer()
    heart.timeout.connect(lambda: beats.append(time.monotonic()))
    heart.start(10)
    with qtbot.waitSignal(worker.stopped, timeout=WAIT_MS):
        worker.stop()
        worker.stop()
    heart.stop()
    assert len(beats) > 10
    assert heard.crashes == [], "a stop that was asked for is never a crash"


def test_close_does_not_wait_for_the_engine_and_starts_no_second_one(make, qtbot, monkeypatch):
    monkeypatch.setattr(worker_module, "SHUTDOWN_WITHIN_MS", 300)
    monkeypatch.setattr(worker_module, "TERMINATE_WITHIN_MS", 200)
    worker, heard = make("-c", DEAF)
    with qtbot.waitSignal(worker.message, timeout=WAIT_MS):
        worker.start()
    pid, start = worker.pid, time.monotonic()
    worker.close()
    worker.close()
    assert time.monotonic() - start < 0.2
    assert alive(pid)
    qtbot.waitUntil(lambda: not alive(pid), timeout=WAIT_MS)
    worker.send(Shutdown())
    assert not worker.running
    assert heard.crashes == []


BANKING = """
import sys, time
for line in sys.stdin:
    sys.stdout.write('{"message": "Notice", "text": "busy"}\\n'); sys.stdout.flush()
    if "Shutdown" in line:
        time.sleep(0.5)
        open(sys.argv[1], "w").write("banked")
        break
"""


def test_the_programs_end_waits_until_the_engine_has_banked_its_work(tmp_path):
    code = (
        "import sys\n"
        "from qtpy.QtCore import QCoreApplication\n"
        "from napari_vqseg.worker import EngineWorker\n"
        "from vqseg.protocol import StopTraining\n"
        "application = QCoreApplication([])\n"
        "worker = EngineWorker(sys.argv[1:])\n"
        "worker.message.connect(lambda _: application.quit())\n"
        "worker.send(StopTraining())\n"
        "application.exec_()\n"
        "worker.close()\n"
        "del worker\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(FAKE).parent.parent)}
    command = [sys.executable, "-c", code, "-c", BANKING, str(tmp_path / "bank")]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bank").read_text() == "banked"


def test_no_torch_in_the_window():
    code = "import sys, napari_vqseg.worker; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(FAKE).parent.parent)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
