import subprocess
import sys

#: Computes in one thread while another imports torch, slowly: at its begin it waits for the other to have computed.
TOGETHER = """
import sys, threading
import numpy as np
from scipy.special import logsumexp
from inference.warehouse.late_torch import allow_late_torch

if {late}:
    allow_late_torch()
begun, computed, failed = threading.Event(), threading.Event(), []

def compute():
    begun.wait()
    try:
        logsumexp(np.zeros(1))
    except AttributeError as error:
        failed.append(str(error))
    computed.set()

def wait(event, arguments):
    if event == "import" and arguments[0] == "torch.torch_version":
        begun.set()
        computed.wait(60)

sys.addaudithook(wait)
thread = threading.Thread(target=compute)
thread.start()
import torch
thread.join()
assert computed.is_set()
print(failed, isinstance(torch.zeros(1), torch.Tensor), logsumexp(np.zeros(1)))
"""


def together(late: bool) -> str:
    command = [sys.executable, "-c", TOGETHER.format(late=late)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_scipy_computes_while_torch_is_imported():
    assert together(late=True) == "[] True 0.0"


def test_without_it_scipy_fails():
    assert "has no attribute 'Tensor'" in together(late=False)
