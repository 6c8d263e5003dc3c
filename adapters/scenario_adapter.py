"""The protocol of an adapter, for adapters in Python: JSON lines on standard input and output (README.md says which)."""

import json
import os
import queue
import sys
import threading
import time

# What libraries print belongs to the log: lines of ours go to the standard output that we were given, theirs to standard error.
_out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
_lock = threading.Lock()


def say(kind, **fields):
    """Writes a line: `ready`, `delta`, `done` or `error`."""
    if kind in ("delta", "done"):
        fields.setdefault("at", time.monotonic_ns())
    with _lock:
        _out.write(json.dumps({kind: fields}) + "\n")


def messages():
    """What the runner says, as pairs of a word and its fields; ends with `close`, or when the runner is gone."""
    for line in sys.stdin:
        (word, fields), = json.loads(line).items()
        if word == "close":
            return
        yield word, fields


def batches(first=None, pause=0.02):
    """Lists of requests that came together: for engines that answer a batch as a whole."""
    waiting = queue.Queue()

    def listen():
        for word, fields in messages():
            if word == "generate":
                waiting.put(fields)
        waiting.put(None)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        request = waiting.get()
        batch = []
        while request is not None:
            batch.append(request)
            try:
                request = waiting.get(timeout=pause)
            except queue.Empty:
                break
        if batch:
            yield batch
        if request is None:
            return
