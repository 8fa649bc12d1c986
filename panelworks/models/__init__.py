"""Models: which networks there are, where their weights come from, and how they run."""

import sys

if "openvino_telemetry" not in sys.modules:
    # OpenVINO reports its import to Google Analytics, under an id that it stores in ~/intel. Without this module it
    # reports nothing. It has no setting for this; a user can decline with the command opt_in_out.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # None makes the import fail
