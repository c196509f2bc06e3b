"""Trials of a run that is killed at random moments: who is killed when, and what of the run's promises did not hold."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrm_submit.arc.challenges import write_challenges
from hrm_submit.arc.task import Task
from hrm_submit.core.clock import parse_duration
from hrm_submit.core.errors import ConfigError
from hrm_submit.corpora.sources import load
from lab.killing import Kill, Lines, Looker, Run, final_answers, not_shown, solve_command

PRESET = "[budget]\nhang_seconds = 5.0\n\n[device]\nworkers = 2\n\n[ttt]\npatience = 1000\n"
"""Laid over the preset of the run: silence is noticed soon, two workers are there to be killed whatever the machine, and no task
ends early, so that a kill finds the run at work."""
KINDS = ("worker", "supervisor", "both")


@dataclass(frozen=True)
class Outcome:
    """How a trial went: what was done to it, in words; looks at its submission; what did not hold."""

    story: str
    looks: int
    faults: tuple[str, ...]


def plan_kills(seed: int, trial: int, budget: float) -> list[Kill]:
    """Who is killed when in a trial: one to three kills, the supervisor's the last one; one in three after having been frozen."""
    rng = np.random.default_rng([seed, trial])
    kind = KINDS[trial % len(KINDS)]
    n = {"worker": int(rng.integers(1, 4)), "supervisor": 0, "both": int(rng.integers(1, 3))}[kind]
    # A worker is there to be killed when libraries are loaded, a supervisor from the first moment on.
    times = sorted(rng.uniform(0.2 if n else 0.03, 0.9, n + (kind != "worker")) * budget)
    frozen = [float(rng.uniform(0.2, 0.15 * budget)) if rng.random() < 1 / 3 else 0.0 for _ in times]
    who = ["worker"] * n + ["supervisor"] * (kind != "worker")
    return [Kill(w, float(t), f) for w, t, f in zip(who, times, frozen, strict=True)]


def run_trial(seed: int, trial: int, challenges: Path, tasks: Mapping[str, Task], budget: float, presets: str, folder: Path) -> Outcome:
    """One trial in `folder`, which is made; whatever it started has ended when it returns."""
    folder.mkdir(parents=True)
    layer = folder / "soak.toml"
    layer.write_text(PRESET, encoding="utf-8")
    options = ["--preset", f"{presets},{layer}", "--time-budget", f"{budget}s", "--seed", str(trial)]
    command = solve_command(challenges, folder, options)
    looker, story, faults = Looker(folder / "submission.json", tasks), list[str](), list[str]()
    looker.start()
    runs = [Run(command, folder / "log")]
    try:
        if wound(runs[0], plan_kills(seed, trial, budget), np.random.default_rng([seed, trial, 1]), story):
            best = looker.must_show = final_answers(folder / "run", tasks)
            begun = len(Lines(folder / "run" / "events.jsonl").read())
            runs.append(Run(command, folder / "log"))
            status = runs[1].process.wait(timeout=3 * budget)
            faults += repeated(folder, begun, {task for task, _ in best})
            story.append(f"went on from {len({task for task, _ in best})} of {len(tasks)} tasks")
        else:
            status = runs[0].process.wait(timeout=3 * budget)
        seconds = runs[-1].seconds
        # 1 says that no task has an answer of the model, which on a busy machine may be so.
        faults += [f"ended with {status}"] if status > bool(not final_answers(folder / "run", tasks)) or status < 0 else []
        faults += [f"took {seconds:.1f} s of {budget:g}"] if seconds > budget else []
        faults += [f"worker {pid} was left behind" for run in runs for pid in run.left_behind()]
        looker.look()
        faults += not_shown(json.loads((folder / "submission.json").read_bytes()), final_answers(folder / "run", tasks))
    except Exception as error:  # one trial that breaks must not take the others along
        faults.append(f"{type(error).__name__}: {error}")
    finally:
        looker.stop()
        for run in runs:
            run.clear()
    answered = len({task for task, _ in final_answers(folder / "run", tasks)})
    story.append(f"{answered} of {len(tasks)} tasks have a final answer after {runs[-1].seconds:.1f} s")
    return Outcome(", ".join(story), looker.looks, (*faults, *looker.faults))


def trial_there(seed: int, trial: int, tasks: Mapping[str, Task], budget: float, presets: str) -> Outcome:
    """A trial on a node of a cluster, which keeps nothing of it."""
    from lab.on_cluster import scratch

    with scratch() as place:
        challenges = Path(place, "challenges.json")
        write_challenges(challenges, tasks)
        return run_trial(seed, trial, challenges, tasks, budget, presets, Path(place, "trial"))


def wound(run: Run, kills: Sequence[Kill], rng: np.random.Generator, story: list[str]) -> bool:
    """Carry out `kills` and tell of them; True where the supervisor is dead after that."""
    for kill in kills:
        if not run.wait_until(kill.at):
            story.append("had ended before the next kill")
            return False
        words = f"killed at {kill.at:.1f} s" + (f" after {kill.frozen:.1f} s frozen" if kill.frozen else "")
        if kill.who == "supervisor":
            run.workers()
            run.kill_supervisor(kill.frozen)
            story.append(f"supervisor {words}")
            return True
        workers = run.workers()
        if workers:
            run.kill(workers[rng.integers(len(workers))], kill.frozen)
        story.append(f"worker {words}" if workers else f"no worker there at {kill.at:.1f} s")
    return False


def repeated(folder: Path, begun: int, finished: set[str]) -> list[str]:
    """Tasks with a final answer that were begun again among the events after the first `begun`."""
    events = Lines(folder / "run" / "events.jsonl").read()[begun:]
    again = {e["task"] for e in events if e["event"] == "task_start"} & finished
    return [f"task {task} was solved again" for task in sorted(again)]


def choose_tasks(dataset: str, count: int) -> dict[str, Task]:
    """The smallest tasks of a data set, by largest side and id. Raises DataError."""
    known = load(dataset)
    ids = sorted(known, key=lambda name: (known[name].largest_side, name))[:count]
    return {name: known[name] for name in ids}


def soak(options: argparse.Namespace) -> int:
    """All trials; returns how many failed. Raises UserError."""
    budget = parse_duration(options.budget)
    for name in ("trials", "tasks", "parallel"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name} must be at least 1, not {getattr(options, name)}")
    tasks = choose_tasks(options.dataset, options.tasks)
    place = options.output_dir or Path(tempfile.mkdtemp(prefix="hrm-soak-"))
    if options.output_dir and place.exists() and any(place.iterdir()):
        raise ConfigError(f"{place}: is not empty")
    place.mkdir(parents=True, exist_ok=True)
    challenges = place / "challenges.json"
    write_challenges(challenges, tasks)

    def one(trial: int) -> Outcome:
        return run_trial(options.seed, trial, challenges, tasks, budget, options.preset, place / f"trial-{trial:02d}")

    failed = 0

    def tell(trial: int, outcome: Outcome) -> None:
        nonlocal failed
        failed += bool(outcome.faults)
        verdict = "FAILED: " + "; ".join(outcome.faults) if outcome.faults else f"held at {outcome.looks} looks"
        print(f"trial {trial}: {outcome.story}: {verdict}", flush=True)

    if options.cluster:
        from lab.on_cluster import on_cluster

        pieces = [(options.seed, trial, tasks, budget, options.preset) for trial in range(options.trials)]
        for trial, result, fault in on_cluster(options.cluster, trial_there, pieces, cores=2):
            tell(trial, Outcome("its node failed", 0, (fault,)) if fault else result)
    else:
        with ThreadPoolExecutor(options.parallel) as pool:
            for trial, outcome in enumerate(pool.map(one, range(options.trials))):
                tell(trial, outcome)
    print(f"{options.trials - failed} of {options.trials}")
    if failed or options.output_dir:
        print(f"what the runs left: {place}")
    else:
        shutil.rmtree(place)
    return failed
