"""The part of the composition root that makes the erasing.

Role: gives ``service.erasure`` its collaborators, and has it take up what an earlier run left.
Rules: as for ``assembly``.
Must not know: as there.
"""

from ringback.api.deps import Deps
from ringback.service.erasure import Erasure, HoldsDeliveries
from ringback.store.database import Database
from ringback.store.erase import wipe_log
from ringback.store.erasure_reads import ErasureReads
from ringback.store.reader import Fetches


async def erasing(deps: Deps, dispatch: HoldsDeliveries, reader: Fetches, database: Database) -> Erasure:
    """The erasing over these parts, gone on with as far as must be before anything is taken in."""
    made = Erasure(
        reads=ErasureReads(reader),
        writer=deps.writer,
        endpoints=deps.endpoints,
        callbacks=deps.callbacks,
        tokens=deps.tokens,
        dispatch=dispatch,
        clock=deps.clock,
        wipe=lambda: wipe_log(database),
        metrics=deps.metrics,
    )
    await made.resume()
    return made
