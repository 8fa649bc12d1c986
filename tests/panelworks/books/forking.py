"""A process that runs books in children of its own, each ready at once, so that a test can kill many of them.

For each line of standard input, a request and a cache folder as JSON, it forks a child that does the book, prints the child's pid,
waits for it, and prints how it ended.
"""

import json
import os
import sys

from panelworks.books.direct import enhance_book_directly
from panelworks.books.records import BookRequest
from panelworks.engine import Engine
from panelworks.settings import get_settings


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        request = BookRequest.model_validate(order["request"])
        child = os.fork()
        if not child:
            os.environ["PANELWORKS_CACHE_DIR"] = order["cache"]
            engine = Engine(get_settings())
            engine.tidy()
            result = enhance_book_directly(request, engine)
            os._exit(0 if result.status == "success" else 1)
        tell(child)
        _, status = os.waitpid(child, 0)
        tell(os.waitstatus_to_exitcode(status))


def tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
