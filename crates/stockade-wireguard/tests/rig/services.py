# Servers inside the private network of the tests: echo over TCP and UDP (7), a source of bytes (9), HTTP (80).
# Prints a line when all of them listen.
import socket, socketserver, sys, threading, http.server

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)

class EchoDatagram(socketserver.BaseRequestHandler):
    def handle(self):
        data, socket = self.request
        socket.sendto(data, self.client_address)

class Source(socketserver.BaseRequestHandler):
    # Reads a number in eight bytes, and sends as many bytes.
    def handle(self):
        left, block = int.from_bytes(self.request.recv(8), "big"), bytes(1 << 20)
        while left > 0:
            self.request.sendall(block[: min(left, len(block))])
            left -= len(block)

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{self.headers['Host']}{self.path} for {self.client_address[0]}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass

def serve(kind, handler, port):
    class Server(kind):
        address_family, allow_reuse_address, daemon_threads = socket.AF_INET6, True, True
        def server_bind(self):
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()
    server = Server(("::", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

serve(socketserver.ThreadingTCPServer, Echo, 7)
serve(socketserver.ThreadingUDPServer, EchoDatagram, 7)
serve(socketserver.ThreadingTCPServer, Source, 9)
serve(http.server.ThreadingHTTPServer, Page, 80)
print("ready", flush=True)
sys.stdin.read()
