"""Hosts of a cluster on one machine: each has namespaces of its own (processes, network, mounts, names), and an sshd.

Nothing in them sees a process, a port or a temporary file outside: `ray stop` in a host stops that host's Ray alone.
All of a host dies with its first process, and all hosts with this process.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.waiting import wait_for

SSHD = "/usr/sbin/sshd"
HOST = r"""
set -e
mount --make-rprivate /
mount -t proc proc /proc
mkdir -p /mnt/shared && mount -t tmpfs tmpfs /mnt && mkdir /mnt/shared /mnt/own
mount --bind "$L2T_SHARED" /mnt/shared
mount --bind "$L2T_OWN" /mnt/own
number=0
for path in $L2T_KEEP; do # what Python needs may lie below one of the folders that are hidden now
  number=$((number + 1))
  mkdir /mnt/keep$number && mount --bind "$path" /mnt/keep$number
done
for folder in /tmp /dev/shm /root /run; do mount -t tmpfs tmpfs $folder; done
number=0
for path in $L2T_KEEP; do
  number=$((number + 1))
  mkdir -p "$path" && mount --bind /mnt/keep$number "$path"
done
chmod 1777 /tmp /dev/shm
chmod 700 /root
mkdir -p /root/.ssh /run/sshd
chmod 700 /root/.ssh
cp /mnt/shared/.lab/authorized_keys /root/.ssh/authorized_keys
chmod 600 /root/.ssh/authorized_keys
hostname "$L2T_HOST_NAME"
ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip addr add "$L2T_ADDRESS/24" dev eth0
ip link set eth0 up
touch /run/up
exec /usr/sbin/sshd -D -e -f /mnt/shared/.lab/sshd_config
"""
SSHD_CONFIG = """
HostKey /mnt/shared/.lab/host_key
PidFile none
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
MaxStartups 100
Subsystem sftp internal-sftp
"""


def require():
    """Skips where there can be no hosts."""
    for program in (SSHD, "ssh", "ssh-keygen", "rsync", "ip", "unshare", "nsenter"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} (apt-get install openssh-server rsync iproute2 util-linux)")
    if os.geteuid() != 0 or subprocess.run(["unshare", "-n", "-p", "-m", "-u", "-f", "true"], check=False).returncode:
        pytest.skip("needs to be root, and namespaces")


class Host:
    """One host.

    Attributes:
        address: its IP address.
        process: `unshare`, whose only child is the host's first process.
    """

    def __init__(self, name, address, process, first):
        self.name, self.address, self.process, self.first = name, address, process, first

    def command(self, command):
        """The command line that runs a shell command in this host."""
        return ["nsenter", "-t", str(self.first), "-a", "env", "-i", *environment(), "bash", "-c", command]

    def run(self, command, *, timeout=280, check=True):
        """Runs a shell command; returns stdout and stderr together."""
        found = subprocess.run(
            self.command(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or found.returncode == 0, f"{self.name}: {command}: {found.returncode}\n{found.stdout[-6000:]}"
        return found.stdout

    def start(self, command, **settings):
        """Starts a shell command."""
        return subprocess.Popen(self.command(command), stdin=subprocess.DEVNULL, text=True, **settings)

    def processes(self):
        """Command lines of all processes but sshd's own and this look's."""
        lines = self.run("ps -eo pid=,args=").splitlines()
        found = [line.split(maxsplit=1) for line in lines]
        ours = ("ps -eo", "bash -c ps", "sshd: ", "/usr/sbin/sshd", "[sshd]")
        return [args for pid, args in found if not args.startswith(ours)]

    def kill(self):
        """Ends everything in it at once, without notice."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.first, signal.SIGKILL)
        self.process.wait(120)


def environment():
    path = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    return [f"PATH={path}", "HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=dumb"]


class Lab:
    """A network of hosts; the first is the researcher's laptop."""

    def __init__(self, folder):
        self.folder, self.hosts, self.bridge = Path(folder), {}, None
        secret = self.folder / "shared" / ".lab"
        secret.mkdir(parents=True)
        for name in ("host_key", "id"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", secret / name], check=True)
        shutil.copy(secret / "id.pub", secret / "authorized_keys")
        (secret / "sshd_config").write_text(SSHD_CONFIG)

    def __enter__(self):
        self.bridge = subprocess.Popen(["unshare", "-n", "--kill-child", "-f", "sleep", "infinity"])
        wait_for(lambda: self._child(self.bridge), process=self.bridge)
        self._ip("link add br0 type bridge")
        self._ip("link set br0 up")
        return self

    def __exit__(self, *_):
        for host in self.hosts.values():
            host.kill()
        self.bridge.kill()
        self.bridge.wait()

    def add(self, name):
        """Starts a host; a name that was there gets its old address and an empty disk."""
        known = list(self.hosts)
        number = known.index(name) if name in known else len(known)
        address = f"10.77.0.{number + 1}"
        own = self.folder / f"own-{name}"
        own.mkdir(exist_ok=True)
        settings = {
            "L2T_SHARED": str(self.folder / "shared"),
            "L2T_OWN": str(own),
            "L2T_ADDRESS": address,
            "L2T_HOST_NAME": name,
            "L2T_KEEP": " ".join(sorted({sys.prefix, sys.base_prefix})),
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                ["unshare", "-n", "-p", "-m", "-u", "-i", "-f", "--kill-child", "bash", "-c", HOST],
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        log = self.folder / f"{name}.log"
        first = wait_for(lambda: self._child(process), process=process, told=log.read_text)
        link = f"v{number}x{int(time.monotonic() * 10) % 100000}"
        self._ip(f"link add {link} type veth peer name eth0 netns {first}")
        self._ip(f"link set {link} master br0")
        self._ip(f"link set {link} up")
        host = self.hosts[name] = Host(name, address, process, first)
        listens = lambda: "LISTEN" in host.run("cat /run/up && ss -ltn 'sport = :22'", check=False)  # noqa: E731
        wait_for(listens, process=process, told=log.read_text)
        return host

    def _ip(self, arguments):
        subprocess.run(["nsenter", "-t", str(self._child(self.bridge)), "-n", "ip", *arguments.split()], check=True)

    @staticmethod
    def _child(process):
        text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return int(text[0]) if text else None
