"""One Prefect task a file: the work is one call into the library. `PAGE_TASKS` names the tasks of a page by stage."""

from typing import Final

from orchestration.page_stages import StageTasks
from tasks.assess import assess
from tasks.enhance import enhance
from tasks.ingest import ingest
from tasks.make_variants import make_variants
from tasks.publish import publish
from tasks.validate import validate

PAGE_TASKS: Final[StageTasks] = {
    "ingest": ingest,
    "assess": assess,
    "enhance": enhance,
    "validate": validate,
    "variants": make_variants,
    "publish": publish,
}
