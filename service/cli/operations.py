"""Commands that run the service: the stack, its parts, and the events that start it."""

from typing import Annotated

import typer

from deployments.checkout import Target
from deployments.names import POOL, Priority
from panelworks.cli.options import SCALE_METAVAR, Json, parse_scale
from panelworks.cli.output import print_json
from service.prefect_server import check_server, find_server_url
from service.stack.database import Database

app = typer.Typer()

Gpu = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Networks that run at the same time on the device; by default the existing limit, or 1.",
        show_default=False,
    ),
]


@app.command(epilog="Example: panelworks up --check; panelworks up --port 4210 --gateway-port 8210")
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Prefect server.")] = 4200,
    gateway_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the gateway.")] = 8200,
    host: Annotated[
        str,
        typer.Option(help="Address that the gateway listens on; addresses other than loopback require keys."),
    ] = "127.0.0.1",
    pages: Annotated[int, typer.Option(min=1, help="Pages in process at the same time.")] = 2,
    gpu: Gpu = None,
    warm: Annotated[
        bool,
        typer.Option(
            "--warm/--plain",
            help="Pages share processes that stay alive, with the networks loaded; or each gets its own process.",
        ),
    ] = True,
    database: Annotated[
        Database,
        typer.Option(
            help="Database of the Prefect server; 'postgres' starts one of this installation's own."
            " PREFECT_SERVER_DATABASE_CONNECTION_URL overrides it."
        ),
    ] = "sqlite",
    check: Annotated[
        bool, typer.Option("--check", help="Start nothing; report what is wrong and how to fix it.")
    ] = False,
) -> None:
    """Start the whole stack on this machine: Prefect server, deployments, automations, supervisor, worker, gateway.

    Uses the Prefect server that PREFECT_API_URL or a Prefect profile names, if there is one. Ctrl-C stops what was started.
    """
    from service.stack.plan import StackPlan
    from service.stack.up import bring_up, check_up

    existing_api_url = find_server_url()
    plan = StackPlan(
        host=host, port=port, gateway_port=gateway_port, pages=pages, gpu=gpu, existing_api_url=existing_api_url, warm=warm,
        database=database,
    )  # fmt: skip
    raise typer.Exit(check_up(plan) if check else bring_up(plan))


@app.command(epilog="Example: PREFECT_API_URL=http://prefect:4200/api panelworks provision")
def provision(
    gpu: Gpu = None,
    target: Annotated[
        Target,
        typer.Option(
            help="The target whose pool receives the deployments; see the definitions in prefect.yaml."
        ),
    ] = "local",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Apply this release's values also where an operator changed them."),
    ] = False,
) -> None:
    """Create pool, queues, limits, blocks, automations and deployments at the Prefect server, and print differences.

    Values that an operator changed in the UI or with 'panelworks schedule' are kept.
    """
    from service.stack.plan import StackPlan
    from service.stack.up import provision_server

    existing_api_url = check_server()
    plan = StackPlan(
        host="127.0.0.1",
        port=0,
        gateway_port=0,
        pages=1,
        gpu=gpu,
        existing_api_url=existing_api_url,
        target=target,
    )
    raise typer.Exit(provision_server(plan, overwrite=overwrite))


@app.command(epilog="Example: panelworks server --port 4200")
def server(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; addresses other than loopback require PREFECT_SERVER_API_AUTH_STRING."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 4200,
    services: Annotated[
        bool, typer.Option(help="Run the background services (scheduler, automations ...) as well.")
    ] = True,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes that answer requests. More than one need Postgres, Redis and --no-services.",
        ),
    ] = 1,
) -> None:
    """Serve Prefect's API and UI behind checks of Host, Origin and auth string; `panelworks up` starts it with the rest."""
    from service.cli.processes import serve_prefect_api

    serve_prefect_api(host, port, services=services, workers=workers)


@app.command(epilog="Example: panelworks worker --pool panelworks --limit 2")
def worker(
    pool: Annotated[str, typer.Option(help="A work pool of the type 'process'.")] = POOL,
    name: Annotated[str | None, typer.Option(help="Name of the worker.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Runs at the same time, a warm process each.")] = 2,
    plain: Annotated[bool, typer.Option("--plain", help="A new process for each run.")] = False,
    runs_per_process: Annotated[
        int, typer.Option(min=0, help="Replace a warm process after this number of runs; 0: never.")
    ] = 0,
    idle_seconds: Annotated[
        float,
        typer.Option(min=1, help="Replace a process that was idle for this time: it frees the GPU's memory."),
    ] = 900,
    drain_seconds: Annotated[
        float,
        typer.Option(min=0, help="How long running pages may take to end when the worker is stopped."),
    ] = 30,
    with_healthcheck: Annotated[
        bool,
        typer.Option(
            "--with-healthcheck",
            help="Report on PREFECT_WORKER_WEBSERVER_PORT (8080) whether it still polls.",
        ),
    ] = False,
) -> None:
    """Serve a work pool from warm processes: flow and networks stay loaded between runs."""
    from service.cli.processes import work

    work(
        pool,
        name=name,
        limit=limit,
        plain=plain,
        runs_per_child=runs_per_process,
        idle_seconds=idle_seconds,
        drain_seconds=drain_seconds,
        with_healthcheck=with_healthcheck,
    )


@app.command(epilog="Example: panelworks gateway --port 8200")
def gateway(
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; addresses other than loopback require PANELWORKS_API_KEYS."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8200,
) -> None:
    """Serve the HTTP gateway alone; `panelworks up` starts it with the rest."""
    from service.cli.processes import serve

    serve(host, port)


@app.command(epilog="Example: panelworks supervise --health-port 8201")
def supervise(
    health_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, show_default=False,
            help="Port of 127.0.0.1 on which GET /health answers 200 while the supervisor works.",
        ),
    ] = None,
) -> None:  # fmt: skip
    """Restart crashed pages, deliver callbacks and enforce the budget; `panelworks up` starts it with the rest.

    Any number may run: one acts, and another one takes over within half a minute when it dies. Ctrl-C or SIGTERM stops it.
    """
    from service.supervisor.process import supervise as run_supervisor

    run_supervisor(health_port)


@app.command(epilog="Example: panelworks emit https://example.com/panel.png --tool dall-e --panel-id p7")
def emit(
    source: Annotated[str, typer.Argument(help="https://, s3:// or data: address of the panel.")],
    tool: Annotated[str, typer.Option(help="Who generated it.")] = "cli",
    job_id: Annotated[
        str | None, typer.Option(help="The generator's id of the job; by default a new one.")
    ] = None,
    panel_id: Annotated[str | None, typer.Option(help="The panel's identity.")] = None,
    comic_id: Annotated[str | None, typer.Option(help="The comic's identity.")] = None,
    preset: Annotated[str, typer.Option(help="Preset of the variants.")] = "comic-page",
    scale: Annotated[
        str | None,
        typer.Option(
            metavar=SCALE_METAVAR, help="How many times larger; empty: UPSCALE_SCALE of the worker."
        ),
    ] = None,
    priority: Annotated[Priority, typer.Option(help="Which queue it waits in.")] = "events",
    callback: Annotated[str | None, typer.Option(help="https:// address that receives the result.")] = None,
    json: Json = False,
) -> None:
    """Report a generated panel to Prefect: the event comic.panel.generated."""
    from service.emission import emit_generated

    emitted = emit_generated(
        source, tool=tool, job_id=job_id, panel_id=panel_id, comic_id=comic_id, preset=preset, scale=parse_scale(scale),
        priority=priority, callback=callback,
    )  # fmt: skip
    if json:
        print_json(emitted)
    else:
        print(f"event {emitted['event_id']}, job {emitted['job_id']}")


@app.command(epilog="Example: panelworks bench --json")
def bench(
    runs: Annotated[int, typer.Option(min=1, help="Runs of each side; the median is reported.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Skip the memory figures.")] = False,
    json: Json = False,
) -> None:
    """Measure this machine: the engine against the package realesrgan, a page's stages, cold start, memory."""
    from service.bench.run import run_bench

    run_bench(runs=runs, json=json, quick=quick)
