"""A program as the supervisor sees one: serves /health on its socket, ends on SIGTERM; its behaviour by environment."""

import os
import signal
import socket
import subprocess
import sys
import time

run_path = os.environ["RUN_PATH"]
behaviour = os.environ.get("BEHAVIOUR", "")
name = sys.argv[1]


def note(word: str) -> None:
    with open(f"{run_path}/notes", "a") as notes:
        notes.write(f"{word} {name} {os.getpid()}\n")


def end(*_: object) -> None:
    if behaviour == "deaf":
        note("deaf")
        return
    note("end")
    sys.exit(0)


signal.signal(signal.SIGTERM, end)
note("start")
if behaviour == "refuse":
    sys.exit(2)
if behaviour == "orphan" and name == "agent":
    # Leaves a grandchild that outlives it, as a container outlives the agent.
    middle = subprocess.Popen(["sh", "-c", "(sleep 0.5; exit 7) & echo $!"], stdout=subprocess.PIPE)
    assert middle.stdout
    note(f"orphan={middle.stdout.readline().decode().strip()}")
    middle.wait()

path = f"{run_path}/{name}.sock"
if os.path.exists(path):
    os.unlink(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
while True:
    connection, _ = server.accept()
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    connection.close()
    time.sleep(0)
