"""Workers on the machines of a Ray cluster: a pool whose members are actors instead of processes of this machine.

- Weights travel through Ray's object store, once to each node; tasks, candidates and all else as messages. No folder is shared.
- A node that joins offers its workers; one that dies takes its own with it, each of which costs an attempt of its task.
- This module alone imports Ray, and is imported only where a cluster is asked for.
"""

import logging
import os
import pickle
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
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

    raise ClusterError("--cluster needs Ray: pip install 'ray>=2.40'") from None

from hrm_submit.arc.task import Task
from hrm_submit.core.device import LARGE_PAGES, cpu_count
from hrm_submit.core.errors import ClusterError, clipped
from hrm_submit.model.packaged import EnsembleMember
from hrm_submit.predict.raw import RawVote
from hrm_submit.run.placement import largest_canvas, with_device
from hrm_submit.run.protocol import Assignment, Failed, Ready, WorkerSpec, keep_raw
from hrm_submit.run.worker_pool import Gone, Member, Pool
from hrm_submit.version import __version__

log = logging.getLogger(__name__)

NODES_EVERY_SECONDS = 2.0
"""Time between two checks for nodes that have joined."""
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "GLIBC_TUNABLES": LARGE_PAGES}
"""Of the actors' processes: as those of local workers."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: Ray's id, its address, its CPU cores and GPUs, and the GPU's name in Ray (`L4`, `T4`, `H100`)."""

    id: str
    name: str
    cpus: int
    gpus: int
    card: str = ""


@dataclass(kw_only=True)
class Actor(Member):
    """A worker on a node; `stream` are the messages of its running call, `coming` the next one while it is on its way."""

    handle: Any
    stream: Any
    coming: Any = None


class ClusterPool(Pool[Actor]):
    """Workers that are actors of a Ray cluster, or of one of this machine alone. `cores` are those of a worker on a node without GPUs."""

    def __init__(self, address: str, cores: int = 1) -> None:
        """Connect to `address`: `local`, `auto` (the cluster that this machine is a node of) or `HOST:PORT`. Raises ClusterError."""
        self.members = {}
        self._address, self._cores = address, cores
        self._names: dict[str, str] = {}
        self._weights: dict[Path, Any] = {}
        self._remote: Any = ray.remote(RemoteWorker)
        self._like: WorkerSpec | None = None
        host, _, port = address.rpartition(":")
        own: dict[str, Any] = {"num_cpus": cpu_count(), "include_dashboard": False} if address == "local" else {}
        try:
            if host and port.isdecimal():
                socket.create_connection((host, int(port)), timeout=5.0).close()  # Ray itself would end the process
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (OSError, OverflowError, ValueError, RuntimeError, RayError) as error:
            raise ClusterError(f"--cluster {address}: cannot be reached: {clipped(error, 150)}") from None
        self._known, self._checked = {n.id for n in self.nodes()}, time.monotonic()

    def close(self) -> None:
        ray.shutdown()  # one of this machine alone ends

    def nodes(self) -> list[Node]:
        """Return the live machines, sorted by name. A node keeps its first name: its address, with a part of its id where that is taken, as
        by a second node of one machine."""
        found = []
        for node in ray.nodes():
            if node["Alive"]:
                has, id, address = node["Resources"], node["NodeID"], node["NodeManagerAddress"]
                card = next((name.partition(":")[2] for name in sorted(has) if name.startswith("accelerator_type:")), "")
                taken = address in self._names.values()
                name = self._names.setdefault(id, f"{address}-{id[:6]}" if taken else address)
                found.append(Node(id, name, int(has.get("CPU", 0)), int(has.get("GPU", 0)), card))
        return sorted(found, key=lambda n: n.name)

    def specs(self, members: Sequence[EnsembleMember], seed: int, tasks: Sequence[Task]) -> list[WorkerSpec]:
        """Return the workers of all nodes, no more than `tasks`. Raises ClusterError where no node has room for one."""
        nodes = self.nodes()
        self._like = WorkerSpec(0, "cpu", with_device(members, threads=self._cores), seed, largest_canvas(tasks))
        specs = specs_on(nodes, self._like, self._cores, max(1, len(tasks)))
        if not specs:
            raise ClusterError(f"--cluster {self._address}: none of its {len(nodes)} nodes has {self._cores} CPU cores or a GPU")
        return specs

    def newcomers(self) -> list[WorkerSpec]:
        if self._like is None or time.monotonic() - self._checked < NODES_EVERY_SECONDS:
            return []
        self._checked = time.monotonic()
        new = [n for n in self.nodes() if n.id not in self._known]
        self._known |= {n.id for n in new}
        for node in new:
            log.info("node %s has joined: %d CPUs, %d GPUs", node.name, node.cpus, node.gpus)
        return specs_on(new, self._like, self._cores)

    def start(self, spec: WorkerSpec, now: float) -> None:
        options: dict[str, Any] = {"num_cpus": self._cores, "runtime_env": {"env_vars": ENVIRONMENT}}
        if spec.node:
            node = next((n for n in self.nodes() if n.name == spec.node), None)
            if node is None:
                raise OSError(f"node {spec.node} is gone")
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node.id, soft=False)
        there = spec
        if spec.device != "cpu":
            options |= {"num_cpus": 0, "num_gpus": 1 / spec.sharing}
            there = replace(spec, device="cuda:0")  # Ray shows an actor its own GPU alone
        files = [m.checkpoint for m in spec.members if m.checkpoint]
        self._weights |= {path: ray.put(path.read_bytes()) for path in files if path not in self._weights}
        try:
            handle = self._remote.options(**options).remote()
            begin = handle.begin.options(num_returns="streaming")
            stream = begin.remote(__version__, pickle.dumps(there), *(self._weights[path] for path in files))
        except RayError as error:
            raise OSError(clipped(error, 150)) from None
        self.members[spec.number] = Actor(spec, now, handle=handle, stream=stream)

    def give(self, member: Actor, work: Assignment, now: float) -> bool:
        try:
            member.stream = member.handle.work.options(num_returns="streaming").remote(work)
        except RayError:
            return False
        return True

    def listen(self, seconds: float) -> Iterator[tuple[Actor, Any]]:
        members = {id(m.coming or m.stream): m for m in self.members.values() if m.stream is not None}
        waiting = [m.coming or m.stream for m in members.values()]
        if not waiting:
            time.sleep(max(0.0, seconds))
            return
        ready, _ = ray.wait(waiting, num_returns=1, timeout=max(0.0, seconds), fetch_local=True)
        if ready:
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=True)
        for found in ready:
            member = members[id(found)]
            message = self._next(member)
            if isinstance(message, RawVote):
                keep_raw(member.spec, message)
            elif message is not None:
                yield member, message

    def remove(self, member: Actor) -> int | None:
        self.members.pop(member.spec.number, None)
        member.stream = member.coming = None
        try:
            ray.kill(member.handle, no_restart=True)
        except (RayError, ValueError) as error:
            log.debug("worker %d: %s", member.spec.number, error)
        return None  # an actor's exit code is not known

    def _next(self, member: Actor) -> Any:
        """Return the next message of a stream that has one; None at its end, or while the message is still on another node, which may have
        stopped."""
        try:
            member.coming = member.coming or next(member.stream)
            if not ray.wait([member.coming], timeout=0, fetch_local=True)[0]:
                return None
            found, member.coming = member.coming, None
            return ray.get(found)
        except StopIteration:
            member.stream = None
            return None
        except RayError as error:
            member.stream = member.coming = None
            lines = [line for line in str(getattr(error, "cause", None) or error).splitlines() if line.strip()]
            cause = clipped(lines[-1] if lines else type(error).__name__, 200)
            log.warning("worker %d on %s: %s", member.spec.number, member.spec.location, cause)
            return Gone()


def specs_on(nodes: Sequence[Node], like: WorkerSpec, cores: int, most: int | None = None) -> list[WorkerSpec]:
    """Return at most `most` workers of `nodes`, each otherwise as `like`: one for each GPU (or `[device] workers_per_gpu`), or on a node
    without any one for each `cores` CPU cores; every node gets its first before any gets its second."""
    on_gpu = like.preset.device.workers_per_gpu or 1
    by_node = [[(n.name, f"cuda:{k}") for k in range(n.gpus)] * on_gpu or [(n.name, "cpu")] * (n.cpus // cores) for n in nodes]
    in_rounds = [place for nth in zip_longest(*by_node) for place in nth if place][:most]
    return [
        replace(like, number=number, device=device, node=node, sharing=on_gpu if device != "cpu" else 1)
        for number, (node, device) in enumerate(in_rounds)
    ]


def _unpacked(spec: WorkerSpec, weights: Sequence[bytes], folder: Path) -> WorkerSpec:
    """Write the `weights` of the members of `spec` that have any; return it with their places in `folder`."""
    files, members = iter(weights), list(spec.members)
    for number, member in enumerate(members):
        if member.checkpoint:
            path = folder / str(number) / member.checkpoint.name  # two members may have files of one name
            path.parent.mkdir(mode=0o700)
            path.write_bytes(next(files))
            members[number] = replace(member, checkpoint=path)
    return replace(spec, members=tuple(members))


class RemoteWorker:
    """What an actor runs on its node: set up by its first call, it works in the later ones; each yields a local worker's messages."""

    def begin(self, version: str, spec: bytes, *weights: bytes) -> Iterator[Ready]:
        """Build the models. `spec` is a pickled WorkerSpec, opened only where both sides have the same package; `weights` are the files of
        those of its members that have any. Raises ClusterError."""
        if version != __version__:
            raise ClusterError(f"{socket.gethostname()} has hrm-submit {__version__}, not {version}: install the same on all nodes")
        from hrm_submit.run.worker import Worker

        own: WorkerSpec = pickle.loads(spec)
        with tempfile.TemporaryDirectory(prefix="hrm-submit-") as folder:  # new, and open to this user alone
            self._worker = Worker(_unpacked(own, weights, Path(folder)))
        yield Ready(self._worker.describe(), self._worker.card)

    def work(self, given: Assignment) -> Iterator[Any]:
        """Solve a task."""
        for message in self._worker.serve(given):
            yield message
            if isinstance(message, Failed) and message.fatal:
                os._exit(3)
