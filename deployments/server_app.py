"""What Prefect's server looks up for each action of an automation, looked up once.

To start a run, an automation asks its own server for its app (`create_app()`, Prefect 3.9.1). It is found in a cache, but
before that all settings are hashed and the logging is set up anew: 0.15 s in which the server does nothing else.
"""

from functools import cache
from typing import Any

from prefect.server.api import server


def remember_server_app() -> None:
    """From now on the app of this process's server is looked up once; its settings do not change while it runs."""
    create, remembered = server.create_app, cache(server.create_app)

    def create_app(*arguments: Any, **named: Any) -> Any:
        return create(*arguments, **named) if arguments or named else remembered()

    theirs: Any = server
    theirs.create_app = create_app
