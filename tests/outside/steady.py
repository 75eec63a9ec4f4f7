"""Clients that send requests all the time, half of them on connections that are kept, and note each that gets no answer.

    python3 steady.py PORT FILE        until SIGTERM; then what they saw is in FILE, as JSON
"""

import http.client
import json
import signal
import sys
import threading
import time


class Clients:
    """Threads that send requests until they are stopped. They leave the machine these seconds after each."""

    def __init__(self, port, pause=0.0):
        self.port, self.pause, self.stopped = port, pause, threading.Event()
        self.answers, self.lost, self.again, self.longest = 0, [], 0, 0.0
        self.lock = threading.Lock()
        ways = [self.new_connection] * 4 + [self.kept_alive] * 4
        self.threads = [threading.Thread(target=way) for way in ways]
        for thread in self.threads:
            thread.start()

    def note(self, begun, problem=None, again=False):
        with self.lock:
            self.answers += problem is None and not again
            self.again += again
            self.longest = max(self.longest, time.monotonic() - begun)
            if problem:
                self.lost.append(problem)
        self.stopped.wait(self.pause)

    def new_connection(self):
        while not self.stopped.is_set():
            begun, problem = time.monotonic(), None
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.request("GET", "/")
                answer = connection.getresponse()
                if answer.status != 200 or answer.read() != b"hello\n":
                    problem = f"a new connection got {answer.status}"
                connection.close()
            except OSError as error:
                problem = f"a new connection: {error!r}"
            except http.client.HTTPException as error:
                problem = f"a new connection: {error!r}"
            self.note(begun, problem)

    def kept_alive(self):
        connection, used = None, 0
        while not self.stopped.is_set():
            begun, problem, again = time.monotonic(), None, False
            try:
                if connection is None:
                    connection, used = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60), 0
                connection.request("GET", "/")
                answer = connection.getresponse()
                if answer.status != 200 or answer.read() != b"hello\n":
                    problem = f"a kept connection got {answer.status}"
                used += 1
                if answer.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                # The server may close a connection that has no request; a request that crosses that has not been read, and
                # is sent again, as RFC 9112, section 9.3.1, says and browsers do.
                again = used > 0 and isinstance(error, (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected))
                problem = None if again else f"a kept connection after {used} requests: {error!r}"
                connection.close()
                connection = None
            self.note(begun, problem, again)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def main():
    port, path = int(sys.argv[1]), sys.argv[2]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    # On two slow processors, others want to run too.
    clients = Clients(port, pause=0.2)
    signal.sigwait({signal.SIGTERM})
    clients.stop()
    with open(path, "w") as file:
        json.dump({"answers": clients.answers, "lost": len(clients.lost), "examples": clients.lost[:3], "again": clients.again,
                   "longest": round(clients.longest, 1)}, file)


if __name__ == "__main__":
    main()
