"""`panelworks bench`: the speed of the engine on this machine, compared with the package `realesrgan` where it is installed."""
