"""Video: choosing frames and reading them as pictures. It imports nothing: the decoder in a child process is in this folder."""
