"""Which engine the workers on each kind of GPU compute with: one of them compares, the others and a resumed run take it over.

What fails goes one engine down, for the rest of the run. Holds no torch.
"""

from collections.abc import Iterable
from typing import get_args

from hrm_submit.config.schema import DeviceConfig, Engine
from hrm_submit.record.events import EngineChosen

PAYS_FROM = 1200.0
"""Seconds of a run from which it compares engines; a shorter one computes uncompiled."""
SHARE = 0.05
"""Most of a run's budget that a worker compares for."""
ENGINES: tuple[str, ...] = get_args(Engine)


class Engines:
    """The engines of a run with `budget` seconds (None: fixed work); `earlier` are those of the run that it resumes."""

    def __init__(self, config: DeviceConfig, budget: float | None, earlier: Iterable[EngineChosen] = ()) -> None:
        self._compares = config.engine == "auto" and budget is not None and budget >= PAYS_FROM
        self._seconds = SHARE * (budget or 0.0)
        self._fixed = "plain" if config.engine == "auto" else config.engine
        usable = [e for e in earlier if e.engine in ENGINES and e.dtype and config.dtype in ("auto", e.dtype)] if self._compares else []
        self._chosen = {e.card or "": e for e in usable}
        self._comparing: dict[str, int] = {}

    def order(self, card: str, worker: int) -> tuple[EngineChosen | None, float]:
        """Return what `worker` on a GPU named `card` (or `cpu`) is to compute with (None: as it does), and the seconds for which it is to
        compare engines before its next task."""
        if card in self._chosen or card in self._comparing or card == "cpu" or not self._compares:
            return self._chosen.get(card), 0.0
        self._comparing[card] = worker
        return None, self._seconds

    def take(self, told: EngineChosen) -> bool:
        """Keep what a worker has found or fallen to; False where its kind of GPU has come down as far already."""
        card = told.card or ""
        self._comparing.pop(card, None)
        known = self._chosen.get(card)
        if known and ENGINES.index(told.engine or "plain") >= ENGINES.index(known.engine or "plain"):
            return False
        self._chosen[card] = told
        return True

    def lost(self, card: str, worker: int, dtype: str, reason: str) -> EngineChosen | None:
        """Return what follows where a worker is lost at its task: an engine down, plain where it was comparing; None where it was plain."""
        engine = "plain"
        if self._comparing.get(card) != worker:
            known = self._chosen.get(card)
            engine, dtype = (known.engine or "plain", known.dtype or dtype) if known else (self._fixed, dtype)
            if engine == "plain":
                return None
            engine = ENGINES[ENGINES.index(engine) - 1]
        return EngineChosen(card=card, engine=engine, dtype=dtype, reason=f"a worker was lost: {reason}", worker=worker)
