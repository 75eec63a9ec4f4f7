"""A collector on Python's gRPC (`grpcio`) and one on its HTTP server, both with the messages that `opentelemetry-proto`
generates from OpenTelemetry's own definitions. A request of a client must arrive as one whole trace."""

import http.client
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from server import Server

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class GrpcCollector(trace_service_pb2_grpc.TraceServiceServicer):
    protocol = "grpc"

    def __enter__(self):
        self.received = queue.Queue()
        self.server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(0)

    def Export(self, request, context):  # noqa: N802, the name of the service's method
        self.received.put((dict(context.invocation_metadata()), request))
        return trace_service_pb2.ExportTraceServiceResponse()


class HttpCollector:
    protocol = "http/protobuf"

    def __enter__(self):
        received = self.received = queue.Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):  # noqa: N802, the name that the class asks for
                body = self.rfile.read(int(self.headers["content-length"]))
                request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
                received.put(({name.lower(): value for name, value in self.headers.items()}, request))
                answer = trace_service_pb2.ExportTraceServiceResponse().SerializeToString()
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Traced(Server):
    def __init__(self, collector):
        super().__init__({}, mirrors=1)
        self.collector = collector

    def more_config(self):
        return {"tracing": {
            "endpoint": f"http://127.0.0.1:{self.collector.port}",
            "protocol": self.collector.protocol,
            "headers": {"x-token": "secret"},
            "parents": "everyone",
            "service_name": "outside",
            "attributes": {"deployment.environment.name": "test"},
        }}


def whole_trace(kind):
    with kind() as collector, Traced(collector) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.plain, timeout=60)
        client.request("GET", "/", headers={"traceparent": PARENT})
        if client.getresponse().status != 200:
            return "the request failed"
        spans = {}
        while "GET site" not in spans or "guest" not in spans:
            head, message = collector.received.get(timeout=60)
            if head.get("x-token") != "secret":
                return f"the collector's header is missing: {head}"
            for of_resource in message.resource_spans:
                resource = {one.key: one.value.string_value for one in of_resource.resource.attributes}
                if resource != {"service.name": "outside", "deployment.environment.name": "test"}:
                    return f"the resource is {resource}"
                for of_scope in of_resource.scope_spans:
                    spans.update({span.name: span for span in of_scope.spans})
        request, guest = spans["GET site"], spans["guest"]
        if request.trace_id.hex() != PARENT[3:35] or request.parent_span_id.hex() != PARENT[36:52]:
            return f"the trace of the client is not continued: {request}"
        if guest.parent_span_id != request.span_id or request.kind != trace_pb2.Span.SPAN_KIND_SERVER:
            return f"the spans do not belong together: {request} {guest}"
        if not request.start_time_unix_nano <= guest.start_time_unix_nano <= request.end_time_unix_nano:
            return "the times do not belong together"
    return None


def checks(_server):
    yield "a whole trace over gRPC", lambda: whole_trace(GrpcCollector)
    yield "a whole trace over HTTP", lambda: whole_trace(HttpCollector)
