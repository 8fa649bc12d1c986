"""Long-running processes collect garbage less often."""

import subprocess
import sys


def test_loaded_objects_are_exempt_and_garbage_is_still_collected() -> None:
    program = """
import gc, weakref
from deployments.long_running import COLLECTION_THRESHOLDS, collect_garbage_less_often

class Node:
    pass

collect_garbage_less_often()
assert gc.get_freeze_count() > 1000
assert gc.get_threshold() == COLLECTION_THRESHOLDS
node = Node()
node.itself = node
gone = weakref.ref(node)
del node
kept = [[] for _ in range(2 * COLLECTION_THRESHOLDS[0])]
assert gone() is None
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
