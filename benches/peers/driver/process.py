"""Starts, pins, measures and ends the driver's own processes, by their ids."""

import os
import signal
import subprocess
import time
from pathlib import Path

STARTED = []


class Started:
    """A process and its children."""

    def __init__(self, name, command, log, env=None, stdin=subprocess.DEVNULL, stdout=None):
        self.name = name
        self.log = log
        with open(log, "wb") as file:
            self.popen = subprocess.Popen(command, stdin=stdin, stdout=stdout or file, stderr=file,
                                          env={**os.environ, **(env or {})})
        STARTED.append(self)

    def pids(self):
        """This process and all below it."""
        found, look = [], [self.popen.pid]
        while look:
            pid = look.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    look += [int(child) for child in task.read_text().split()]
                except OSError:
                    pass
        return found

    def pin(self, cores):
        """Pins all present and future threads to these cores."""
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").glob("*"):
                try:
                    os.sched_setaffinity(int(task.name), cores)
                except (OSError, ValueError):
                    pass

    def resident(self):
        """Resident kilobytes as the kernel accounts them (RSS), over all its processes."""
        total = 0
        for pid in self.pids():
            try:
                text = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            total += next((int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:")), 0)
        return total

    def cpu(self):
        """Seconds of CPU time so far."""
        return sum(self.cpu_by_thread().values())

    def cpu_by_thread(self):
        """The same by the threads' names."""
        found = {}
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").glob("*"):
                try:
                    name = (task / "comm").read_text().strip()
                    spent = int((task / "schedstat").read_text().split()[0]) / 1e9
                except (OSError, IndexError):
                    continue
                found[name] = found.get(name, 0) + spent
        return found

    def alive(self):
        """Whether it still runs."""
        return self.popen.poll() is None

    def end(self):
        """Sends SIGTERM, waits, and then sends SIGKILL."""
        if self in STARTED:
            STARTED.remove(self)
        if not self.alive():
            return
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(3)
        except subprocess.TimeoutExpired:
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            self.popen.wait(5)

    def said(self):
        """The end of its log."""
        try:
            return Path(self.log).read_text(errors="replace")[-600:]
        except OSError:
            return ""


def end_all():
    """Ends all started processes."""
    for started in list(reversed(STARTED)):
        started.end()


def until(holds, seconds):
    """Polls until the result is true or the time is over."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
