"""clusters/onprem.yaml as a researcher uses it: a checkout on a laptop, one section filled in, hosts behind ssh."""

import re
import shutil
import sys
import time
from pathlib import Path

from tests.support.places import ROOT
from tests.support.waiting import wait_for

MOUNTED = ("l2t_ray", "analysis", "clusters", "sweeps", "pyproject.toml", "constraints.txt", "README.md", "LICENSE")
UP = "RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 ray up -y --no-config-cache site.yaml"
N_NODES = """
import ray
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
print(sum(node["Alive"] for node in ray.nodes()))
"""


class Site:
    """A laptop and a cluster of hosts of a lab."""

    def __init__(self, lab, n_workers, **settings):
        self.lab = lab
        self.laptop, self.head = lab.add("laptop"), lab.add("head")
        self.workers = [lab.add(f"worker{number}") for number in range(n_workers)]
        checkout = Path(lab.folder) / "own-laptop" / "it's a checkout"
        checkout.mkdir()
        for name in MOUNTED:
            path = ROOT / name
            (shutil.copytree if path.is_dir() else shutil.copy)(path, checkout / name)
        self.checkout = checkout
        (checkout / "site.yaml").write_text(self.filled_in(settings))
        (Path(lab.folder) / "shared" / "n_nodes.py").write_text(N_NODES)
        self.laptop.run("ray get-auth-token --generate >/dev/null; chmod 600 ~/.ray/auth_token")

    def filled_in(self, settings):
        """The file with its section filled in, and nothing else changed."""
        text = (ROOT / "clusters" / "onprem.yaml").read_text()
        lines = "\n    ".join(f"{name}={value}" for name, value in {"L2T_VENV": sys.prefix, **settings}.items())
        for old, new in {
            "head_ip: 192.0.2.10": f"head_ip: {self.head.address}",
            "[192.0.2.11, 192.0.2.12]": f"[{', '.join(host.address for host in self.workers)}]",
            "ssh_user: researcher": "ssh_user: root",
            "~/.ssh/id_ed25519": "/mnt/shared/.lab/id",
            "L2T_MPS=off\n": f"L2T_MPS=off\n    {lines}\n",
        }.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text

    @property
    def hosts(self):
        return [self.head, *self.workers]

    def local(self, command, **settings):
        """Runs a command on the laptop, in the checkout."""
        return self.laptop.run(f'cd "/mnt/own/it\'s a checkout" && {command}', **settings)

    def up(self):
        return self.local(f"{UP} 2>&1", timeout=1000)

    def execute(self, command, **settings):
        """Runs a command on the head, from the laptop."""
        return self.local(self.executed(command), timeout=1000, **settings)

    @staticmethod
    def executed(command):
        return f"ray exec --no-config-cache site.yaml '{command}' 2>&1"

    def down(self):
        told = self.execute("~/l2t-ray/clusters/node.sh down")
        return told + self.local("ray down -y site.yaml 2>&1")

    def n_nodes(self):
        """How many nodes Ray says there are."""
        told = self.head.run("source ~/.bashrc; python -W ignore /mnt/shared/n_nodes.py 2>/dev/null")
        return int(re.findall(r"^(\d+)$", told, re.MULTILINE)[-1])  # not what Ray prints of nodes that are gone

    def wait_for_nodes(self, number):
        wait_for(lambda: self.n_nodes() == number, told=self.monitor, most_s=600, pause_s=1)

    def monitor(self):
        return self.head.run("tail -n 60 /tmp/ray/session_latest/logs/monitor.* 2>&1", check=False)

    def left(self, wait_s=240):
        """Processes that are still there some time after the end, by host."""
        end = time.monotonic() + wait_s
        while found := {host.name: lines for host in self.hosts if (lines := host.processes())}:
            if time.monotonic() > end:
                break
            time.sleep(1)
        return found
