"""A client whose signals Temporal refuses."""

from temporalio.client import Client, Interceptor, OutboundInterceptor, SignalWorkflowInput
from temporalio.service import RPCError, RPCStatusCode


def refusing_client(client: Client, status: RPCStatusCode) -> Client:
    config = client.config()
    config["interceptors"] = [_RefusingInterceptor(status)]
    return Client(**config)


class _RefusingInterceptor(Interceptor):
    def __init__(self, status: RPCStatusCode) -> None:
        self._status = status

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Refusing(next, self._status)


class _Refusing(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, status: RPCStatusCode) -> None:
        super().__init__(next)
        self._status = status

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        raise RPCError("refused", self._status, b"")
