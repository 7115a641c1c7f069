"""The launcher, with workers of plain Python: what it starts, shows, notices and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmdata.errors import ConfigError
from recipes import launch

# As the command line does it, but for the recipe, and without MindSpore's scheduler.
LAUNCHER = """
import json, sys
from pathlib import Path
from recipes import launch

def read_job(options):
    job = {name: getattr(options, name) for name in
           ("processes", "nodes", "node_rank", "logs", "deadline", "patience")}
    master = ("127.0.0.1", 1) if options.master is None else launch.read_address(options.master)
    command = (sys.executable, "-c", json.loads(options.arguments[0]))
    return launch.Job(command, master=master, grace=0.5, scheduler=None, **job)

launch.read_job = read_job
sys.exit(launch.main(sys.argv[1:]))
"""

# What every worker begins with.
BEGIN = """
import os, sys, time
from recipes import heartbeat
heartbeat.begin()
rank = int(os.environ["RANK_ID"])
"""


def start(
    logs: Path, worker: str, *options: str, processes: int = 2, begin: str = BEGIN
) -> subprocess.Popen[str]:
    line = ["--processes", str(processes), "--logs", str(logs), *options]
    code = json.dumps(begin + worker)
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, *line, "finetune", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_file(file: Path) -> None:
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end, f"{file} has not come"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process is there and has not ended; one that nobody has waited for has."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def pids(logs: Path) -> list[int]:
    """The process ids that workers have written down."""
    return [int(file.read_text()) for file in logs.glob("*.pid")]


def write_pid(logs: Path, file: str = "{rank}") -> str:
    """Code by which a worker writes down its process id, and all of it at once."""
    return f"""
path = f"{logs}/{file}"
open(path, "w").write(str(os.getpid()))
os.rename(path, path + ".pid")
"""


def test_each_worker_knows_its_place_has_a_log_and_the_first_is_shown(tmp_path: Path) -> None:
    names = "MS_WORKER_NUM RANK_SIZE RANK_ID MS_NODE_ID DEVICE_ID MS_ROLE MS_SCHED_PORT"
    job = start(tmp_path, f"print(*map(os.environ.get, {names.split()}))", processes=3)

    said, warned = job.communicate(timeout=60)

    assert job.returncode == 0, warned
    assert said == "3 3 0 0 0 MS_WORKER 1\n"
    logs = [(tmp_path / f"worker_{rank}.log").read_text() for rank in range(3)]
    assert logs == [f"3 3 {rank} {rank} {rank} MS_WORKER 1\n" for rank in range(3)]


def test_a_worker_that_fails_ends_the_job_with_its_rank_its_status_and_its_last_lines(
    tmp_path: Path,
) -> None:
    worker = write_pid(tmp_path) + "if rank: raise SystemExit('no such store')\ntime.sleep(300)"
    began = time.monotonic()

    job = start(tmp_path, worker)
    _, warned = job.communicate(timeout=60)

    assert job.returncode == 1
    assert "error: rank 1 ended with exit status 1. The last lines of its log, " in warned
    assert warned.endswith("worker_1.log:\n    no such store\n")
    assert not any(map(is_running, pids(tmp_path)))
    assert time.monotonic() - began < 30


def test_what_mindspore_says_of_its_connections_is_in_the_log_alone(tmp_path: Path) -> None:
    noise = "[INFO] DISTRIBUTED(1,2,python):2026 [tcp.cc:1] Start] Event base dispatch success!"

    job = start(tmp_path, f"print('before'); print({noise!r}); print('after')", processes=1)
    said, _ = job.communicate(timeout=60)

    assert said == "before\nafter\n"
    assert noise in (tmp_path / "worker_0.log").read_text()


def test_a_worker_that_is_killed_is_named_with_the_signal(tmp_path: Path) -> None:
    worker = "if rank: os.kill(os.getpid(), 9)\ntime.sleep(300)"

    _, warned = (job := start(tmp_path, worker)).communicate(timeout=60)

    assert job.returncode == 1
    assert "rank 1 was killed by SIGKILL (perhaps by the system, out of memory)" in warned
    assert "(it is empty)" in warned


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended_by_the_deadline_and_its_log_says_where_it_stood(
    tmp_path: Path,
) -> None:
    worker = (
        write_pid(tmp_path)
        + """
def wait_for_nothing():
    time.sleep(300)

heartbeat.beat(1)
if rank:
    wait_for_nothing()
for step in range(2, 10):
    heartbeat.beat(step)
    time.sleep(0.1)
time.sleep(300)
"""
    )

    _, warned = (job := start(tmp_path, worker, "--deadline", "3")).communicate(timeout=60)

    assert job.returncode == 1
    assert "rank 1 made no step for 3 s (--deadline): rank 0 at step " in warned
    assert "rank 1 at step 1" in warned
    assert "in wait_for_nothing" in warned
    assert not any(map(is_running, pids(tmp_path)))


def test_only_a_worker_without_a_step_since_the_deadline_hangs(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]) as process:
        log, beats = tmp_path / "log", tmp_path / "beats"
        worker = launch.Worker(0, process, log, beats)
        beats.write_text("7")
        log.write_text("said")

        launch.refuse_hung([worker], 60)
        os.utime(beats, (time.time() - 100,) * 2)
        launch.refuse_hung([worker], 0)

        with pytest.raises(launch.JobError, match=r"no step for 60 s .*: rank 0 at step 7"):
            launch.refuse_hung([worker], 60)
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_launcher_leaves_no_worker_nor_what_a_worker_started(
    number: signal.Signals, tmp_path: Path
) -> None:
    # Both ask to be left alone, and have to be killed.
    worker = (
        "import signal, subprocess\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        + write_pid(tmp_path)
        + f"open('{tmp_path}/child%d' % rank, 'w').write(str(child.pid))\n"
        + f"os.rename('{tmp_path}/child%d' % rank, '{tmp_path}/child%d.pid' % rank)\n"
        + "time.sleep(300)"
    )
    job = start(tmp_path, worker)
    for name in ("0", "1", "child0", "child1"):
        await_file(tmp_path / f"{name}.pid")

    job.send_signal(number)
    _, warned = job.communicate(timeout=60)

    assert job.returncode == 130
    assert "stopped" in warned
    assert len(pids(tmp_path)) == 4
    assert not any(map(is_running, pids(tmp_path)))


def start_nodes(
    tmp_path: Path, worker: str, *options: str, sizes: tuple[int, int] = (2, 2)
) -> list[subprocess.Popen[str]]:
    port = launch.free_port()
    line = ["--nodes", "2", "--master", f"127.0.0.1:{port}", *options]
    return [
        start(tmp_path, worker, *line, "--node-rank", str(rank), processes=size)
        for rank, size in enumerate(sizes)
    ]


def test_two_nodes_have_the_ranks_of_one_job(tmp_path: Path) -> None:
    names = "RANK_SIZE RANK_ID DEVICE_ID"
    nodes = start_nodes(tmp_path, f"print(*map(os.environ.get, {names.split()}))", sizes=(4, 4))

    for node in nodes:
        _, warned = node.communicate(timeout=60)
        assert node.returncode == 0, warned

    logs = [(tmp_path / f"worker_{rank}.log").read_text() for rank in range(4)]
    assert logs == ["4 0 0\n", "4 1 1\n", "4 2 0\n", "4 3 1\n"]


def test_a_worker_that_fails_ends_the_job_on_all_nodes_with_the_cause_on_each(
    tmp_path: Path,
) -> None:
    worker = write_pid(tmp_path) + "if rank: raise SystemExit('no such store')\ntime.sleep(300)"

    first, second = start_nodes(tmp_path, worker)
    said = [node.communicate(timeout=60)[1] for node in (first, second)]

    assert [first.returncode, second.returncode] == [1, 1]
    assert "error: on node 1: rank 1 ended with exit status 1" in said[0]
    assert all("no such store" in one for one in said)
    assert not any(map(is_running, pids(tmp_path)))


def test_a_node_whose_launcher_is_killed_ends_the_job(tmp_path: Path) -> None:
    first, second = start_nodes(tmp_path, write_pid(tmp_path) + "time.sleep(300)")
    for name in ("0", "1"):
        await_file(tmp_path / f"{name}.pid")

    second.kill()
    _, warned = first.communicate(timeout=60)

    assert first.returncode == 1
    assert "node 1 is lost" in warned
    os.kill(int((tmp_path / "1.pid").read_text()), signal.SIGKILL)
    second.communicate(timeout=60)


def test_a_node_that_does_not_come_ends_the_job_after_the_patience(tmp_path: Path) -> None:
    job = start(
        tmp_path,
        "time.sleep(300)",
        *["--nodes", "2", "--patience", "1", "--master", f"127.0.0.1:{launch.free_port()}"],
    )

    _, warned = job.communicate(timeout=60)

    assert job.returncode == 1
    assert "1 of 2 nodes have not come within 1 s" in warned


def test_a_stranger_at_the_port_is_not_heard(tmp_path: Path) -> None:
    master = f"127.0.0.1:{launch.free_port()}"
    line = ["--nodes", "2", "--master", master]
    first = start(tmp_path, "", *line, "--node-rank", "0")
    host, port = launch.read_address(master)
    for said in (b"GET / HTTP/1.1\r\n\r\n", b'{"failed": "so they say"}\n', b"[]\n", b""):
        reach(host, port + 1, said)
    second = start(tmp_path, "", *line, "--node-rank", "1")

    warned = [node.communicate(timeout=60)[1] for node in (first, second)]

    assert [first.returncode, second.returncode] == [0, 0], warned


def reach(host: str, port: int, said: bytes) -> None:
    """Say something to who listens there, once it does, and leave."""
    end = time.monotonic() + 60
    while True:
        try:
            with socket.create_connection((host, port)) as connection:
                connection.sendall(said)
                return
        except ConnectionRefusedError:
            assert time.monotonic() < end, "nobody listens"
            time.sleep(0.05)


def test_nodes_that_were_told_different_sizes_are_refused(tmp_path: Path) -> None:
    first, second = start_nodes(tmp_path, "time.sleep(300)", sizes=(2, 4))

    said = [node.communicate(timeout=60)[1] for node in (first, second)]

    assert [first.returncode, second.returncode] == [1, 1]
    theirs, ours = "{'processes': 4, 'nodes': 2}", "{'processes': 2, 'nodes': 2}"
    assert f"node 1 was started with {theirs}, not {ours}" in said[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--processes", "3", "--nodes", "2", "--master", "h:1"], "cannot be shared evenly"),
        (["--processes", "2", "--nodes", "2"], "need --master HOST:PORT"),
        (["--processes", "2", "--nodes", "2", "--master", "h"], "--master is HOST:PORT"),
        (["--processes", "2", "--node-rank", "1"], "ranks are 0 to 0"),
        (["--processes", "0"], "at least one process"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(
    line: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.main([*line, "finetune", "CONFIG.yaml"]) == 2
    assert message in capsys.readouterr().err


def test_a_call_becomes_the_command_of_every_worker(tmp_path: Path) -> None:
    parsed = launch.parser().parse_args(
        ["--processes", "8", "predict", "CONFIG.yaml", "--stream", "run.seed=1"]
    )

    job = launch.read_job(parsed)

    assert job.command[1:] == ("-m", "recipes.predict", "CONFIG.yaml", "--stream", "run.seed=1")
    assert job.ranks == range(8)
    assert re.fullmatch(r"logs/\d{8}-\d{6}", str(job.logs))


def test_an_address_without_a_port_is_refused() -> None:
    assert launch.read_address("10.0.0.1:8118") == ("10.0.0.1", 8118)
    with pytest.raises(ConfigError, match="HOST:PORT"):
        launch.read_address("10.0.0.1:65535")
