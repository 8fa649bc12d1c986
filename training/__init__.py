"""Training of the bundled network and of the quality head. Not part of the installed package; see README.md."""
