import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from rl_rms.agents import storage
from rl_rms.cli.federation import Federation
from rl_rms.cli.main import main
from tests.cli.runs import FEDERATION, rows
from tests.naming import mentions

# -- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["ray", "flwr.app"])
def test_federate_without_flower_or_ray_names_the_extra(federation_folder, monkeypatch, capsys, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["federate", "cartpoles"]) == 2
    assert mentions(capsys.readouterr().err, "Flower", "Ray", "pip install 'rl_rms[flower]'")
    assert not (federation_folder / "runs").exists()


def test_federate_wrong_argument_writes_nothing(federation_folder, capsys):
    assert main(["federate", "nowhere"]) == 2
    assert mentions(capsys.readouterr().err, "'nowhere'")
    assert main(["federate", "mine.yaml", "--rounds", "0"]) == 2
    assert "rounds must be" in capsys.readouterr().err
    assert main(["federate", "mine.yaml", "--workers", "0"]) == 2
    assert main(["federate", "mine.yaml", "--rate", "3"]) == 2
    assert not Path("runs").exists()


def test_federate_twice_in_a_second_makes_two_folders(federation_folder):
    for _ in range(3):
        assert main(["federate", "mine.yaml", "--prepare", "true"]) == 0
    assert len(list(Path("runs/mine").iterdir())) == 3


@pytest.mark.parametrize("parent", ["runs", 'a "b" \\c é 😀'])
def test_prepare_writes_a_flower_app(federation_folder, capsys, parent):
    import tomllib

    words = ["--prepare", "true", "--learning_rate", "0.5", "--runs_dir", parent]
    assert main(["federate", "mine.yaml", *words]) == 0
    (folder,) = (Path(parent) / "mine").iterdir()
    assert f"flwr run {folder}" in capsys.readouterr().out
    app = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert app["components"] == {
        "serverapp": "rl_rms.cli.flower:server_app",
        "clientapp": "rl_rms.cli.flower:client_app",
    }
    assert app["config"]["folder"] == str(folder.absolute())
    assert Federation.from_text((folder / "federation.json").read_text()).federation["learning_rate"] == 0.5


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting"),
        ('{"config": {}', "Expecting"),
        ("[]", "config and federation must be mappings"),
        ('{"config": {}, "clients": [3]}', "config and federation must be mappings"),
        ('{"clients": []}', "config and federation must be mappings"),
        ('{"config": {}, "clients": []}', "clients must be a list of at least one client"),
        ('{"config": {}, "clients": [{}], "seed": "x"}', "seed must be"),
    ],
)
def test_damaged_prepared_file_names_it(federation_folder, capsys, content, reason):
    pytest.importorskip("flwr")
    assert main(["federate", "mine.yaml", "--prepare", "true"]) == 0
    (folder,) = Path("runs/mine").iterdir()
    (folder / "federation.json").write_text(content)
    assert main(["federate", str(folder), "--prepare", "true"]) == 2
    said = capsys.readouterr().err
    assert mentions(said, "federation.json", "damaged")
    assert reason in said


# -- messages ---------------------------------------------------------------------------------------------


def test_federate_folder_that_names_code_is_refused_without_trust(strangers, capsys):
    assert main(["federate", "mine.yaml", "--prepare", "true"]) == 0
    (folder,) = Path("runs/mine").iterdir()
    before = (folder / "federation.json").read_bytes()
    words = ["federate", str(folder), "--prepare", "true", "--rounds", "7"]
    assert main(words) == 2
    said = capsys.readouterr().err
    for named in ("env.id 'strangers:Mine-v0'", f"rl-rms federate {folder} --trust"):
        assert named in said
    assert (folder / "federation.json").read_bytes() == before
    assert not (strangers / "imported").exists()
    assert main([*words, "--trust"]) == 0
    assert (folder / "federation.json").read_bytes() != before


@pytest.mark.xdist_group("ray")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of Ray and Flower
def test_federate_in_flower_simulation_trains_and_resumes_with_code_that_it_trusts(strangers, capsys):
    pytest.importorskip("flwr")
    pytest.importorskip("ray")
    environment = dict(os.environ)
    assert main(["federate", "mine.yaml", "--rounds", "2", "--workers", "1"]) == 0
    assert os.environ.get("PYTHONPATH") == environment.get("PYTHONPATH")
    (folder,) = Path("runs/mine").iterdir()
    assert "2 rounds; clients' mean return at the end" in capsys.readouterr().out
    (strangers / "imported").unlink()
    resume = ["federate", str(folder), "--rounds", "3"]
    assert main(resume) == 2
    assert main([*resume, "--trust"]) == 0
    assert (strangers / "imported").exists()
    assert "3 rounds; clients' mean return at the end" in capsys.readouterr().out
    assert {row["federation/clients"] for row in rows(folder)} == {"3.0"}
    assert storage.read(folder / "server.safetensors")["round"] == 3


@pytest.fixture
def deployment(federation_folder, monkeypatch):
    """Flower's deployment on this machine with one node per client. The fixture stops the nodes at the end."""
    pytest.importorskip("flwr")
    environment = {
        **os.environ,
        "FLWR_HOME": str(federation_folder / "flower"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    ports = free_ports(3)
    link = f"127.0.0.1:{ports[0]}"
    (federation_folder / "flower").mkdir()
    (federation_folder / "flower" / "config.toml").write_text(
        f'[superlink.loop]\naddress = "{link}"\ninsecure = true\n'
    )
    commands = [["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(ports[0])]]
    for client in range(2):
        own = f'partition-id={client} num-partitions=2 folder="{federation_folder / f"owner{client}"}"'
        node = ["flower-supernode", "--insecure", "--superlink", link, "--host", "127.0.0.1"]
        commands.append([*node, "--port", str(ports[1 + client]), "--node-config", own])
    with ExitStack() as stack:
        for number, command in enumerate(commands):
            log = stack.enter_context((federation_folder / f"log{number}.txt").open("w"))
            process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            stack.callback(stop, process)
            time.sleep(3.0 if number == 0 else 0.0)
        yield environment


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def stop(process):
    """End a process and its children."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=20)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_prepared_apps_run_in_flower_deployment(deployment, federation_folder):
    two = FEDERATION.replace("  - {env.changes: {length: 0.6}}\n", "").replace("rounds: 3", "rounds: 2")
    (federation_folder / "mine.yaml").write_text(two)
    assert main(["federate", "mine.yaml", "--prepare", "true"]) == 0
    (folder,) = Path("runs/mine").iterdir()
    started = subprocess.run(
        ["flwr", "run", str(folder), "loop"],
        env=deployment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert started.returncode == 0, started.stdout + started.stderr
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        file, log = folder / "server.safetensors", folder / "metrics.csv"
        if file.exists() and storage.read(file)["round"] == 2 and log.exists() and len(rows(folder)) == 2:
            break
        time.sleep(0.5)
    else:
        logs = [path.read_text()[-2_000:] for path in sorted(federation_folder.glob("log*.txt"))]
        raise TimeoutError("\n".join(logs))
    assert {row["federation/clients"] for row in rows(folder)} == {"2.0"}
    # Each client's agent is saved in the client's own folder.
    for client in range(2):
        assert (federation_folder / f"owner{client}" / "agent.safetensors").is_file()
    assert not (folder / "clients").exists()
