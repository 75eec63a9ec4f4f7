"""`schemathesis`: requests that fit the OpenAPI document of the admin API, and requests that do not, to every route. No answer
may be a failure of the server, and each must be one that the document describes. A key is needed, and guessing one is slow."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from server import Server, free_port


class AdminServer(Server):
    """With the listener of the admin API, an audit log, and a key."""

    examples = 30

    def more_config(self):
        self.admin = free_port()
        return {
            "admin": {"listen": f"127.0.0.1:{self.admin}"},
            "audit": {"folder": str(self.folder / "audit")},
            "deployments": {"folder": str(self.folder / "deployments")},
            "watch": False,
        }

    def key(self, scope):
        made = subprocess.run([self.binary, "keys", "create", "outside", "--scope", scope], cwd=self.folder,
                              capture_output=True, text=True, check=True)
        return made.stdout.strip()

    def get(self, path, key=None):
        headers = {"authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def server(quick):
    AdminServer.examples = 10 if quick else 100
    return AdminServer


def checks(server):
    key = server.key("admin")
    ends_keys = "/(rotate|revoke)$"
    # Streams go on until the client leaves, and a profile takes its time: tests of the server have them.
    lasts = "^/v1/(logs|events)$|/profile$"

    def document():
        status, text = server.get("/v1/openapi.json")
        if status != 200 or json.loads(text)["openapi"] != "3.1.0":
            return f"{status}: {text[:100]}"

    # RFC 6585, section 3, has a status of its own for a precondition that is missing.
    (server.folder / "schemathesis.toml").write_text(
        "[checks.missing_required_header]\nexpected-statuses = [400, 401, 403, 406, 415, 422, 428]\n")

    def fuzz(key, *which):
        tool = Path(sys.executable).with_name("schemathesis")
        done = subprocess.run(
            [str(tool), "run", f"http://127.0.0.1:{server.admin}/v1/openapi.json", "--header", f"Authorization: Bearer {key}",
             # Wrong keys make the address wait; the last check tries that by itself.
             "--checks", "all", "--exclude-checks", "ignored_auth,positive_data_acceptance",
             "--phases", "examples,coverage,fuzzing", "--max-examples", str(server.examples), "--generation-deterministic",
             "--suppress-health-check", "all", "--request-timeout", "30", "--no-color", *which],
            capture_output=True, text=True, timeout=1500, cwd=server.folder, env={**os.environ, "COLUMNS": "160"},
        )
        (server.folder / "schemathesis.txt").write_text(done.stdout + done.stderr)
        if done.returncode:
            return done.stdout[-3000:] + done.stderr[-500:]
        last = [line for line in done.stdout.splitlines() if line.strip()]
        return None, next((line.strip() for line in reversed(last) if "generated" in line), "no failure")

    def alive():
        status, text = server.get("/v1/status", server.key("admin"))
        if status != 200 or json.loads(text)["state"] != "serving":
            return f"{status}: {text[:200]}"

    def guessing():
        for _ in range(200):
            status, _ = server.get("/v1/status", "sk_stockade_" + "a" * 49)
            if status == 429:
                return None
            if status != 401:
                return f"a wrong key was answered with {status}"
        return "200 wrong keys, and no 429"

    return [
        ("the document is OpenAPI 3.1", document),
        ("no request makes a route fail, and each answer is as documented",
         lambda: fuzz(key, "--exclude-path-regex", f"{ends_keys}|{lasts}")),
        # By themselves, since they find the key that they use.
        ("no request makes the routes fail that end keys", lambda: fuzz(server.key("admin"), "--include-path-regex", ends_keys)),
        ("the server serves after that", alive),
        ("guessing keys is slow", guessing),
    ]
