"""The command line: the commands that need no server. A checkout adds the commands of the pipeline."""
