"""MLflow's pages on a results folder."""

import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from raylets import free_ports

import lmsa_bench as lb
from lmsa_bench.results.tracking import ResultStore, default_uri

SUITE = "suite: seen\ntasks: [digits_flip]\nseeds: 1\nepochs: 1\nrows: {full: {grid: {lr: 1e-2}}}\n"


@pytest.mark.slow  # a sweep, and the start of MLflow's server
def test_the_pages_of_a_folder_are_served_with_a_link_for_each_suite(tmp_path, data):
    (tmp_path / "seen.yaml").write_text(SUITE)
    suite = lb.load_suite(str(tmp_path / "seen.yaml"))
    results = lb.run(suite, tmp_path / "results", data)
    ResultStore(default_uri(tmp_path / "results")).publish(results.journal, "seen", [t.id for t in suite.trials])
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "lmsa_bench", "ui", "--results", str(tmp_path / "results"), "--port", str(port)]
    with open(tmp_path / "out", "w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while True:
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30).read()
                break
            except OSError:
                assert time.monotonic() < deadline, (tmp_path / "out").read_text()
                time.sleep(0.5)
        assert b"<title>MLflow</title>" in page
        assert (tmp_path / "out").read_text().startswith(f"seen: http://127.0.0.1:{port}/#/experiments/")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
