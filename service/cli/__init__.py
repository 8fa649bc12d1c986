"""What a checkout adds to the command line: commands that run the service, and processing as runs of Prefect."""

from service.cli.runs import PrefectPipeline

PIPELINE = PrefectPipeline()
"""Found by `panelworks.cli.pipeline`."""
