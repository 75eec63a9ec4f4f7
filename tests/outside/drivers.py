"""Clients that npm has for databases, mail and Bitcoin, unchanged and bundled with esbuild, each in a site in a container.
They speak to real servers on loopback, in plain and in TLS, over `connect()` and the modules of Node that sites have.
`mongodb` speaks to a server of its protocol from PyPI, by a connection and by a grant, `openpgp` writes to a grant and reads
what it writes, and `@mempool/electrum-client` speaks to a server in this file. Calls of the modules, and what the console
prints, are also compared with those of Node itself."""

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from server import HERE, NODE_20, Server, free_port

PASSWORD = "topsecret"
QUICK = ["pg", "redis", "files"]
ALL = ["pg", "postgres", "mysql2", "ioredis", "redis", "nodemailer", "mongodb", "mongodb-door", "openpgp", "electrum",
       "modules", "files"]
# Who runs the servers that do not run as root.
USERS = {"postgres": "postgres", "mariadb": "mysql"}

EXPECTED = {
    "pg": {
        "plain": [42, "h\u00e9", True, 5000, "42P01"],
        "tls": [42, "h\u00e9", True, 5000, "42P01"],
        "pool": [1, 2, 3, 4, 5],
    },
    "postgres": {"plain": [[1, 2, 3], 3, "42P01"], "tls": [[1, 2, 3], 3, "42P01"]},
    "mysql2": {"plain": [42, "h\u00e9", 3000, "ER_NO_SUCH_TABLE"], "tls": [42, "h\u00e9", 3000, "ER_NO_SUCH_TABLE"]},
    "ioredis": {"plain": [[100000, 1], "hello"], "tls": [[100000, 1], "hello"]},
    "redis": {"plain": ["1", [2, "2"]], "tls": ["1", [2, "2"]]},
    "nodemailer": {"starttls": ["b@example.com"], "tls": ["b@example.com"]},
    "mongodb": [[4, 3], 10],
    "mongodb-door": [[249, 248], 250, 10, 1, 31125, 10, ["things"], ["Unauthorized"] * 5],
    "openpgp": {version: ["h\u00e9llo", "h\u00e9llo", True, True, "h\u00e9llo"] for version in ("v4", "v6")},
    "files": {
        "fs-extra": [{"a": 1}, ["a", "e"], False],
        "graceful-fs": 20,
        "write-file-atomic": ["two", ["w"]],
        "papaparse": [5000, 12497500],
    },
    "electrum": {"plain": {"count": 2, "hex": "00" * 160, "max": 2016}, "tls": {"count": 2, "hex": "00" * 160, "max": 2016}},
}


class Rig:
    """The servers, in a folder of their own."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        folder.mkdir(mode=0o755)
        made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        for command in (
            [*made, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=rig"],
            [*made, "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost", "-CA", "ca.pem", "-CAkey", "ca.key",
             "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"],
        ):
            subprocess.run(command, check=True, capture_output=True, cwd=folder)

    def start(self, *command, user=None, **more):
        if user is not None and os.geteuid() == 0:
            command = ("runuser", "-u", user, "--", *command)
        log = open(self.folder / "servers.txt", "ab")
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **more)
        self.processes.append(process)

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def own(self, name, user):
        """A folder, or a copy of the key, that belongs to the user of a server."""
        path = self.folder / name
        if name.endswith(".pem"):
            shutil.copy(self.folder / "key.pem", path)
            path.chmod(0o600)
        else:
            path.mkdir()
        if os.geteuid() == 0:
            shutil.chown(path, user)
        return path

    def tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "cert.pem", self.folder / "key.pem")
        return context

    def postgres(self):
        port, user = free_port(), USERS["postgres"]
        binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        data, key = self.own("postgres", user), self.own("postgres.pem", user)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        made = [binaries / "initdb", "-D", data / "data", "-U", "app", f"--pwfile={password}", "-A", "scram-sha-256",
                "-E", "UTF8", "--no-sync"]
        if os.geteuid() == 0:
            made = ["runuser", "-u", user, "--", *made]
        subprocess.run(made, check=True, capture_output=True, cwd=self.folder)
        self.start(binaries / "postgres", "-D", data / "data", "-p", str(port), "-h", "127.0.0.1", "-k", data,
                   "-c", "ssl=on", "-c", f"ssl_cert_file={self.folder}/cert.pem", "-c", f"ssl_key_file={key}", user=user)
        return {"port": port}

    def mariadb(self):
        port, user = free_port(), USERS["mariadb"]
        data, key = self.own("mariadb", user), self.own("mariadb.pem", user)
        who = [f"--user={user}"] if os.geteuid() == 0 else []
        subprocess.run(["mariadb-install-db", "--no-defaults", *who, f"--datadir={data}/data", "--skip-test-db",
                        "--auth-root-authentication-method=normal"], check=True, capture_output=True, cwd=self.folder)
        setup = self.folder / "mariadb.sql"
        setup.write_text(f"create database app;\ncreate user app@'%' identified by '{PASSWORD}';\n"
                         "grant all on app.* to app@'%';\ndrop user if exists ''@'localhost';\nflush privileges;\n")
        setup.chmod(0o644)
        self.start("mariadbd", "--no-defaults", *who, f"--datadir={data}/data", f"--port={port}",
                   "--bind-address=127.0.0.1", f"--socket={data}/socket", f"--init-file={setup}",
                   f"--ssl-cert={self.folder}/cert.pem", f"--ssl-key={key}")
        return {"port": port}

    def redis(self):
        port, tls = free_port(), free_port()
        self.start("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", "",
                   "--tls-port", str(tls), "--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem",
                   "--tls-ca-cert-file", "cert.pem", "--tls-auth-clients", "no")
        return {"port": port, "tlsPort": tls}

    def smtp(self):
        from aiosmtpd.controller import Controller
        from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

        class Accepting:
            async def handle_DATA(self, server, session, envelope):
                return "250 OK"

        def check(server, session, envelope, mechanism, data):
            return AuthResult(success=isinstance(data, LoginPassword) and data.password == PASSWORD.encode())

        context = self.tls()

        class Starting(Controller):
            def factory(self):
                return SMTP(Accepting(), authenticator=check, auth_required=True, tls_context=context, require_starttls=True)

        class AtOnce(Controller):
            def factory(self):
                return SMTP(Accepting(), authenticator=check, auth_required=True, auth_require_tls=False)

        port, tls = free_port(), free_port()
        Starting(Accepting(), hostname="127.0.0.1", port=port).start()
        AtOnce(Accepting(), hostname="127.0.0.1", port=tls, ssl_context=context).start()
        return {"port": port, "tlsPort": tls}

    def mongodb(self):
        port = free_port()
        self.start(Path(sys.executable).parent / "nx-27017", "--host", "127.0.0.1", "-p", str(port), "--db", "memory")
        return {"port": port}

    def electrum(self):
        """Answers two methods, as lines of JSON."""
        port, tls = free_port(), free_port()
        answers = {
            "server.version": ["test 1", "1.4"],
            "blockchain.block.headers": {"count": 2, "hex": "00" * 160, "max": 2016},
        }

        async def serve(reader, writer):
            while line := await reader.readline():
                asked = json.loads(line)
                answer = {"jsonrpc": "2.0", "id": asked["id"], "result": answers.get(asked["method"])}
                writer.write((json.dumps(answer) + "\n").encode())
                await writer.drain()
            writer.close()

        async def forever():
            plain = await asyncio.start_server(serve, "127.0.0.1", port)
            secure = await asyncio.start_server(serve, "127.0.0.1", tls, ssl=self.tls())
            await asyncio.gather(plain.serve_forever(), secure.serve_forever())

        threading.Thread(target=lambda: asyncio.run(forever()), daemon=True).start()
        return {"port": port, "tlsPort": tls}


SERVERS = {
    "pg": Rig.postgres, "postgres": Rig.postgres, "mysql2": Rig.mariadb, "ioredis": Rig.redis, "redis": Rig.redis,
    "nodemailer": Rig.smtp, "mongodb": Rig.mongodb, "mongodb-door": Rig.mongodb,
    "electrum": Rig.electrum,
}


def grants(rig, folder, name, ports):
    """What the site of a client is granted in addition to connections."""
    if name == "files":
        return {"OUT": {"files": {"path": str(folder / "out"), "mode": "write"}}}
    if name == "openpgp":
        key = HERE.parent.parent / "examples/grants/pgp/key.asc"
        return {"PGP": {"pgp": {"secret": {"file": str(key)}, "usages": ["sign", "decrypt", "encrypt", "verify"]}}}
    if name == "mongodb-door":
        url = rig / "mongo.txt"
        url.write_text(f"mongodb://127.0.0.1:{ports['port']}/shop")
        # The server has no logins.
        return {"DB": {"mongo": {"url": {"file": str(url)}, "allow_superuser": True}}}
    return {}


def server(quick):
    names = QUICK if quick else ALL

    class Drivers(Server):
        """A site for each client, and the servers."""

        def more_instances(self):
            self.folder.chmod(0o755)
            self.rig = Rig(self.folder / "rig")
            self.names, self.ports, started = names, {}, {}
            for name in names:
                start = SERVERS.get(name, lambda _: {"port": free_port()})
                if start not in started:
                    started[start] = start(self.rig)
                self.ports[name] = started[start]
            tools = Path(os.environ["STOCKADE_OUTSIDE_TOOLS"]) / "drivers"
            subprocess.run(["node", tools / "bundle.mjs", self.folder / "sites", *names], check=True)
            (self.folder / "out").mkdir()
            return {
                name: {
                    "code": str(self.folder / "sites" / name / "index.js"),
                    "urls": [f"/{name}"],
                    "isolation": "container",
                    "limits": {"timeout": "30s", "cpu": "10s"},
                    "grants": grants(self.rig.folder, self.folder, name, self.ports[name]),
                    "sockets": {
                        "connect": [{
                            "hosts": ["localhost"], "ports": sorted(self.ports[name].values()), "tls": "allowed",
                            "ca": [str(self.rig.folder / "ca.pem")],
                        }],
                        "allow_private": ["127.0.0.1", "::1"],
                    },
                }
                for name in names
            }

        def __exit__(self, *arguments):
            self.rig.stop()
            super().__exit__(*arguments)

    return Drivers


def ask(server, name):
    """What the site of a client answers; asked until its server has started."""
    query = "&".join(f"{key}={value}" for key, value in server.ports[name].items())
    until = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.plain}/{name}?host=localhost&{query}", timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            starting = "connection refused" in text or "57P03" in text
            if not starting or time.monotonic() > until:
                return text[:500]
            time.sleep(0.2)


def compare(server):
    """Whether calls of Node's modules give in a site what they give in Node."""
    tools = Path(os.environ["STOCKADE_OUTSIDE_TOOLS"]) / "drivers"
    script = f"import({json.dumps(str(tools / 'modules.mjs'))}).then((m) => m.default()).then((r) => console.log(JSON.stringify(r)))"
    shutil.copy(tools / "modules.js", tools / "modules.mjs")
    expected = json.loads(subprocess.run(["node", "-e", script], env=NODE_20, check=True, capture_output=True, text=True).stdout)
    found = ask(server, "modules")
    if not isinstance(found, dict):
        return found
    wrong = {name: (found.get(name), value) for name, value in expected.items() if found.get(name) != value}
    return f"in the site and in Node: {wrong}" if wrong else (None, f"{len(expected)} calls")


def console():
    """Whether what the specs of the console expect is what Node 20 prints. The format changes with its main version."""
    script = HERE.parent.parent / "scripts" / "console-of-node.mjs"
    done = subprocess.run(["node", script, "--check"], env=NODE_20, capture_output=True, text=True)
    return (None, done.stdout.strip()) if done.returncode == 0 else done.stderr.strip()


def checks(server):
    yield "the console's expected texts are what Node prints", console
    for name in server.names:
        if name == "modules":
            yield "modules of Node give what Node gives", lambda: compare(server)
            continue

        def check(name=name):
            found = ask(server, name)
            return None if found == EXPECTED[name] else f"{found} and not {EXPECTED[name]}"
        yield f"{name} asks its server", check
