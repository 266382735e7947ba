"""What must pytest not import?  The adapters of peers that may not be installed; test_peers.py imports them."""

from collections.abc import Iterator

import pytest
import torch


collect_ignore_glob = ["peers/*"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As when it is timed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
