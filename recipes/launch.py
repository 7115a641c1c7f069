r"""Start a recipe in several processes, one a device, on one machine or on several.

    python -m recipes.launch --processes 8 finetune CONFIG.yaml parallel.data=4 parallel.model=2
    python -m recipes.launch --processes 2 predict CONFIG.yaml parallel.model=2 --image I --prompt Q

On several machines ("nodes"), the same line on each, which differs in its rank alone; the first
node's address is the master's. Its port and the next one must be free and reachable there:

    python -m recipes.launch --processes 16 --nodes 2 --node-rank 0 --master 10.0.0.1:8118 \
        finetune CONFIG.yaml parallel.data=16

Each process' log is a file of its own; what the first one says is shown here too. The job ends as a
whole: when a process ends by an error, when one hangs (no step for `--deadline` seconds), when a
node is lost, and at Ctrl-C, all others are ended within seconds, on all nodes, and the cause is
said. The same line with `run.resume=true` goes on from the last checkpoint.

Exit status: 0 done, 1 a process or a node failed, 2 the call is at fault, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from mmdata.errors import ConfigError
from recipes import heartbeat

# The process where MindSpore's workers find each other; it leaves when they have left.
SCHEDULER = (sys.executable, "-c", "from mindspore.communication import init; init()")

MINDSPORE_LOG_LEVEL = "GLOG_v"  # 0 all, 1 information, 2 warnings, 3 errors

# What it says of its connections when it starts and ends, at whatever level; only the logs have it.
MINDSPORE_LINE = re.compile(rb"^\[(?:INFO|WARNING)\] \w+\(.*\n?", re.MULTILINE)

POLL = 0.1  # seconds between two looks at the workers
LAST_LINES = 15  # of the log of a worker that died, to be shown
TAIL_BYTES = 16 * 1024  # where those lines are looked for


@dataclass(frozen=True)
class Job:
    """A command to be run in `processes` processes, of which this launcher starts its node's share.

    `master` is the address of the first node, `scheduler` the command that runs beside the first
    node's workers (None: none). `deadline`: seconds without a step after which a worker hangs; 0
    never. `patience`: seconds in which all nodes must have come; `grace`: those between asking a
    process to end and killing it.
    """

    command: tuple[str, ...]
    processes: int
    logs: Path
    nodes: int = 1
    node_rank: int = 0
    master: tuple[str, int] = ("127.0.0.1", 0)
    deadline: float = 1800.0
    patience: float = 600.0
    grace: float = 5.0
    scheduler: tuple[str, ...] | None = SCHEDULER

    def __post_init__(self) -> None:
        """See that the numbers go together.

        Raises:
            ConfigError: where they do not.
        """
        if self.processes < 1 or self.nodes < 1:
            raise ConfigError("a job has at least one process and one node")
        if self.processes % self.nodes:
            raise ConfigError(
                f"{self.processes} processes cannot be shared evenly by {self.nodes} nodes; "
                "--processes counts those of all nodes together"
            )
        if not 0 <= self.node_rank < self.nodes:
            raise ConfigError(
                f"node rank {self.node_rank} of {self.nodes} nodes; ranks are 0 to {self.nodes - 1}"
            )

    @property
    def ranks(self) -> range:
        """The ranks of this node's workers."""
        share = self.processes // self.nodes
        return range(self.node_rank * share, (self.node_rank + 1) * share)


class JobError(Exception):
    """A worker, or another node, has failed; the text says which and why."""


@dataclass
class Worker:
    """A process of the job; `rank` is None for the scheduler."""

    rank: int | None
    process: subprocess.Popen[bytes]
    log: Path
    beats: Path
    began: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """How messages call it."""
        return "the scheduler" if self.rank is None else f"rank {self.rank}"

    def last_beat(self) -> tuple[int, float]:
        """The number of steps that it has said to have made, and how many seconds ago that was."""
        try:
            step = int(self.beats.read_text() or 0)
            return step, max(0.0, time.time() - self.beats.stat().st_mtime)
        except (FileNotFoundError, ValueError):
            return 0, time.monotonic() - self.began

    def describe_end(self) -> str:
        """How it ended, and the last lines that it said."""
        status = self.process.returncode
        if status >= 0:
            how = f"ended with exit status {status}"
        else:
            how = f"was killed by {signal.Signals(-status).name}"
            if -status == signal.SIGKILL:
                how += " (perhaps by the system, out of memory)"
        return f"{self.name} {how}. The last lines of its log, {self.log}:\n{last_lines(self.log)}"


def run_job(job: Job) -> None:
    """Run a job to its end; whatever happens, no process of it is left.

    Raises:
        JobError: if a process or another node failed.
        KeyboardInterrupt: at Ctrl-C, or when this process is told to end.
    """
    job.logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as beats, Nodes(job) as nodes:
        workers: list[Worker] = []
        # Asked for and not raised on the spot: in the midst of a start, the process that is just
        # being made would be lost.
        asked: list[int] = []
        previous = {
            number: signal.signal(number, lambda number, frame: asked.append(number))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            start_workers(job, Path(beats), workers)
            await_workers(job, workers, nodes, asked)
        except JobError as error:
            nodes.tell({"failed": str(error)})
            raise
        except KeyboardInterrupt:
            nodes.tell({"failed": "it was stopped"})
            raise
        finally:
            end_processes([worker.process for worker in workers], job.grace)
            for number, handler in previous.items():
                signal.signal(number, handler)


def start_workers(job: Job, beats: Path, workers: list[Worker]) -> None:
    """Start this node's processes, each with its log; they are added to `workers` one by one, so
    that none is lost if a later one cannot be started.
    """
    roles: list[int | None] = [*job.ranks]
    if job.scheduler is not None and job.node_rank == 0:
        roles.insert(0, None)

    for rank in roles:
        name = "scheduler" if rank is None else f"worker_{rank}"
        log, file = job.logs / f"{name}.log", beats / name
        command = job.command if rank is not None else job.scheduler
        assert command is not None
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **worker_environment(job, rank), heartbeat.VARIABLE: str(file)},
                # A group of its own: the terminal's Ctrl-C comes to the launcher alone, and what
                # the worker has started ends with it.
                start_new_session=True,
            )
        workers.append(Worker(rank, process, log, file))


def worker_environment(job: Job, rank: int | None) -> dict[str, str]:
    """The variables by which a MindSpore process knows its place; None is the scheduler's."""
    host, port = job.master
    variables = {
        "MS_WORKER_NUM": job.processes,
        "MS_SCHED_HOST": host,
        "MS_SCHED_PORT": port,
        "MS_TOPO_TIMEOUT": int(job.patience),
        "MS_ROLE": "MS_SCHED" if rank is None else "MS_WORKER",
        "RANK_SIZE": job.processes,
        "RANK_ID": rank or 0,
        "DEVICE_ID": 0 if rank is None else rank - job.ranks.start,
        "PYTHONUNBUFFERED": 1,
        # MindSpore warns of each attempt to connect, hundreds of lines; its errors stay.
        MINDSPORE_LOG_LEVEL: os.environ.get(MINDSPORE_LOG_LEVEL, "3"),
    }
    if rank is not None:
        variables["MS_NODE_ID"] = rank
    return {name: str(value) for name, value in variables.items()}


def await_workers(job: Job, workers: Sequence[Worker], nodes: Nodes, asked: Sequence[int]) -> None:
    """Show what the first rank says until all workers, on all nodes, have ended.

    Raises:
        JobError: if a process or another node failed.
        KeyboardInterrupt: once `asked` holds a signal.
    """
    first = next((worker for worker in workers if worker.rank == 0), None)
    with ExitStack() as stack:
        shown = None if first is None else stack.enter_context(first.log.open("rb"))
        while True:
            running = [w for w in workers if w.rank is not None and w.process.poll() is None]
            # After the look at who runs: what a worker said before it ended is read, too.
            if shown is not None:
                show(shown)
            refuse_dead(workers)
            refuse_hung(running, job.deadline)
            if nodes.are_done(not running):
                return
            if asked:
                raise KeyboardInterrupt
            time.sleep(POLL)


def show(log: BinaryIO) -> None:
    """Copy what has come to the log since the last time to the terminal."""
    if said := MINDSPORE_LINE.sub(b"", log.read()):
        sys.stdout.buffer.write(said)
        sys.stdout.buffer.flush()


def refuse_dead(workers: Sequence[Worker]) -> None:
    """See that no worker has failed.

    Raises:
        JobError: if one has.
    """
    dead = [worker for worker in workers if worker.process.poll() not in (None, 0)]
    # How the scheduler ends when all workers have done their work is of no consequence.
    if dead and any(
        worker.process.returncode != 0 for worker in workers if worker.rank is not None
    ):
        # Where the scheduler and a worker are gone, the worker knows the cause.
        worker = min(dead, key=lambda one: (one.rank is None, one.rank))
        raise JobError(worker.describe_end())


def refuse_hung(running: Sequence[Worker], deadline: float) -> None:
    """See that every worker has made a step within the deadline; of those that hang, the stacks go
    to their logs.

    Raises:
        JobError: if one has not.
    """
    beats = {worker.name: worker.last_beat() for worker in running}
    hung = [worker for worker in running if beats[worker.name][1] > deadline > 0]
    if not hung:
        return
    for worker in hung:
        worker.process.send_signal(signal.SIGUSR1)
    time.sleep(0.5)  # for the stacks to be written

    steps = ", ".join(f"{name} at step {step}" for name, (step, _) in beats.items())
    # In a collective all wait for the one that is behind.
    behind = min(hung, key=lambda one: beats[one.name][0])
    raise JobError(
        f"{', '.join(worker.name for worker in hung)} made no step for {deadline:g} s "
        f"(--deadline): {steps}. Where {behind.name} stood is in its log, {behind.log}:\n"
        f"{last_lines(behind.log)}"
    )


def last_lines(log: Path) -> str:
    """The last lines of a log, each set in."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        said = MINDSPORE_LINE.sub(b"", file.read())
    lines = said.decode(errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-LAST_LINES:]) or "    (it is empty)"


def end_processes(processes: Sequence[subprocess.Popen[bytes]], grace: float) -> None:
    """End the processes and what they have started: asked first, killed after `grace` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                continue  # nothing of the group is left
        end = time.monotonic() + grace
        while any(process.poll() is None for process in processes) and time.monotonic() < end:
            time.sleep(0.02)


class Nodes:
    """What the launchers of the nodes tell each other; alone, nothing.

    Each other node holds a connection to the first. A connection that closes is a node that is
    lost.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.server: socket.socket | None = None
        self.peers: list[Peer] = []
        self.done = False  # whether this node has said that its workers are done
        self.began = time.monotonic()

    def __enter__(self) -> Nodes:
        """Listen for the other nodes, or go to the first."""
        host, port = self.job.master
        if self.job.nodes == 1:
            return self
        if self.job.node_rank == 0:
            self.server = socket.create_server((host, port + 1))
            self.server.setblocking(False)
        else:
            self.peers = [Peer(_reach(host, port + 1, self.job.patience), 0)]
            self.tell({"node": self.job.node_rank, **self._shape()})
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        for peer in self.peers:
            peer.connection.close()
        if self.server is not None:
            self.server.close()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message to all nodes that this one has a connection to."""
        for peer in self.peers:
            peer.send(message)

    def are_done(self, done: bool) -> bool:
        """Whether the workers of all nodes are done; `done` says it of this node's.

        Raises:
            JobError: if another node has failed, is lost, or has not come in time.
        """
        self._accept()
        for peer in list(self.peers):
            for message in peer.receive():
                self._hear(peer, message)

        if self.job.node_rank == 0:
            known = [peer for peer in self.peers if peer.node is not None]
            missing = self.job.nodes - 1 - len(known)
            if missing and time.monotonic() - self.began > self.job.patience:
                raise JobError(
                    f"{missing} of {self.job.nodes} nodes have not come within "
                    f"{self.job.patience:g} s"
                )
            if not done or missing or not all(peer.done for peer in known):
                return False
            self.tell({"done": True})
            return True

        if done and not self.done:
            self.tell({"done": True})
            self.done = True
        return all(peer.done for peer in self.peers)

    def _accept(self) -> None:
        while self.server is not None:
            try:
                connection, _ = self.server.accept()
            except BlockingIOError:
                return
            self.peers.append(Peer(connection, None))

    def _hear(self, peer: Peer, message: Mapping[str, Any]) -> None:
        if "node" in message:
            peer.node = message["node"]
            theirs = {name: message.get(name) for name in self._shape()}
            if theirs != self._shape():
                raise JobError(f"node {peer.node} was started with {theirs}, not {self._shape()}")
        elif peer.node is None:
            # A stranger, such as who looks for open ports: it must not end the job.
            peer.connection.close()
            self.peers = [each for each in self.peers if each is not peer]
        elif "failed" in message:
            raise JobError(f"on node {peer.node}: {message['failed']}")
        elif "lost" in message and not peer.done:
            raise JobError(f"node {peer.node} is lost: its launcher has gone without a word")
        elif "done" in message:
            peer.done = True

    def _shape(self) -> dict[str, int]:
        return {"processes": self.job.processes, "nodes": self.job.nodes}


class Peer:
    """The launcher of another node, at the other end of a connection; JSON Lines both ways."""

    def __init__(self, connection: socket.socket, node: int | None) -> None:
        connection.setblocking(False)
        self.connection, self.node = connection, node
        self.done, self.rest, self.lost = False, b"", False

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; one that is gone is told nothing."""
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.lost = True

    def receive(self) -> list[dict[str, Any]]:
        """The messages that have come, `{"lost": true}` last if the other end has closed."""
        closed = False
        while not closed:
            try:
                data = self.connection.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self.rest, closed = self.rest + data, not data

        *lines, self.rest = self.rest.split(b"\n")
        messages = [_read_message(line) for line in lines]
        return [*messages, {"lost": True}] if closed else messages


def _read_message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _reach(host: str, port: int, patience: float) -> socket.socket:
    end = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection((host, port), timeout=10)
        except OSError as error:
            if time.monotonic() > end:
                raise JobError(
                    f"the first node's launcher at {host}:{port} did not answer within "
                    f"{patience:g} s ({error})"
                ) from error
            time.sleep(POLL)


def free_port() -> int:
    """A port of this machine that nothing listens on, nor on the next one."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
            with suppress(OSError, OverflowError):
                socket.create_server(("127.0.0.1", port + 1)).close()
                return port


def read_address(text: str) -> tuple[str, int]:
    """The host and the port of `HOST:PORT`.

    Raises:
        ConfigError: if it is not that.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65535:
        raise ConfigError(f"--master is HOST:PORT, such as 10.0.0.1:8118; found {text!r}")
    return host, int(port)


def read_job(options: argparse.Namespace) -> Job:
    """The job that a command line describes.

    Raises:
        ConfigError: for numbers that do not go together, or several nodes without a master.
    """
    if options.nodes > 1 and options.master is None:
        raise ConfigError("several nodes need --master HOST:PORT, the address of the first node")
    master = ("127.0.0.1", free_port()) if options.master is None else read_address(options.master)
    started = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Job(
        command=(sys.executable, "-m", f"recipes.{options.recipe}", *options.arguments),
        processes=options.processes,
        logs=options.logs / started,
        nodes=options.nodes,
        node_rank=options.node_rank,
        master=master,
        deadline=options.deadline,
        patience=options.patience,
    )


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.launch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--processes", type=int, required=True, help="of all nodes together")
    parser.add_argument("--nodes", type=int, default=1, help="machines (default: 1)")
    parser.add_argument("--node-rank", type=int, default=0, help="which of them this is, from 0")
    parser.add_argument("--master", metavar="HOST:PORT", help="where the first node is")
    parser.add_argument(
        "--logs", type=Path, default=Path("logs"), help="folder for a folder of logs (logs)"
    )
    parser.add_argument(
        "--deadline",
        type=float,
        default=1800,
        metavar="S",
        help="seconds without a step, compilation included, after which a process hangs; "
        "0: never (default: 1800)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=600,
        metavar="S",
        help="seconds in which all nodes must have come (default: 600)",
    )
    parser.add_argument("recipe", choices=("finetune", "predict", "evaluate"))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="those of the recipe")
    return parser


def main(line: list[str] | None = None) -> int:
    """Run from a shell; the exit status."""
    options = parser().parse_args(line)
    try:
        job = read_job(options)
        print(f"logs: {job.logs}", file=sys.stderr)
        run_job(job)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except JobError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; all processes of this node have ended", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
