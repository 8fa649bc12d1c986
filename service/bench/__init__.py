"""`panelworks bench`: how fast the engine is on this machine, beside the package `realesrgan` where it is installed."""
