"""Workers on the machines of a Ray cluster, in place of processes of this one: a pool whose members are actors.

- Weights travel through Ray's object store, once to each node; tasks, candidates and all else as messages. No folder is shared.
- A node that joins offers its workers; one that dies takes its own with it, each of which costs an attempt of the task that it held.
- This module alone imports Ray, and is imported only where a cluster is asked for.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# A head that is gone is noticed within seconds, not a minute: read when Ray is loaded.
os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
try:
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    from hrm_submit.core.errors import ClusterError

    raise ClusterError("--cluster needs Ray: pip install 'hrm-submit[cluster]'") from None

from hrm_submit.config.schema import Preset
from hrm_submit.core.allocator import LARGE_PAGES
from hrm_submit.core.device import cpu_count
from hrm_submit.core.errors import ClusterError, clipped
from hrm_submit.predict.raw import RawVote, save_raw
from hrm_submit.run.cluster_worker import RemoteWorker
from hrm_submit.run.protocol import Assignment, WorkerSpec
from hrm_submit.run.worker_pool import Gone, Member
from hrm_submit.version import __version__

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Seconds between two looks for nodes that have joined."""
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "GLIBC_TUNABLES": LARGE_PAGES}
"""Of the actors' processes: as those of local workers."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: Ray's id, its address, and what it has."""

    id: str
    name: str
    cpus: int
    gpus: int
    card: str = ""
    """The GPU's name as Ray has it: `L4`, `T4`, `H100`."""


@dataclass
class Actor(Member):
    """A worker on a node; `stream` are the messages of its running call."""

    handle: Any
    stream: Any


class Cluster:
    """A connection to a Ray cluster, or one of this machine alone. `cores` are those of a worker on a node without GPUs."""

    def __init__(self, address: str, cores: int = 1, modules: Sequence[Path] = ()) -> None:
        """`address` is `local`, `auto` (the cluster that this machine is a node of) or `HOST:PORT`. `modules` are folders of Python modules
        that all nodes get. Raises ClusterError."""
        self.cores = cores
        self._names: dict[str, str] = {}
        host, _, port = address.rpartition(":")
        if host and port.isdecimal():
            _reach(address, host, int(port))
        own: dict[str, Any] = {"num_cpus": cpu_count(), "include_dashboard": False} if address == "local" else {}
        try:
            environment = {"py_modules": [str(folder) for folder in modules]} if modules else None
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=environment, **own)
        except (ConnectionError, ValueError, RuntimeError, RayError) as error:
            raise ClusterError(f"--cluster {address}: cannot be reached: {clipped(error, 150)}") from None

    def nodes(self) -> list[Node]:
        """The machines that live, in the order of their names. A node keeps the name under which it was seen first: its address, with a
        part of its id where that was taken, as by a second node of one machine."""
        found = []
        for node in ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                card = next((name.partition(":")[2] for name in sorted(has) if name.startswith("accelerator_type:")), "")
                id, address = node["NodeID"], node["NodeManagerAddress"]
                taken = address in self._names.values()
                name = self._names.setdefault(id, f"{address}-{id[:6]}" if taken else address)
                found.append(Node(id, name, int(has.get("CPU", 0)), int(has.get("GPU", 0)), card))
        return sorted(found, key=lambda n: n.name)

    def close(self) -> None:
        """Leave the cluster; one of this machine alone ends."""
        ray.shutdown()


def _reach(address: str, host: str, port: int) -> None:
    """Raise ClusterError where nobody listens: Ray itself would end the process."""
    try:
        socket.create_connection((host, port), timeout=5.0).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"--cluster {address}: cannot be reached: {error}") from None


def specs_on(nodes: Sequence[Node], like: WorkerSpec, cores: int, preset: Preset, most: int) -> list[WorkerSpec]:
    """The workers of `nodes`, each otherwise as `like`: one for each GPU (or `[device] workers_per_gpu`), or on a node without any for each
    `cores` CPU cores; at most `most`, first of all nodes one."""
    on_gpu = preset.device.workers_per_gpu or 1
    places = [[(n.id, f"cuda:{k}") for k in range(n.gpus)] * on_gpu or [(n.id, "cpu")] * (n.cpus // cores) for n in nodes]
    turns = [turn[k] for k in range(max(map(len, places), default=0)) for turn in places if k < len(turn)][:most]
    names = {n.id: n.name for n in nodes}
    return [
        replace(like, number=number, device=device, node=names[node], sharing=on_gpu if device != "cpu" else 1)
        for number, (node, device) in enumerate(turns)
    ]


class ClusterPool:
    """Workers that are actors of a cluster, by number."""

    def __init__(self, cluster: Cluster, preset: Preset) -> None:
        self._cluster, self._preset = cluster, preset
        self.members: dict[int, Actor] = {}
        self._shipped: dict[Path, Any] = {}
        self._remote: Any = ray.remote(RemoteWorker)
        self._known = {n.id for n in cluster.nodes()}
        self._like: WorkerSpec | None = None
        self._looked = time.monotonic()

    def start(self, spec: WorkerSpec, now: float) -> None:
        """Start a worker on its node. Raises OSError where that node is no more."""
        self._like = self._like or spec
        options: dict[str, Any] = {"num_cpus": self._cluster.cores, "runtime_env": {"env_vars": ENVIRONMENT}}
        if spec.node:
            node = next((n for n in self._cluster.nodes() if n.name == spec.node), None)
            if node is None:
                raise OSError(f"node {spec.node} is gone")
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node.id, soft=False)
        there = spec
        if spec.device != "cpu":
            options |= {"num_cpus": 0, "num_gpus": 1 / spec.sharing}
            there = replace(spec, device="cuda:0")  # Ray shows an actor its own GPU alone
        try:
            handle = self._remote.options(**options).remote()
            files = None if spec.checkpoint is None else self._ship(spec.checkpoint)
            stream = handle.begin.options(num_returns="streaming").remote(__version__, pickle.dumps(there), files)
        except RayError as error:
            raise OSError(clipped(error, 150)) from None
        self.members[spec.number] = Actor(spec, handle, stream, heard=now)

    def give(self, member: Actor, work: Assignment, now: float) -> bool:
        """Hand over a task."""
        try:
            member.stream = member.handle.work.options(num_returns="streaming").remote(work)
        except RayError:
            return False
        member.takes(work, now)
        return True

    def listen(self, seconds: float) -> Iterator[tuple[Actor, Any]]:
        """Messages that arrive within `seconds`, with their senders; `Gone` once for a worker that has ended."""
        streams = {id(m.stream): m for m in self.members.values() if m.stream is not None}
        waiting = [m.stream for m in streams.values()]
        if not waiting:
            time.sleep(max(0.0, seconds))
            return
        ready, _ = ray.wait(waiting, num_returns=1, timeout=max(0.0, seconds), fetch_local=True)
        if len(waiting) > 1 and ready:
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=True)
        for stream in ready:
            member = streams[id(stream)]
            message = self._next(member, stream)
            if isinstance(message, RawVote):
                self._keep(member, message)
            elif message is not None:
                yield member, message

    def newcomers(self) -> list[WorkerSpec]:
        """The workers of nodes that have joined since this was last asked."""
        if self._like is None or time.monotonic() - self._looked < LOOK_SECONDS:
            return []
        self._looked = time.monotonic()
        new = [n for n in self._cluster.nodes() if n.id not in self._known]
        self._known |= {n.id for n in new}
        for node in new:
            log.info("node %s has joined: %d CPUs, %d GPUs", node.name, node.cpus, node.gpus)
        return specs_on(new, self._like, self._cluster.cores, self._preset, 10**6)

    def remove(self, member: Actor) -> int | None:
        """Kill the worker if it still lives; an actor's exit code is not known."""
        self.members.pop(member.spec.number, None)
        self._kill(member)
        return None

    def dismiss(self) -> None:
        """Kill all workers."""
        for member in list(self.members.values()):
            self.remove(member)

    def _kill(self, member: Actor) -> None:
        member.stream = None
        try:
            ray.kill(member.handle, no_restart=True)
        except (RayError, ValueError) as error:
            log.debug("worker %d: %s", member.spec.number, error)

    def _next(self, member: Actor, stream: Any) -> Any:
        """The next message of a stream that has one; None at its end."""
        try:
            return ray.get(next(stream))
        except StopIteration:
            member.stream = None
            return None
        except RayError as error:
            member.stream = None
            log.warning("worker %d on %s: %s", member.spec.number, member.spec.place, _cause(error))
            return Gone()

    def _ship(self, checkpoint: Path) -> Any:
        """The bytes of a checkpoint in the object store."""
        if checkpoint not in self._shipped:
            self._shipped[checkpoint] = ray.put(checkpoint.read_bytes())
        return self._shipped[checkpoint]

    def _keep(self, member: Actor, raw: RawVote) -> None:
        if member.spec.raw is None:
            return
        try:
            save_raw(member.spec.raw, raw)
        except (OSError, MemoryError) as error:
            log.warning("task %s: its raw predictions are not kept: %s", raw.task, error)


def _cause(error: BaseException) -> str:
    """The first line of what an actor died of."""
    said = str(getattr(error, "cause", None) or error)
    return clipped(next((line for line in reversed(said.splitlines()) if line.strip()), type(error).__name__), 200)
