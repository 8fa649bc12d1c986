"""The command line: what needs no server is here, one command a file; a checkout adds the commands of the pipeline."""
