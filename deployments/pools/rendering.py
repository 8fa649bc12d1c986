"""What a worker would make of a run, rendered by the worker's own classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from jsonschema import Draft202012Validator
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.workers.base import BaseJobConfiguration

from deployments.names import PoolKind
from deployments.pools.kinds import worker_class


@dataclass(frozen=True)
class Rendered:
    """A job as the worker would start it."""

    kind: PoolKind
    configuration: BaseJobConfiguration
    flow_run: FlowRun
    """A run that stands for any other."""


async def render(
    kind: PoolKind,
    template: Mapping[str, Any],
    variables: Mapping[str, Any] | None = None,
    client: PrefectClient | None = None,
) -> Rendered:
    """Render a base job template as a worker does when it takes a run.

    Args:
        kind: Which worker renders it.
        template: `job_configuration` and `variables`, as in the pool.
        variables: The deployment's job variables, over the defaults of the template.
        client: Of the server that holds the blocks and variables which are referred to; None when there are none.

    Raises:
        UnknownKind: the worker's package is not installed.
        ValueError: the variables or the result do not fit; pydantic's and jsonschema's errors are such.
    """
    worker = worker_class(kind)
    given = dict(variables or {})
    for wrong in _refused(template, given):
        raise ValueError(wrong)
    configuration = await worker.job_configuration.from_template_and_values(
        base_job_template=dict(template), values=given, client=client or _nobody()
    )
    flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), name="a-page")
    configuration.prepare_for_flow_run(flow_run)
    return Rendered(kind, configuration, flow_run)


def _nobody() -> PrefectClient:
    """A client that is not asked; without one Prefect would start a server."""
    return PrefectClient("http://127.0.0.1:1/api")


def _refused(template: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What of the variables the form of the template would not take."""
    schema = dict(template["variables"])
    flat = {name: value for name, value in given.items() if "." not in name}
    return [
        f"{'.'.join(map(str, error.absolute_path)) or 'variables'}: {error.message}"
        for error in Draft202012Validator(schema).iter_errors(flat)
    ]
