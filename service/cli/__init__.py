"""The commands of a checkout: they run the service, and process pages as runs of Prefect."""

from service.cli.runs import PrefectPipeline

PIPELINE = PrefectPipeline()
"""Found by `panelworks.cli.pipeline`."""
