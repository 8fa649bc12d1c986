"""`python -m panelworks`: the command line."""

from panelworks.cli.app import main

main()
