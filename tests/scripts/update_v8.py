"""The update of V8 on a small repository: versions move together, and a failure leaves every file as it was."""

import contextlib
import importlib.util
import io
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
spec = importlib.util.spec_from_file_location("update_v8", ROOT / "scripts/update-v8.py")
update_v8 = importlib.util.module_from_spec(spec)
spec.loader.exec_module(update_v8)


class Update(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="stockade-update-v8.")
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for name in update_v8.WRITTEN:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes((ROOT / name).read_bytes())
        self.git("init", "-q")
        self.git("add", ".")
        self.git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "a")
        self.log = self.root / "log"

    def git(self, *arguments):
        return subprocess.run(["git", *arguments], cwd=self.root, check=True, capture_output=True, text=True).stdout

    def changed(self):
        return self.git("diff", "--name-only").split()

    def update(self, steps):
        def resolve(root, versions, log):
            source = (root / update_v8.VERSIONS).read_text()
            (root / update_v8.VERSIONS).write_text(update_v8.state_release(source, "999.0.0", "2030-01-02"))

        with contextlib.redirect_stderr(io.StringIO()):
            update_v8.update(self.root, {"deno_core": "999.0.0", "deno_fs": "999.1.0"}, self.log, steps, resolve)

    def test_the_pinned_versions_are_those_of_the_manifest(self):
        pinned = update_v8.pinned((ROOT / "Cargo.toml").read_text())
        lock = (ROOT / "Cargo.lock").read_text()
        self.assertGreater(len(pinned), 10)
        for name, version in pinned.items():
            self.assertEqual(update_v8.locked(lock, name), [version], name)

    def test_versions_move_and_nothing_else(self):
        self.update([["true"]])
        self.assertEqual(self.changed(), ["Cargo.toml", update_v8.VERSIONS])
        manifest = (self.root / "Cargo.toml").read_text()
        pinned = update_v8.pinned(manifest)
        self.assertEqual((pinned["deno_core"], pinned["deno_fs"]), ("999.0.0", "999.1.0"))
        self.assertIn('features = ["sync_fs"]', manifest)
        self.assertIn('("999.0.0", "2030-01-02")', (self.root / update_v8.VERSIONS).read_text())

    def test_a_failed_suite_leaves_everything_as_it_was(self):
        with self.assertRaisesRegex(update_v8.Problem, r"(?s)sh -c echo reason; exit 4 failed \(exit status 4\).*reason"):
            self.update([["true"], ["sh", "-c", "echo reason; exit 4"]])
        self.assertEqual(self.changed(), [])

    def test_changes_that_are_not_committed_are_not_written_over(self):
        with (self.root / "Cargo.toml").open("a") as manifest:
            manifest.write("# mine\n")
        with self.assertRaisesRegex(update_v8.Problem, "Cargo.toml"):
            self.update([["true"]])
        self.assertIn("# mine", (self.root / "Cargo.toml").read_text())

    def test_versions_are_ordered_by_number(self):
        self.assertGreater(update_v8.key("0.413.0"), update_v8.key("0.99.10"))


if __name__ == "__main__":
    unittest.main()
