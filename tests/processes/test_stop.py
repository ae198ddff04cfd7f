"""A signal is answered at once, and SIGTERM ends a command with a status that says: start it again."""

import os
import subprocess
import sys
import time

import pytest

# Four seconds in one instruction, in which no handler of Python can run: `system` goes on waiting after a signal.
BUSY = """
import ctypes, sys, time
from codir_jax.processes import stop
with stop.preemptible():
    {enter}
    print("ready", flush=True)
    ctypes.CDLL(None).system(b"sleep 4")
    {then}
"""


def _answered(enter="pass", then="time.sleep(9)"):
    """(seconds until the first line of stderr, that line, exit status)."""
    script = BUSY.format(enter=enter, then=then)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    process.terminate()
    line = process.stderr.readline() + process.stderr.readline()
    seconds = time.monotonic() - started
    process.communicate(timeout=20)
    return seconds, line.strip(), process.returncode


def test_sigterm_is_answered_while_a_library_works_and_ends_with_75():
    seconds, line, status = _answered()
    assert seconds < 3 and line == "stopping ..." and status == 75


def test_in_the_loop_the_answer_says_that_a_checkpoint_is_written():
    request = "request = stop.StopRequest(); request.__enter__()"
    seconds, line, status = _answered(request, "sys.exit(3 if request.is_due() else 0)")
    assert seconds < 3 and line == "stopping after this step; a checkpoint is written ..." and status == 3


def test_sigterm_in_an_import_whose_library_catches_everything_ends_with_75(tmp_path):
    greedy = "import time\ntry:\n    print('ready', flush=True)\n    time.sleep(9)\nexcept BaseException:\n    pass\n"
    (tmp_path / "greedy.py").write_text(greedy)
    script = "from codir_jax.processes import stop\nwith stop.preemptible():\n    import greedy\n"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait(timeout=20) == 75


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.3, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0])
def test_sigterm_while_libraries_are_imported_or_a_step_is_compiled_ends_with_75(delay, tmp_path):
    command = ["train", "--config=configs/codir/finetune_teacher.py:tiny", f"--workdir={tmp_path}/run"]
    nothing_compiled = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")}
    process = subprocess.Popen(
        [sys.executable, "-m", "codir_jax.main", *command], stderr=subprocess.PIPE, text=True, env=nothing_compiled
    )
    time.sleep(delay)
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75 and "Traceback" not in told, told


def test_a_signal_whose_exception_is_ignored_in_a_callback_of_the_collector_ends_the_command_all_the_same():
    # As jax's own callback does, which runs while a step is traced.
    enter = "import gc; gc.callbacks.append(lambda *_: time.sleep(0.3))"
    seconds, line, status = _answered(enter, "gc.collect(); time.sleep(9)")
    assert seconds < 3 and line == "stopping ..." and status == 75
