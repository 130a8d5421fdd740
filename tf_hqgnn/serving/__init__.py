"""A local server that speaks TF Serving's protocols, and a client for either."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_hqgnn.lazy_names import lazy_names

if TYPE_CHECKING:
    from tf_hqgnn.serving.client import ClientTls, ServerUnavailable
    from tf_hqgnn.serving.remote import Client

__all__ = ["Client", "ClientTls", "ServerUnavailable"]

__getattr__, __dir__ = lazy_names(__name__, {"Client": "remote", "ClientTls": "client", "ServerUnavailable": "client"})
