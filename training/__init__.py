"""How the bundled network was made. Not installed with the package; see README.md here."""
