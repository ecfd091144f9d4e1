"""`make demo`: real sandboxes made, wrecked, rolled back and forked, with the time of each step beside plain tools."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from peers.client import PeerFailed, Peers  # noqa: E402
from steps import Steps  # noqa: E402

from skerry.client import Client, Sandbox  # noqa: E402
from skerry.errors import NotFound, SkerryError  # noqa: E402
from skerry.serve.ready import answers_health  # noqa: E402
from skerry.settings import Settings  # noqa: E402

DATA_DIR = Path("/var/lib/skerry-demo")
LISTEN, URL_LISTEN, SSH_LISTEN = "127.0.0.1:7075", "127.0.0.1:7076", "127.0.0.1:7077"
SUBNET = "10.200.0.0/16"  # not of job_subnets, which a Skerry beside it has for its gangs
POOL_SIZE = "8GiB"
IMAGE = "debian:12"
INCLUDE = ["python3"]
TRAINED = ROOT / "examples" / "train-and-serve"
FORKS = 3
READY_S_MAX = 90
ASLEEP_S_MAX = 20
PREPARE_S_MAX = 900
PORT = 8000
SERVE = f"exec python3 -m http.server {PORT}"
PEER_ROUNDS = 5
ENVIRONMENT = f"""\
version: 1
name: demo
networks: {{backend: {{}}}}
templates:
  machine:
    image: {IMAGE}
    memory: 256MiB
    networks: [backend]
    provision: [{{name: note, run: hostname > /srv/note}}]
sandboxes:
  server:
    extends: machine
    services: {{web: {{command: exec python3 -m http.server --directory /srv 80, port: 80}}}}
  agent:
    extends: machine
    count: 2
    depends_on: {{server: healthy}}
"""
SUM = "import math; print('1000! has', len(str(math.factorial(1000))), 'digits')"
ROLL = "import random, socket; print(socket.gethostname(), 'rolls', random.SystemRandom().randint(1, 6))"


class Server:
    """A Skerry of the demo's own; its image stays for the next time."""

    def __init__(self) -> None:
        self.settings = Settings(data_dir=DATA_DIR)
        self.log = DATA_DIR / "serve.log"

    def start(self) -> None:
        DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        # In the file and not as options, so that who serves it again by hand need not know them.
        (DATA_DIR / "skerry.toml").write_text(
            f'listen = "{LISTEN}"\nurl_listen = "{URL_LISTEN}"\nssh_listen = "{SSH_LISTEN}"\n'
            f'network_subnet = "{SUBNET}"\npool_size = "{POOL_SIZE}"\n'
        )
        skerry = str(Path(sys.executable).with_name("skerry"))
        self.process = subprocess.Popen(
            [skerry, "serve", "--data-dir", str(DATA_DIR), "--log-level", "warning"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log.open("w"),
        )
        deadline = time.monotonic() + READY_S_MAX
        settings = self.settings
        for path in (settings.agent_socket, settings.control_socket, settings.gateway_socket):
            while not answers_health(str(path)):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise SystemExit(f"\nskerry serve did not come up:\n{self.log.read_text()[-3000:]}")
                time.sleep(0.05)

    def client(self) -> Client:
        return Client(f"unix://{self.settings.control_socket}", key=self.settings.admin_key_path.read_text().strip())

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()


def find_or_build_image(client: Client, steps: Steps) -> None:
    try:
        if client.images.get(IMAGE).state == "ready":
            print(f"The image {IMAGE} is there from last time.", flush=True)
            return
    except NotFound:
        pass
    say = f"Build {IMAGE} with python3 from Debian's packages (once)"
    steps.run("image", say, lambda: client.images.build(IMAGE, "debian:12", INCLUDE))


def tell_story(client: Client, steps: Steps) -> None:
    steps.title("A sandbox")
    box = steps.run(
        "create", f"Create a sandbox from {IMAGE}", lambda: Sandbox.create(IMAGE, client=client, name="demo")
    )
    try:
        first = steps.run("exec", "Run a command in it", lambda: box.commands.run(["echo", "hello from a sandbox"]))
        steps.show(first.stdout)
        steps.run("write", "Write a file into it", lambda: box.files.write("/srv/sum.py", SUM))
        ran = steps.run("python", "Run Python code in it", lambda: box.commands.run("python3 /srv/sum.py", check=True))
        steps.show(ran.stdout)
        wreck_and_restore(box, steps)
        fork(client, box, steps)
        sleep_and_wake(client, steps)
        close_off(box, steps)
        stop_and_start(box, steps)
        bring_up(steps)
        train_and_serve(steps)
    finally:
        steps.title("Clean up")
        steps.run("delete", "Delete every sandbox of the demo", lambda: delete_all(client))


def wreck_and_restore(box: Sandbox, steps: Steps) -> None:
    steps.title("Wreck it, roll it back")
    safe = steps.run("checkpoint", "Checkpoint the running sandbox", lambda: box.checkpoint("before the accident"))
    wreck = "rm -rf /usr/lib /usr/bin/python3* /srv /etc 2>/dev/null; true"
    steps.run("wreck", "Wreck it: rm -rf /usr/lib /usr/bin/python3* /srv /etc", lambda: box.commands.run(wreck))
    broken = steps.run("broken", "Run the Python code again", lambda: box.commands.run("python3 /srv/sum.py"))
    if broken.ok:
        raise SystemExit("the sandbox should be broken now, and is not")
    steps.show(broken.stderr.strip() or f"exit code {broken.exit_code}: nothing works any more")
    steps.run("restore", "Restore the checkpoint, in place", lambda: box.restore(safe))
    healed = box.commands.run("python3 /srv/sum.py", check=True)
    steps.show(healed.stdout)


def fork(client: Client, box: Sandbox, steps: Steps) -> None:
    steps.title("Fork it")
    forks = steps.run("fork", f"Fork it {FORKS} times, running", lambda: box.fork(FORKS))
    for each in forks:
        steps.show(each.commands.run(["python3", "-c", ROLL], check=True).stdout)
    steps.show("\n".join(lineage(client, box)))


def lineage(client: Client, box: Sandbox) -> list[str]:
    children = client.sandboxes.list(parent=box.id)
    told = [f"{box.name}  {box.info().address}"]
    for number, child in enumerate(children):
        branch = "└──" if number == len(children) - 1 else "├──"
        told.append(f"{branch} {child.name}  {child.info().address}")
    return told


def sleep_and_wake(client: Client, steps: Steps) -> None:
    steps.title("Let it fall asleep, and wake it by a request")
    box = Sandbox.create(IMAGE, client=client, name="sleeper", command=SERVE, idle="1s")
    url = box.url(PORT)
    get(url)
    steps.show(f"it serves {url}")
    steps.run("idle", "Nobody asks for a second: it falls asleep by itself", lambda: until_asleep(box))
    steps.run("warm", "GET its URL: awake, its memory as it was", lambda: get(url))
    box.sleep(cold=True)
    steps.run("cold", "The same when it was stopped to give its memory back", lambda: get(url))
    steps.show(
        "\n".join(f"{event.kind} {event.message}" for event in box.events() if event.kind in ("asleep", "woken"))
    )


def get(url: str) -> None:
    """As `curl -H "Authorization: Bearer KEY" URL`, by the address of the gateway: not every system resolves
    names below localhost."""
    host, _, port = URL_LISTEN.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    key = Settings(data_dir=DATA_DIR).admin_key_path.read_text().strip()
    headers = {"Host": url.split("/")[2], "Authorization": f"Bearer {key}"}
    connection.request("GET", "/", headers=headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"\n{url} answered {answer.status}: {text.decode()}")


def until_asleep(box: Sandbox) -> None:
    deadline = time.monotonic() + ASLEEP_S_MAX
    while box.state != "asleep":
        if time.monotonic() > deadline:
            raise SystemExit(f"\nit should be asleep by now: {box.activity()}")
        time.sleep(0.05)


def close_off(box: Sandbox, steps: Steps) -> None:
    """Works without an internet, too: a denied name is refused here and goes nowhere."""
    steps.title("Let it reach only what you name")
    policy = "Deny all but package mirrors, while it runs"
    steps.run("policy", policy, lambda: box.policy.set(default="deny", allow=["@packages"]))
    look = "import socket; socket.gethostbyname('tracker.example')"
    asked = steps.run("denied", "Look up another name in it", lambda: box.commands.run(["python3", "-c", look]))
    if asked.ok:
        raise SystemExit("the name should be denied, and is not")
    steps.show(asked.stderr.strip().splitlines()[-1])
    for line in box.policy.log(tail=1):
        steps.show(f"its log: {line.action.value} {line.name} {line.type}")
    box.policy.set(default="allow")


def stop_and_start(box: Sandbox, steps: Steps) -> None:
    steps.title("Stop and start")
    steps.run("stop", "Stop it; its disk stays", lambda: box.stop(grace_s=0))
    steps.run("start", "Start it again", box.start)
    steps.show(box.commands.run("python3 /srv/sum.py", check=True).stdout)


def bring_up(steps: Steps) -> None:
    """With the command line, as whole processes, since that is how a file is used."""
    steps.title("A whole environment from one file")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "skerry.yaml").write_text(ENVIRONMENT)

        def skerry(*words: str) -> str:
            return command_line(Path(folder), Path(folder), *words)

        steps.run("up", "skerry up: a server and two agents, and their network", lambda: skerry("up"))
        again = steps.run("up_again", "skerry up again", lambda: skerry("up"))
        steps.show(again)
        ask = "import urllib.request; print(urllib.request.urlopen('http://server/note').read().decode())"
        steps.run(
            "ask", "An agent asks the server by its name", lambda: skerry("exec", "agent-1", "--", "python3", "-c", ask)
        )
        skerry("exec", "agent-2", "--", "rm", "-rf", "/usr")
        steps.run("reset", "Wreck the other one, put it back as it was set up", lambda: skerry("reset", "agent-2"))
        steps.run("destroy", "Take it all down", lambda: skerry("destroy", "--yes"))


def command_line(folder: Path, state: Path, *words: str) -> str:
    program = str(Path(sys.executable).with_name("skerry"))
    environ = {**os.environ, "SKERRY_DATA_DIR": str(DATA_DIR), "XDG_STATE_HOME": str(state)}
    ran = subprocess.run([program, *words], cwd=folder, env=environ, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"\nskerry {' '.join(words)} failed:\n{ran.stderr}")
    return ran.stdout


def prepare_training(steps: Steps) -> bool:
    """Whether PyTorch is here; where it cannot be fetched the rest of the demo is still worth seeing."""
    if all((TRAINED / part / "done").exists() for part in ("site", "client")):
        return True
    fetch = ["timeout", str(PREPARE_S_MAX), "./prepare"]
    fetched = steps.run(
        "prepare",
        "Fetch PyTorch and transformers, 900 MB unpacked (once)",
        lambda: subprocess.run(fetch, cwd=TRAINED, capture_output=True, text=True),
    )
    if fetched.returncode:
        said = [line for line in fetched.stderr.splitlines() if not line.startswith("WARNING")]
        because = said[-1].removeprefix("ERROR: ") if said else f"not within {PREPARE_S_MAX} s"
        steps.show(f"{TRAINED.relative_to(ROOT)}/prepare could not fetch them: {because}")
    return fetched.returncode == 0


def train_and_serve(steps: Steps) -> None:
    steps.title("Train a model, then serve it")
    if not prepare_training(steps):
        return
    with tempfile.TemporaryDirectory() as state:
        more = Path(state) / "image.yaml"
        of_ours = f"{{image: '{IMAGE}'}}"  # which has Python already
        more.write_text(f"images: {{python: null}}\njobs: {{train: {of_ours}}}\nservices: {{sorter: {of_ours}}}\n")
        files = ("-f", "skerry.yaml", "-f", str(more))

        def skerry(*words: str) -> str:
            return command_line(TRAINED, Path(state), *words)

        try:
            say = "skerry up: a job trains it, two replicas serve it"
            steps.run("train", say, lambda: skerry("up", "--allow-outside", *files))
            # A demo that was killed has left its own, whose word nobody knows any more.
            if "asker" in skerry("service", "token", "list"):
                skerry("service", "token", "revoke", "asker", "--yes")
            token = skerry("service", "token", "create", "asker", "--service", "sorter", "--quiet").strip()
            environ = {**os.environ, "OPENAI_BASE_URL": f"http://{URL_LISTEN}/v1", "OPENAI_API_KEY": token}
            environ["PYTHONPATH"] = str(TRAINED / "client")
            asking = [sys.executable, "ask.py", "hbadfe", "jihgfa"]
            say = "Ask it by the openai client"
            asked = steps.run(
                "openai",
                say,
                lambda: subprocess.run(asking, cwd=TRAINED, env=environ, check=True, stdout=subprocess.PIPE),
            )
            steps.show(asked.stdout.decode())
        finally:
            steps.run(
                "untrain", "Take it down, with its volume", lambda: skerry("destroy", "--yes", "--volumes", *files)
            )


def delete_all(client: Client) -> None:
    for each in client.sandboxes.list():
        each.delete(force=True)


class Beside:
    """The same steps, ours and by hand, a few times in turn on this machine."""

    def __init__(self, client: Client, peers: Peers) -> None:
        self._client = client
        self._peers = peers
        self._podman = peers.has_podman()
        self._times: dict[str, dict[str, list[float]]] = {}

    def measure(self, tree: Path) -> None:
        self._peers.ask("crun", "open", str(tree), 3 * 1024**3)
        if self._podman:
            self._peers.ask("podman", "open", str(tree))
        for number in range(PEER_ROUNDS + 1):
            self._ours(number)
            self._floor(number)
            if self._podman:
                self._run_podman(number)

    def _ours(self, number: int) -> None:
        made: list[Sandbox] = []

        def create() -> None:
            made.append(Sandbox.create(IMAGE, client=self._client))
            made[0].commands.run(["echo", "hello"])

        self._note(number, "ours", "create to first output", _timed(create))
        box = made[0]
        self._note(number, "ours", "exec", _timed(lambda: box.commands.run(["echo", "hello"])))
        kept: list[Any] = []
        self._note(number, "ours", "checkpoint", _timed(lambda: kept.append(box.checkpoint())))
        self._note(number, "ours", "restore", _timed(lambda: box.restore(kept[0])))
        forks: list[Sandbox] = []
        self._note(number, "ours", f"fork x{FORKS}", _timed(lambda: forks.extend(box.fork(FORKS))))
        self._note(number, "ours", "stop", _timed(lambda: box.stop(grace_s=0)))
        self._note(number, "ours", "start", _timed(box.start))
        for each in (*forks, box):
            each.delete()

    def _floor(self, number: int) -> None:
        name = f"box{number}"

        def ask(step: str, *given: object) -> None:
            self._note(number, "crun", LABELS[step], self._peers.ask("crun", step, *given))

        for step, *given in (("create",), ("exec",), ("checkpoint", "keep"), ("restore", "keep"), ("fork", FORKS)):
            ask(step, name, *given)
        ask("stop", name)
        ask("start", name)
        self._peers.ask("crun", "delete", name)
        self._peers.ask("crun", "drop_checkpoint", "keep")

    def _run_podman(self, number: int) -> None:
        self._note(number, "podman", "create to first output", self._peers.ask("podman", "run_and_remove", "none"))
        name = f"box{number}"
        self._peers.ask("podman", "create", name)
        for step in ("exec", "stop", "start"):
            self._note(number, "podman", step, self._peers.ask("podman", step, name))
        self._peers.ask("podman", "delete", name)

    def _note(self, number: int, side: str, step: str, took_ms: float) -> None:
        if number:  # the first round warms up
            self._times.setdefault(step, {}).setdefault(side, []).append(took_ms)

    def print(self) -> None:
        heads = ["skerry", "crun by hand", *(["podman"] if self._podman else [])]
        print(f"{'milliseconds, median of ' + str(PEER_ROUNDS):<30}" + "".join(f"{head:>15}" for head in heads))
        for step, sides in self._times.items():
            cells = [f"{statistics.median(sides[side]):.1f}" if side in sides else "-" for side in ("ours", "crun")]
            if self._podman:
                cells.append(f"{statistics.median(sides['podman']):.1f}" if "podman" in sides else "-")
            print(f"{step:<30}" + "".join(f"{cell:>15}" for cell in cells))
        print("By hand means btrfs, ip, nft and crun commands, with no API, no database and no user namespace.")
        if not self._podman:
            print("To see podman beside it: apt-get install -y podman, then make demo again.")


LABELS = {
    "create": "create to first output",
    "exec": "exec",
    "checkpoint": "checkpoint",
    "restore": "restore",
    "fork": f"fork x{FORKS}",
    "stop": "stop",
    "start": "start",
}


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def image_tree(client: Client) -> Path:
    """The demo's image as a plain tar, so that the peers run from the very same files."""
    tree = DATA_DIR / "peers-tree.tar"
    if tree.exists():
        return tree
    with tempfile.TemporaryDirectory(dir=DATA_DIR) as folder:
        client.images.export(IMAGE, f"{folder}/image.tar")
        with tarfile.open(f"{folder}/image.tar") as archive:
            archive.extractall(f"{folder}/layout", filter="data")
        listed = subprocess.run(
            ["umoci", "list", "--layout", f"{folder}/layout"], capture_output=True, text=True, check=True
        ).stdout.split()
        image = f"{folder}/layout:{listed[0]}"
        subprocess.run(["umoci", "raw", "unpack", "--image", image, f"{folder}/tree"], check=True, capture_output=True)
        root = f"{folder}/tree/rootfs" if os.path.isdir(f"{folder}/tree/rootfs") else f"{folder}/tree"
        subprocess.run(["tar", "-C", root, "-cf", f"{folder}/tree.tar", "."], check=True)
        shutil.move(f"{folder}/tree.tar", tree)
    return tree


def main() -> int:
    if os.geteuid() != 0:
        print("real sandboxes need root: sudo make demo", file=sys.stderr)
        return 1
    steps = Steps()
    server = Server()
    steps.run("serve", "Start Skerry: supervisor, agent, control", server.start)
    try:
        with server.client() as client:
            delete_all(client)
            find_or_build_image(client, steps)
            tell_story(client, steps)
            steps.title("The same beside plain tools, on this machine")
            try:
                with Peers() as peers:
                    beside = Beside(client, peers)
                    beside.measure(image_tree(client))
                beside.print()
            except PeerFailed as error:
                print(f"The plain tools do not work here, so there is nothing to compare with: {error}")
            delete_all(client)
    except SkerryError as error:
        print(f"\nskerry: {error.say}\nlog: {server.log}", file=sys.stderr)
        return 1
    finally:
        server.stop()
    steps.title("Try it yourself")
    skerry = Path(sys.executable).with_name("skerry")
    print(f"""  {skerry} serve --data-dir {DATA_DIR}
and in another terminal, as root:
  export SKERRY_DATA_DIR={DATA_DIR} PATH={skerry.parent}:$PATH
  skerry run {IMAGE} -- python3 -c 'print(6 * 7)'
  skerry create {IMAGE} --name box && skerry shell box
  skerry checkpoint create box && skerry fork box --count 3 && skerry ps
  skerry policy set box --egress deny --allow @packages && skerry sleep box && skerry inspect box
  python examples/agent-sandbox/agent.py
Remove the demo's data: rm -r {DATA_DIR}""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
